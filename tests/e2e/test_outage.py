"""An API that is killed: how soon every output says so, and how soon work goes on, with real processes."""

import asyncio
import json
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.support.processes import command, daemon, declare

CLOUDS = sample_clouds(20, 31)
TOLD_WITHIN_SECONDS = 30.0


@pytest.mark.slow
async def test_an_api_that_is_killed_is_told_within_30_seconds_and_a_wait_does_not_succeed(
    tmp_path: Path,
) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="mars")
    async with AsyncExitStack() as stack:
        async with ReferenceServer.start(CLOUDS) as server:
            port = int(server.url.rpartition(":")[2])
            running = await stack.enter_async_context(daemon(server.url, file, tmp_path / "log"))
            await running.in_sync(len(CLOUDS))
        state = {"ALLOCSYNC_LISTEN": running.url.removeprefix("http://")}
        killed = time.monotonic()
        text = ""
        while not text.startswith("API unreachable since ") and time.monotonic() < killed + 60:
            _, text, _ = await command("status", environ=state)
            await asyncio.sleep(0.2)
        assert time.monotonic() - killed <= TOLD_WITHIN_SECONDS
        found = json.loads((await running.get("/api/v1/status"))[1])
        assert found["api"]["reachable"] is False
        assert found["api"]["next_attempt_at"] >= found["api"]["since"]
        metrics = (await running.get("/metrics"))[1]
        assert "allocsync_api_reachable 0.0" in metrics
        assert len(running.events("api_unreachable")) == 1
        code, _, stderr = await command("status", "--wait", "--timeout", "2", environ=state)
        assert code == 1
        assert "not in sync after 2 s: API unreachable since " in stderr
        _, text, _ = await command("explain", str(CLOUDS[0]["id"]), environ=state)
        assert text.startswith("API unreachable since ")
        async with ReferenceServer.start(CLOUDS, listen=("127.0.0.1", port)) as again:
            code, text, stderr = await command("status", "--wait", "--timeout", "60", environ=state)
            assert (code, stderr) == (0, ""), "work goes on by itself"
            assert text.startswith("20 InSync   of 20, confirmed since ")
            assert {cloud["region"] for cloud in again.clouds.values()} == {"mars"}
        assert len(running.events("api_reachable")) == 1
