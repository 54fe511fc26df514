"""Edits take precedence over periodic reads, with a real daemon, checked against the log of the server."""

import asyncio
from itertools import pairwise
from pathlib import Path

from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.support.processes import daemon, declare, eventually

CLOUDS = sample_clouds(40, 5)
RESYNC_SECONDS, PAUSE_SECONDS = 0.2, 0.6


def read_times(server: ReferenceServer, *, since: int = 0, except_id: str = "") -> list[float]:
    """Return the times at which allocations other than `except_id` were read."""
    rows = server.records[since:]
    return sorted(row["received_at"] for row in rows if row["op"] == "snapshot" and row["id"] != except_id)


def longest_pause(times: list[float]) -> float:
    return max(later - earlier for earlier, later in pairwise(times))


async def test_periodic_reads_pause_for_an_edit_and_then_go_on(tmp_path: Path) -> None:
    file, options = tmp_path / "desired.yaml", ("--bulk", "off", "--resync-seconds", str(RESYNC_SECONDS))
    declare(file, CLOUDS, region="a")
    async with (
        ReferenceServer.start(CLOUDS, log_all=True) as server,
        daemon(server.url, file, tmp_path / "log", *options) as running,
    ):
        await eventually(lambda: len(running.events("update_accepted")) == len(CLOUDS))
        await asyncio.sleep(3.0)  # until accepted updates have been confirmed
        begun = len(server.records)
        await asyncio.sleep(3.0)
        assert longest_pause(read_times(server, since=begun)) < PAUSE_SECONDS
        edited = len(server.records)
        beside = tmp_path / ".desired.yaml"
        beside.write_text(file.read_text().replace("region: a", "region: b", 1))
        beside.replace(file)
        await eventually(lambda: len(running.events("update_accepted")) == len(CLOUDS) + 1)
        await asyncio.sleep(3.0)
        after = read_times(server, since=edited, except_id=str(CLOUDS[0]["id"]))
        assert PAUSE_SECONDS < longest_pause(after) < 2.0
        assert after[-1] - after[0] > 2.5, "they went on"
