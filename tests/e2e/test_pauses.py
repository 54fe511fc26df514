"""`pause` and `resume` with a real daemon, also across a restart, checked against the log of the server."""

import asyncio
import json
import signal
from pathlib import Path

from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.support.processes import command, daemon, declare, eventually

CLOUDS = sample_clouds(6, 21)
FIRST, SECOND = (str(cloud["id"]) for cloud in CLOUDS[:2])


async def test_the_kill_switch_stops_all_updates_across_a_crash_until_resume(
    tmp_path: Path,
) -> None:
    file, state = tmp_path / "desired.yaml", tmp_path / "state"
    declare(file, CLOUDS, region="a")
    environ = {"ALLOCSYNC_STATE_DIR": str(state), "ALLOCSYNC_RESYNC_SECONDS": "1"}
    options = ("--for", "2h", "--reason", "a migration", "--owner", "mark")
    async with ReferenceServer.start(CLOUDS, log_all=True) as server:
        async with daemon(server.url, file, tmp_path / "first", environ=environ) as running:
            await running.in_sync(len(CLOUDS))
            code, text, stderr = await command(
                "pause", "--all", *options, "--url", running.url, environ=environ
            )
            assert (code, stderr) == (0, "")
            assert text.startswith("everything is paused until ")
            assert text.endswith("Z (in 120 min)\n")
            assert await running.metric('allocsync_pauses{scope="all"}') == 1
            assert await running.metric('allocsync_pauses{scope="one"}') == 0
            assert await running.metric('allocsync_pause_end_timestamp_seconds{scope="all"}') > 0
            sent = posts(server)
            declare(file, CLOUDS, region="b")
            await eventually(lambda: len(running.events("revision_activated")) == 2)
            await asyncio.sleep(1.5)
            code, text, _ = await command("status", "--url", running.url, environ=environ)
            assert "6 Pending" in text
            assert "by mark: a migration" in text
            running.process.send_signal(signal.SIGKILL)
            await running.process.wait()
        async with daemon(server.url, file, tmp_path / "second", environ=environ) as again:
            reads = len(server.records)
            await eventually(lambda: len(server.records) >= reads + 3)
            assert posts(server) == sent, "it was read and not updated"
            found = json.loads((await again.get(f"/api/v1/allocations/{FIRST}"))[1])
            assert found["paused"]["reason"]
            assert found["no_update_before"] is not None
            code, text, stderr = await command("resume", "--all", "--url", again.url, environ=environ)
            assert (code, text, stderr) == (0, "updates are resumed\n", "")
            await again.in_sync(len(CLOUDS))
            assert posts(server) == sent + len(CLOUDS)
            (begun,) = running.events("pause_begun")
            assert (begun["scope"], begun["owner"], begun["reason"]) == ("all", "mark", "a migration")
            assert again.events("pause_lifted")


async def test_a_paused_allocation_is_read_before_its_first_update_after_the_pause(tmp_path: Path) -> None:
    file, state = tmp_path / "desired.yaml", tmp_path / "state"
    declare(file, CLOUDS, region="a")
    environ = {"ALLOCSYNC_STATE_DIR": str(state)}
    async with (
        ReferenceServer.start(CLOUDS, log_all=True) as server,
        daemon(server.url, file, tmp_path / "log", environ=environ) as running,
    ):
        await running.in_sync(len(CLOUDS))
        where = ("--url", running.url)
        code, text, _ = await command(
            "pause", FIRST[:8], "--for", "5s", "--reason", "r", *where, environ=environ
        )
        assert (code, text.startswith(f"{FIRST} is paused until ")) == (0, True)
        (begun,) = running.events("pause_begun")
        assert "@" in begun["owner"]
        sent = posts(server)
        declare(file, CLOUDS, region="b")
        await eventually(lambda: posts(server) == sent + len(CLOUDS) - 1)
        assert server.clouds[FIRST]["region"] == "a"
        await running.in_sync(len(CLOUDS))
        assert server.clouds[FIRST]["region"] == "b"
        of_it = [record["op"] for record in server.records if record.get("id") == FIRST]
        assert of_it[-3:] == ["snapshot", "update", "snapshot"]
        assert running.events("pause_ended")


async def test_a_wrong_command_is_answered_with_the_reason_and_changes_nothing(tmp_path: Path) -> None:
    file, state = tmp_path / "desired.yaml", tmp_path / "state"
    declare(file, CLOUDS, region="a")
    environ = {"ALLOCSYNC_STATE_DIR": str(state)}
    options = ("--for", "2h", "--reason", "r")
    async with (
        ReferenceServer.start(CLOUDS) as server,
        daemon(server.url, file, tmp_path / "log", environ=environ) as running,
    ):
        await running.in_sync(len(CLOUDS))
        where = ("--url", running.url)
        wrong = (
            (("pause", "nobody-at-all", *options), 1, "no such allocation is declared"),
            (("pause", *options), 64, "give the ID of an allocation, or --all"),
            (("pause", FIRST, "--all", *options), 64, "give the ID of an allocation, or --all"),
            (("pause", "--all", "--for", "2", "--reason", "r"), 64, "Try 90s, 30min, 2h or 1.5d"),
            (("pause", "--all", "--for", "2h"), 64, "--reason"),
            (("pause", "--all", "--for", "2h", "--reason", " "), 1, "reason must be a text"),
            (("resume", SECOND), 1, f"{SECOND} is not paused individually"),
            (("resume", "--all"), 1, "there is no pause of everything"),
        )
        for words, exit_code, message in wrong:
            code, text, stderr = await command(*words, *where, environ=environ)
            assert (code, text) == (exit_code, ""), words
            assert message in stderr
            assert "Traceback" not in stderr
        assert not running.events("pause_begun")
        assert (await command("pause", SECOND, *options, *where, environ=environ))[0] == 0
        assert (await command("pause", "--all", *options, *where, environ=environ))[0] == 0
        code, text, _ = await command("resume", SECOND, *where, environ=environ)
        assert code == 0
        assert " has ended, but everything is paused until" in text


def posts(server: ReferenceServer) -> int:
    return sum(record["op"] == "update" for record in server.records)
