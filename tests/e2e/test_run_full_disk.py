"""The daemon as a process on a file system that becomes full, checked against the log and the journal."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import ANY

from allocsync.reference_server.sample import sample_clouds
from tests.support.processes import Daemon, command, daemon, declare, eventually
from tests.support.reference_process import Serving, serving
from tests.support.small_disk import SmallDisk, small_disk

CLOUDS = sample_clouds(12, 41)  # as many as the change limit needs
FIRST, SECOND = (str(cloud["id"]) for cloud in CLOUDS[:2])
MORE = ("--resync-seconds", "1")


@asynccontextmanager
async def on_a_small_disk(
    tmp_path: Path, settings: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[tuple[Serving, Daemon, SmallDisk, dict[str, str]]]:
    """Start a server and a daemon on a small disk, with all in sync; yields its environment, too."""
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="mars")
    disk = await small_disk(tmp_path / "state")
    environ = {"ALLOCSYNC_STATE_DIR": str(disk.directory), **settings}
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


@asynccontextmanager
async def kept_mounted(disk: SmallDisk, pid: int) -> AsyncIterator[int]:
    """Keep the small disk of this process while the context lasts, even if the process ends.

    Yields the id of another process that sees it.
    """
    holder = await asyncio.create_subprocess_exec(*disk.follow(pid), "sleep", "300")
    try:
        await eventually(Path(f"/proc/{holder.pid}/root{disk.directory}/journal.db").exists)
        yield holder.pid
    finally:
        holder.kill()
        await holder.wait()


async def kill(running: Daemon) -> None:
    """End the daemon as kill -9 does."""
    running.process.send_signal(signal.SIGKILL)
    await running.process.wait()


def not_stored(restart: str) -> str:
    """Return the end of what a command prints whose effect a full disk does not store."""
    return (
        "; in force, but not stored: the journal cannot be written (database or disk is full), and "
        f"{restart}. Make room on the disk of the state directory, or make it writable again: then it is "
        "stored by itself\n"
    )


async def explained(running: Daemon, key: str) -> dict[str, Any]:
    """Return what the daemon knows of an allocation, as soon as it has read the files."""
    async with asyncio.timeout(20):
        while (answer := await running.get(f"/api/v1/allocations/{key}"))[0] == 404:
            await asyncio.sleep(0.05)
    found = json.loads(answer[1])
    assert isinstance(found, dict)
    return found


async def no_update_though_one_is_due(server: Serving, running: Daemon, sent: int) -> None:
    """Wait until the daemon has read FIRST and names the pause, and check that it sent no update."""
    async with asyncio.timeout(20):
        while not (found := await explained(running, FIRST))["reason"].startswith(
            "differs in region; paused until "
        ):
            await asyncio.sleep(0.05)
    assert (found["condition"], found["paused"]["owner"]) == ("Pending", "mark")
    await server.wait_for_lists(2)
    assert len(server.updates()) == sent


async def test_a_pause_that_a_full_disk_does_not_store_is_in_force_and_is_stored_when_there_is_room(
    tmp_path: Path,
) -> None:
    async with (
        on_a_small_disk(tmp_path) as (server, running, disk, environ),
        kept_mounted(disk, running.process.pid) as holder,
    ):
        within, sent, url = disk.follow(holder), len(server.updates()), ("--url", running.url)
        ballast = disk.fill(holder)
        await server.change(FIRST, region="drift")
        await wait_until_held(running, FIRST)  # so an update is due, and was tried

        options = ("--for", "2h", "--reason", "an incident", "--owner", "mark")
        code, text, stderr = await command("pause", "--all", *options, *url, environ=environ, within=within)
        assert (code, text) == (1, "")
        assert stderr.startswith("allocsync: everything is paused until ")
        assert stderr.endswith("(in 120 min)" + not_stored("a restart forgets the pause"))
        assert stderr.count("\n") == 1
        found = await explained(running, FIRST)
        assert (found["paused"]["owner"], found["paused"]["reason"]) == ("mark", "an incident")
        pause = ("pause", SECOND, *options, "--json", *url)
        code, text, _ = await command(*pause, environ=environ, within=within)
        answer = json.loads(text)
        assert (code, answer["id"], answer["stored"]) == (1, SECOND, False)

        ballast.unlink()
        await eventually(lambda: running.events("journal_available"))
        await no_update_though_one_is_due(server, running, sent)
        await kill(running)
        async with daemon(
            *(server.url, tmp_path / "desired.yaml", tmp_path / "again", *MORE),
            environ=environ,
            within=within,
        ) as again:
            await no_update_though_one_is_due(server, again, sent)
            for target in (SECOND, "--all"):
                resume = ("resume", target, "--url", again.url)
                code, _, stderr = await command(*resume, environ=environ, within=within)
                assert (code, stderr) == (0, ""), "it was paused"
            await again.in_sync(len(CLOUDS))
        assert [row["id"] for row in server.updates()[sent:]] == [FIRST]


async def test_a_resume_or_retry_that_a_full_disk_does_not_store_says_what_a_restart_does(
    tmp_path: Path,
) -> None:
    async with (
        on_a_small_disk(tmp_path) as (server, running, disk, environ),
        kept_mounted(disk, running.process.pid) as holder,
    ):
        within, url = disk.follow(holder), ("--url", running.url)
        pause = ("pause", FIRST, "--for", "1h", "--reason", "r", "--owner", "mark", *url)
        assert await command(*pause, environ=environ, within=within) == (0, ANY, "")
        ballast = disk.fill(holder)
        cases = (
            (
                ("resume", FIRST),
                f"updates of {FIRST} are resumed",
                "after a restart the pause is in force again",
            ),
            (
                ("retry", FIRST[:8], SECOND),
                f"retrying {FIRST} now; retrying {SECOND} now",
                "a restart brings back the waits that it has ended",
            ),
        )
        for words, what, restart in cases:
            code, text, stderr = await command(*words, *url, environ=environ, within=within)
            assert (code, text, stderr) == (1, "", f"allocsync: {what}{not_stored(restart)}")
        found = await explained(running, FIRST)
        assert found["paused"] is None, "the resume is in force"
        await kill(running)
        ballast.unlink()
        async with daemon(
            server.url, tmp_path / "desired.yaml", tmp_path / "again", environ=environ, within=within
        ) as again:
            found = await explained(again, FIRST)
            assert found["paused"]["owner"] == "mark", "as the command said of a restart"


async def test_an_approval_that_a_full_disk_does_not_store_is_in_force_until_a_restart(
    tmp_path: Path,
) -> None:
    limit = {"ALLOCSYNC_MAX_CHANGES_PERCENT": "1"}
    async with (
        on_a_small_disk(tmp_path, limit) as (server, running, disk, environ),
        kept_mounted(disk, running.process.pid) as holder,
    ):
        within, file, sent = disk.follow(holder), tmp_path / "desired.yaml", len(server.updates())
        declare(file, CLOUDS, region="venus")
        (held,) = await eventually(lambda: running.events("revision_awaiting_approval"))
        ballast = disk.fill(holder)
        approve = ("approve", held["revision"], "--url")
        code, text, stderr = await command(*approve, running.url, environ=environ, within=within)
        assert (code, text) == (1, "")
        assert stderr == (
            f"allocsync: revision {held['revision']} is approved: {len(CLOUDS)} allocations may change now"
            + not_stored("after a restart the revision awaits approval again")
        )
        status = json.loads((await running.get("/api/v1/status"))[1])
        assert status["revision"]["active"].startswith(held["revision"])
        assert status["awaiting_approval"] is None
        await kill(running)
        ballast.unlink()
        async with daemon(
            server.url, file, tmp_path / "again", *MORE, environ=environ, within=within
        ) as again:
            await eventually(lambda: again.events("revision_awaiting_approval"))
            await server.wait_for_lists(2)
            assert len(server.updates()) == sent, "it awaits approval again, as the command said"
            assert await command(*approve, again.url, environ=environ, within=within) == (0, ANY, "")
            await again.in_sync(len(CLOUDS))
