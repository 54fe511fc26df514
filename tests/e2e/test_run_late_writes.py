"""The daemon as a process, and updates that are applied late, checked against the server's log."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from allocsync.reference_server.sample import sample_clouds
from tests.support.processes import command, daemon, declare, eventually
from tests.support.reference_process import serving

CLOUDS = sample_clouds(1, 24)
KEY = str(CLOUDS[0]["id"])
SETTLE_SECONDS = 5.0
LATE_SECONDS = 8.0  # the update is judged not applied after 5
RETRY_AFTER_SECONDS = 4  # so that the next read, after 9 s or more, comes after the late application
LOST = {"update": {"timeout_late": 1, "late_seconds": LATE_SECONDS}}


async def history(environ: dict[str, str]) -> list[dict[str, Any]]:
    """Return the updates in the journal with all outcomes of each."""
    code, text, stderr = await command("history", "--json", environ=environ)
    assert code == 0, stderr
    return [json.loads(line) for line in text.splitlines()]


def outcomes(row: dict[str, Any]) -> list[str]:
    return [ending["outcome"] for ending in row["endings"]]


def timestamp(row: dict[str, Any]) -> float:
    return datetime.fromisoformat(row["ts"]).astimezone(UTC).timestamp()


async def test_a_late_application_is_logged_as_late_applied_and_the_update_is_not_sent_again(
    tmp_path: Path,
) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="mars")
    environ = {"ALLOCSYNC_STATE_DIR": str(tmp_path / "state"), "ALLOCSYNC_SETTLE_SECONDS": "5"}
    async with (
        serving(tmp_path, CLOUDS, LOST) as server,
        daemon(server.url, file, tmp_path / "log", environ=environ) as running,
    ):
        await eventually(lambda: running.events("update_outcome_unknown"))
        await server.set_faults({"update": {"423": 1, "retry_after": RETRY_AFTER_SECONDS}})
        (late,) = await eventually(lambda: running.events("update_late_applied"), 30)
        await running.in_sync(1)
        assert await server.fault_count("update.timeout_late") == 1

        first, again = server.updates()
        assert (first["answer"], again["answer"]) == (504, 423)
        assert first["applied_at"] >= first["answered_at"] + LATE_SECONDS
        assert again["applied_at"] is None
        assert again["received_at"] >= first["answered_at"] + SETTLE_SECONDS
        assert again["answered_at"] < first["applied_at"] < timestamp(late)
        assert (await server.cloud(KEY))["region"] == "mars"

        assert (late["level"], late["allocation"], late["fields"]) == ("warning", KEY, ["region"])
        assert late["waited_seconds"] >= LATE_SECONDS
        series = 'allocsync_outcomes_settled_total{outcome="late_applied"}'
        assert await running.metric(series) == 1
        assert await running.metric("allocsync_settle_seconds") >= 2 * LATE_SECONDS, "it has learned"
        recorded, refused = await history(environ)
        assert outcomes(recorded) == ["not_applied", "late_applied"]
        assert recorded["outcome"] == "late_applied"
        assert outcomes(refused) == ["rejected"]
        assert not running.events("stale_overwrite")


async def test_a_late_application_that_overwrites_a_foreign_change_is_logged_and_not_repaired(
    tmp_path: Path,
) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="mars")
    environ = {
        "ALLOCSYNC_STATE_DIR": str(tmp_path / "state"),
        "ALLOCSYNC_SETTLE_SECONDS": "5",
        "ALLOCSYNC_RESYNC_SECONDS": "1",
    }
    before = CLOUDS[0]["version"]
    async with (
        serving(tmp_path, CLOUDS, LOST) as server,
        daemon(server.url, file, tmp_path / "log", environ=environ) as running,
    ):
        await eventually(lambda: running.events("update_outcome_unknown"))
        await server.set_faults({})
        await server.change(KEY, version="theirs")
        (event,) = await eventually(lambda: running.events("stale_overwrite"), 30)
        await server.wait_for_lists(2)
        assert await server.fault_count("update.timeout_late") == 1

        first, again = server.updates()
        (foreign,) = [row for row in server.records("update") if row["body_sha256"] in server.foreign]
        assert first["answered_at"] < foreign["applied_at"] < again["received_at"]
        assert again["received_at"] >= first["answered_at"] + SETTLE_SECONDS
        assert (again["answer"], again["body"]["version"]) == (200, "theirs")
        assert first["applied_at"] > again["applied_at"]
        assert first["changed"]["version"] == ["theirs", before], "it took the change back"
        assert (await server.cloud(KEY))["version"] == before, "and nobody repaired it"

        assert (event["level"], event["allocation"]) == ("error", KEY)
        series = 'allocsync_outcomes_settled_total{outcome="stale_overwrite"}'
        assert await running.metric(series) == 1
        recorded, repeated = await history(environ)
        assert outcomes(recorded) == ["not_applied", "stale_overwrite"]
        assert outcomes(repeated) == ["applied"]
        await running.in_sync(1)
