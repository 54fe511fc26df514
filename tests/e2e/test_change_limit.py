"""The change limit in real processes, checked against the server's log."""

import asyncio
import json
from pathlib import Path

import pytest

from allocsync.model.cloud import Cloud
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.support.processes import Daemon, command, daemon, declare, eventually

CLOUDS = sample_clouds(12, 21)
CHANGE_LIMIT = {"ALLOCSYNC_MAX_CHANGES_PERCENT": ""}  # the default: 30


def declare_regions(file: Path, changed: int, clouds: list[Cloud] = CLOUDS, mode: str = "enforce") -> None:
    """Declare region b for the first `changed` allocations, and region a for the others."""
    rows = [f"  {cloud['id']}: {{region: {'b' if n < changed else 'a'}}}\n" for n, cloud in enumerate(clouds)]
    beside = file.with_name("." + file.name)
    beside.write_text(
        f"apiVersion: allocsync/v1\ndefaults: {{mode: {mode}}}\nallocations:\n{''.join(rows) or '  {}'}"
    )
    beside.replace(file)


async def wait_for_conditions(running: Daemon, **wanted: int) -> None:
    """Wait until the counts of the conditions are exactly these."""
    async with asyncio.timeout(30):
        while True:
            found: dict[str, int] = json.loads((await running.get("/api/v1/status"))[1])["conditions"]
            if {name: number for name, number in found.items() if number} == wanted:
                return
            await asyncio.sleep(0.05)


async def test_an_edit_above_the_change_limit_is_held_across_a_restart_until_it_is_reverted(
    tmp_path: Path,
) -> None:
    file = tmp_path / "desired.yaml"
    declare_regions(file, 0)
    environ = {
        **CHANGE_LIMIT,
        "ALLOCSYNC_STATE_DIR": str(tmp_path / "state"),
        "ALLOCSYNC_RESYNC_SECONDS": "1",
    }
    async with ReferenceServer.start(CLOUDS) as server:
        async with daemon(server.url, file, tmp_path / "first", environ=environ) as running:
            await running.in_sync(len(CLOUDS))
            assert await running.metric("allocsync_revision_awaiting_approval") == 0
            sent = len(server.records)
            declare_regions(file, 6)
            (event,) = await eventually(lambda: running.events("revision_awaiting_approval"))
            assert (event["changed"], event["added"], event["removed"], event["allocations"]) == (6, 0, 0, 12)
            assert event["level"] == "warning"
            assert await running.metric("allocsync_revision_awaiting_approval") == 1
            assert await running.metric("allocsync_revision_changed_allocations") == 6
            assert await running.metric("allocsync_revision_awaiting_approval_timestamp_seconds") > 0
        async with daemon(server.url, file, tmp_path / "second", environ=environ) as again:
            await eventually(lambda: again.events("revision_awaiting_approval"))
            await wait_for_conditions(again, InSync=6, AwaitingApproval=6)
            assert len(server.records) == sent
            server.set_field(str(CLOUDS[9]["id"]), "region", "drift")
            await eventually(lambda: len(server.records) > sent)
            assert [record["id"] for record in server.records[sent:]] == [CLOUDS[9]["id"]]
            code, text, _ = await command("status", "--url", again.url)
            assert code == 0
            assert (
                f"revision {event['revision']} awaits approval: it changes 6 of 12 allocations (50 %" in text
            )
            declare_regions(file, 0)
            await again.in_sync(len(CLOUDS))
            assert await again.metric("allocsync_revision_awaiting_approval") == 0
        assert len(server.records) == sent + 1


async def test_a_change_from_observe_to_enforce_for_all_is_held_whether_by_setting_or_file(
    tmp_path: Path,
) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="b")
    environ = {**CHANGE_LIMIT, "ALLOCSYNC_STATE_DIR": str(tmp_path / "state")}
    async with ReferenceServer.start(CLOUDS, log_all=True) as server:
        async with daemon(server.url, file, tmp_path / "a", "--mode", "observe", environ=environ) as running:
            await wait_for_conditions(running, Drifted=12)
        async with daemon(server.url, file, tmp_path / "b", environ=environ) as running:
            await eventually(lambda: running.events("revision_awaiting_approval"))
            await wait_for_conditions(running, AwaitingApproval=12)
        async with daemon(server.url, file, tmp_path / "c", "--mode", "observe", environ=environ) as running:
            await wait_for_conditions(running, Drifted=12)
            declare(file, CLOUDS, region="b", mode="enforce")
            await eventually(lambda: running.events("revision_awaiting_approval"))
            await wait_for_conditions(running, AwaitingApproval=12)
        assert {record["op"] for record in server.records} <= {"snapshot", "list"}


async def test_plan_says_that_the_revision_would_be_held_and_apply_needs_a_review(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare_regions(file, 0)
    environ = {**CHANGE_LIMIT, "ALLOCSYNC_STATE_DIR": str(tmp_path / "state")}
    async with ReferenceServer.start(CLOUDS) as server:
        where = ("--api-url", server.url, "--desired", str(file))
        assert (await command("apply", *where, environ=environ))[0] == 0, "a first start is not held"
        sent = len(server.records)
        declare_regions(file, 3)
        code, text, _ = await command("plan", *where, environ=environ)
        assert (code, "would wait" in text) == (0, False)
        declare_regions(file, 6)
        code, text, _ = await command("plan", *where, environ=environ)
        assert code == 0
        assert "The daemon would wait: revision " in text
        found = json.loads((await command("plan", *where, "--json", environ=environ))[1])
        assert found["awaiting_approval"].startswith("revision ")
        assert found["counts"]["update"] == 6
        code, text, stderr = await command("apply", *where, environ=environ)
        assert code == 1
        assert "6 in sync (0 updated), 6 awaiting approval" in text
        assert "it changes 6 of 12 allocations (50 %: 6 changed)" in stderr
        assert "allocsync apply --plan-id ID" in stderr
        assert "Traceback" not in stderr
        assert len(server.records) == sent
        code, text, _ = await command("apply", *where, "--plan-id", found["plan_id"], environ=environ)
        assert code == 0
        assert len(server.records) == sent + 6
        async with daemon(server.url, file, tmp_path / "log", environ=environ) as running:
            await running.in_sync(len(CLOUDS))
            assert not running.events("revision_awaiting_approval"), "the review was the approval"


@pytest.mark.parametrize("named", [1, 12])
async def test_an_apply_of_named_allocations_is_an_approval_of_these(tmp_path: Path, named: int) -> None:
    file = tmp_path / "desired.yaml"
    declare_regions(file, 0)
    environ = {**CHANGE_LIMIT, "ALLOCSYNC_STATE_DIR": str(tmp_path / "state")}
    async with ReferenceServer.start(CLOUDS) as server:
        where = ("--api-url", server.url, "--desired", str(file))
        await command("apply", *where, environ=environ)
        sent = len(server.records)
        declare_regions(file, 12)
        ids = [str(cloud["id"]) for cloud in CLOUDS[:named]]
        code, _, stderr = await command("apply", *where, *ids, environ=environ)
        assert (code, stderr) == (0, "")
        assert len(server.records) == sent + named
        found = json.loads((await command("plan", *where, "--json", environ=environ))[1])
        assert (found["awaiting_approval"] is None) == (named == 12)
        assert named == 12 or "it changes 11 of 12" in found["awaiting_approval"]


async def test_canaries_are_updated_first_also_across_a_crash_and_the_rest_once_they_are_in_sync(
    tmp_path: Path,
) -> None:
    file = tmp_path / "desired.yaml"
    declare_regions(file, 0)
    environ = {
        **CHANGE_LIMIT,
        "ALLOCSYNC_CANARY": "2",
        "ALLOCSYNC_SETTLE_SECONDS": "5",
        "ALLOCSYNC_STATE_DIR": str(tmp_path / "state"),
    }
    first = {str(id_) for id_ in sorted(str(cloud["id"]) for cloud in CLOUDS[:6])[:2]}
    async with ReferenceServer.start(CLOUDS) as server:
        where = ("--api-url", server.url, "--desired", str(file))
        async with daemon(server.url, file, tmp_path / "a", environ=environ) as running:
            await running.in_sync(len(CLOUDS))
            sent = len(server.records)
            server.set_faults({"update": {"timeout_before": 1, "timeout_seconds": 0.1}})
            declare_regions(file, 6)
            await wait_for_conditions(running, InSync=6, OutcomeUnknown=2, AwaitingApproval=4)
            text = (await command("status", "--url", running.url))[1]
            assert "each of these in sync (0 so far, 2 OutcomeUnknown); `allocsync approve " in text
            assert all(f"canary {id_}   not yet" in text for id_ in first)
            printed = json.loads((await command("status", "--json", "--url", running.url))[1])
            served = json.loads((await running.get("/api/v1/status"))[1])
            assert printed["awaiting_approval"] == served["awaiting_approval"]
            assert {each["id"] for each in served["awaiting_approval"]["canaries"]} == first
            text = (await command("explain", min(first), "--url", running.url))[1]
            assert "canary      it is updated first" in text
            running.process.kill()
            await running.process.wait()
        assert {record["id"] for record in server.records[sent:]} == first, "the fault fired"
        assert "ALLOCSYNC_CANARY updates 2 first" in (await command("plan", *where, environ=environ))[1]
        code, _, stderr = await command("apply", *where, "--deadline", "1", environ=environ)
        assert (code, "ALLOCSYNC_CANARY" in stderr) == (1, False)
        async with daemon(server.url, file, tmp_path / "b", environ=environ) as again:
            (event,) = await eventually(lambda: again.events("revision_awaiting_approval"))
            assert {record["id"] for record in server.records[sent:]} == first
            server.set_faults({})
            await again.in_sync(len(CLOUDS))
            (approved,) = again.events("revision_approved")
            assert (approved["by"], approved["changes"]) == ("canary", event["changed"])
            assert await again.metric("allocsync_revision_awaiting_approval") == 0
        ids = [str(record["id"]) for record in server.records[sent:]]
        rest = {str(cloud["id"]) for cloud in CLOUDS[:6]} - first
        assert {*ids[-4:]} == rest
        assert {*ids[:-4]} == first
