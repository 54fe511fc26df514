"""The daemon as a process: stopped during requests, reloaded by a signal, and its status page."""

import asyncio
import json
import signal
import time
from pathlib import Path

from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.support.processes import daemon, declare, eventually

CLOUDS = sample_clouds(8, 23)
DRAIN_SECONDS, POLL_SECONDS = 20.0, 10.0


async def test_updates_without_an_answer_at_the_stop_are_logged_as_open_intents(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="a")
    faults = {"update": {"latency_seconds": 60}}
    async with (
        ReferenceServer.start(CLOUDS, faults=faults) as server,
        daemon(server.url, file, tmp_path / "log", "--log-level", "debug") as running,
    ):
        await eventually(lambda: len(running.events("update_intended")) == len(CLOUDS))
        running.process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        await eventually(lambda: running.events("stopping"))
        assert (await running.get("/readyz"))[0] == 503
        assert (await running.get("/livez"))[0] == 200  # a daemon that is stopping is not stalled
        running.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.process.wait(), DRAIN_SECONDS + 4) == 0
        assert time.monotonic() - begun >= DRAIN_SECONDS - 1  # it waited for the answers
        (stopped,) = running.events("stopped")
        assert (stopped["level"], stopped["open_intents"]) == ("warning", len(CLOUDS))
        assert len(running.events("stopping")) == 1
        assert len(running.events("update_intended")) == len(CLOUDS)  # and started no new update


async def test_an_idle_daemon_stops_at_once(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="a")
    async with (
        ReferenceServer.start(CLOUDS) as server,
        daemon(server.url, file, tmp_path / "log") as running,
    ):
        await running.in_sync(len(CLOUDS))
        await eventually(lambda: len(server.records) == len(CLOUDS))
        running.process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        assert await asyncio.wait_for(running.process.wait(), 10) == 0
        assert time.monotonic() - begun < 5
        assert running.events("stopped")[0]["open_intents"] == 0


async def test_sighup_finds_an_edit_that_the_watcher_cannot_see(tmp_path: Path) -> None:
    # file -> middle/link -> end/old: the watcher watches the first and last directory, not the middle one.
    for name in ("end", "middle", "mount"):
        (tmp_path / name).mkdir()
    declare(tmp_path / "end" / "old.yaml", CLOUDS, region="old")
    (tmp_path / "elsewhere").mkdir()
    declare(tmp_path / "elsewhere" / "new.yaml", CLOUDS, region="new")
    link = tmp_path / "middle" / "link.yaml"
    link.symlink_to(tmp_path / "end" / "old.yaml")
    file = tmp_path / "mount" / "desired.yaml"
    file.symlink_to(link)
    async with (
        ReferenceServer.start(CLOUDS) as server,
        daemon(server.url, file, tmp_path / "log") as running,
    ):
        activated = await eventually(lambda: running.events("revision_activated"))
        seen = time.monotonic()
        link.with_name("next").symlink_to(tmp_path / "elsewhere" / "new.yaml")
        link.with_name("next").replace(link)
        running.process.send_signal(signal.SIGHUP)
        await eventually(lambda: len(running.events("revision_activated")) > len(activated))
        # The polling of the watcher would also find it, but only ten seconds later.
        assert time.monotonic() - seen < POLL_SECONDS / 2
        await eventually(lambda: {cloud["region"] for cloud in server.clouds.values()} == {"new"})


async def test_the_status_page_lists_every_allocation_with_its_reason(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="a")
    async with ReferenceServer.start(CLOUDS) as server:
        gone = str(CLOUDS[0]["id"])
        server.remove(gone)
        async with daemon(server.url, file, tmp_path / "log") as running:
            await running.in_sync(len(CLOUDS) - 1)
            status = json.loads((await running.get("/api/v1/status"))[1])
    assert len(status["revision"]["active"]) == 64
    assert {name: number for name, number in status["conditions"].items() if number} == {
        "InSync": len(CLOUDS) - 1,
        "Missing": 1,
    }
    rows = {row["id"]: row for row in status["allocations"]}
    assert set(rows) == {str(cloud["id"]) for cloud in CLOUDS}
    assert "410" in rows[gone]["reason"]
    assert all(
        row.keys()
        == {
            *("id", "condition", "reason", "since", "confirmed_at", "next_read_at", "waits_for", "paused"),
            *("declaration", "needs_person", "advice"),
        }
        for row in rows.values()
    )
