"""The write quota and the write windows with a real daemon, checked against the log of the server."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.support.processes import Daemon, daemon, declare

CLOUDS = sample_clouds(6, 21)


async def wait_until_held(running: Daemon, number: int) -> str:
    """Wait until so many allocations are held, and return the reason."""
    async with asyncio.timeout(30):
        while True:
            rows = json.loads((await running.get("/api/v1/status"))[1])["allocations"]
            reasons = [row["reason"] for row in rows if row["condition"] == "Blocked"]
            if len(reasons) == number:
                return str(reasons[0])
            await asyncio.sleep(0.05)


async def test_the_write_quota_of_an_hour_holds_across_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="a")
    environ = {"ALLOCSYNC_STATE_DIR": str(tmp_path / "state"), "ALLOCSYNC_MAX_WRITES_PER_HOUR": "2"}
    async with ReferenceServer.start(CLOUDS) as server:
        for log in ("first", "second"):
            async with daemon(server.url, file, tmp_path / log, environ=environ) as running:
                reason = await wait_until_held(running, len(CLOUDS) - 2)
                quota = "write quota used up: ALLOCSYNC_MAX_WRITES_PER_HOUR allows 2 updates in an hour; "
                assert reason.startswith(f"{quota}the next at ")
                await running.in_sync(2)
        assert len(server.records) == 2


async def test_no_update_is_sent_outside_the_write_windows(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="a")
    days = [(datetime.now(UTC) + timedelta(days=days)).strftime("%a") for days in (0, 3)]
    async with ReferenceServer.start(CLOUDS, log_all=True) as server:
        windows = ("--write-windows", f"{days[1]} 00:00-24:00")
        async with daemon(server.url, file, tmp_path / "closed", *windows) as running:
            assert "ALLOCSYNC_WRITE_WINDOWS" in await wait_until_held(running, len(CLOUDS))
        assert server.records
        assert {record["op"] for record in server.records} <= {"list", "snapshot"}
        windows = ("--write-windows", f"{days[0]}-{days[1]} 00:00-24:00")
        async with daemon(server.url, file, tmp_path / "open", *windows) as running:
            await running.in_sync(len(CLOUDS))
