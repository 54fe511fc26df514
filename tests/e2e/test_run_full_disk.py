"""The daemon as a process on a file system that becomes full, checked against the log and the journal."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from allocsync.reference_server.sample import sample_clouds
from tests.support.processes import Daemon, command, daemon, declare, eventually
from tests.support.reference_process import Serving, serving
from tests.support.small_disk import SmallDisk, small_disk

CLOUDS = sample_clouds(4, 41)
FIRST, SECOND = (str(cloud["id"]) for cloud in CLOUDS[:2])
MORE = ("--resync-seconds", "1")


@asynccontextmanager
async def on_a_small_disk(
    tmp_path: Path,
) -> AsyncIterator[tuple[Serving, Daemon, SmallDisk, dict[str, str]]]:
    """Start a server and a daemon on a small disk, with all in sync; yields its environment, too."""
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="mars")
    disk = await small_disk(tmp_path / "state")
    environ = {"ALLOCSYNC_STATE_DIR": str(disk.directory)}
    async with (
        serving(tmp_path, CLOUDS, {}) as server,
        daemon(server.url, file, tmp_path / "log", *MORE, environ=environ, within=disk.within) as running,
    ):
        await running.in_sync(len(CLOUDS))
        yield server, running, disk, environ


async def wait_until_held(running: Daemon, *keys: str) -> str:
    """Wait until exactly these allocations are Blocked, and return the reason."""
    async with asyncio.timeout(30):
        while True:
            rows = json.loads((await running.get("/api/v1/status"))[1])["allocations"]
            reasons = {row["id"]: row["reason"] for row in rows if row["condition"] == "Blocked"}
            if reasons.keys() == set(keys):
                return str(reasons[keys[0]])
            await asyncio.sleep(0.05)


async def history(within: tuple[str, ...], environ: dict[str, str]) -> list[dict[str, Any]]:
    """Return the updates in the journal."""
    code, text, stderr = await command("history", "--json", environ=environ, within=within)
    assert (code, stderr) == (0, "")
    return [json.loads(line) for line in text.splitlines()]


async def verify_history(within: tuple[str, ...], environ: dict[str, str]) -> list[dict[str, Any]]:
    """Check the hash chain of the journal, and return its updates."""
    code, text, stderr = await command("history", "--verify", environ=environ, within=within)
    assert (code, stderr) == (0, "")
    assert "the hash chain is intact" in text
    return await history(within, environ)


async def test_on_a_full_disk_no_update_is_sent_until_there_is_room_again(tmp_path: Path) -> None:
    async with on_a_small_disk(tmp_path) as (server, running, disk, environ):
        sent = len(server.updates())
        assert sent == len(CLOUDS)
        ballast = disk.fill(running.process.pid)
        await server.change(FIRST, region="drift")

        reason = await wait_until_held(running, FIRST)
        assert reason.startswith("the journal cannot be written (database or disk is full)")
        (event,) = running.events("journal_unavailable")
        assert (event["level"], event["problem"]) == ("error", "database or disk is full")
        assert await running.metric("allocsync_journal_writable") == 0
        code, text = await running.get("/readyz")
        assert (code, "database or disk is full" in text) == (503, True)
        assert (await running.get("/livez"))[0] == 200
        await server.wait_for_lists(2)
        assert len(server.updates()) == sent
        assert (await server.cloud(FIRST))["region"] == "drift"

        ballast.unlink()
        await running.in_sync(len(CLOUDS))
        assert running.events("journal_available")
        assert await running.metric("allocsync_journal_writable") == 1
        assert (await running.get("/readyz"))[0] == 200
        repair = server.updates()[sent:]
        assert [(row["id"], row["changed"]["region"]) for row in repair] == [(FIRST, ["drift", "mars"])]
        rows = await verify_history(disk.follow(running.process.pid), environ)
        assert [row["outcome"] for row in rows] == ["applied"] * (sent + 1)
        assert rows[-1]["id"] == FIRST


async def test_an_outcome_that_a_full_disk_delays_is_written_before_the_next_update(
    tmp_path: Path,
) -> None:
    async with on_a_small_disk(tmp_path) as (server, running, disk, environ):
        sent = len(server.updates())
        await server.change(FIRST, region="drift")
        await server.set_faults({"update": {"latency_seconds": 3}})
        await server.wait_for_fault("update.latency_seconds")
        ballast = disk.fill(running.process.pid)
        assert len(server.updates()) == sent, "the update is in flight"
        await server.set_faults({})
        await eventually(lambda: len(server.updates()) == sent + 1)
        assert server.updates()[-1]["answer"] == 200
        await eventually(lambda: running.events("journal_unavailable"))
        within = disk.follow(running.process.pid)
        *_, left = await history(within, environ)
        assert (left["id"], left["outcome"]) == (FIRST, "unknown"), "its outcome waits"

        await server.change(SECOND, region="drift")
        await wait_until_held(running, SECOND)
        await server.wait_for_lists(2)
        assert len(server.updates()) == sent + 1

        ballast.unlink()
        await running.in_sync(len(CLOUDS))
        *_, first, second = await verify_history(within, environ)
        assert [(row["id"], row["outcome"]) for row in (first, second)] == [
            (FIRST, "applied"),
            (SECOND, "applied"),
        ]
        assert first["endings"][0]["at"] <= second["at"], "it was written first"
        assert [row["id"] for row in server.updates()[sent:]] == [FIRST, SECOND]
