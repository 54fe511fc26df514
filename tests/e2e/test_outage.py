"""An API that is killed or hangs, and faults that are no outage: what is told, and what goes on meanwhile."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from allocsync.runtime import listen_token
from tests.support.faulty_api import HANG_SECONDS, faulty_api
from tests.support.processes import Daemon, command, daemon, declare, eventually

CLOUDS = sample_clouds(20, 31)
KEYS = [str(cloud["id"]) for cloud in CLOUDS]
TOLD_WITHIN_SECONDS = 30.0
STILL_AT_MOST_SECONDS = 15.0
HANGS = {"latency_seconds": HANG_SECONDS}


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


async def outage_told(running: Daemon, environ: Mapping[str, str]) -> list[str]:
    """The outputs that tell an outage now."""
    found = json.loads((await running.get("/api/v1/status"))[1])
    told = ["JSON"] if found["api"]["reachable"] is False else []
    told += ["metric"] if await running.metric("allocsync_api_reachable") == 0 else []
    told += ["log"] if running.events("api_unreachable") else []
    for arguments in (("status",), ("explain", KEYS[0])):
        text = (await command(*arguments, environ=environ))[1]
        told += [arguments[0]] if "API unreachable since " in text else []
    return told


@asynccontextmanager
async def in_sync_daemon(url: str, tmp_path: Path) -> AsyncIterator[tuple[Daemon, Mapping[str, str]]]:
    """A daemon with everything in sync, and the environment of commands to it."""
    declare(tmp_path / "desired.yaml", CLOUDS, region="mars")
    state = {"ALLOCSYNC_STATE_DIR": str(tmp_path / "state")}
    async with daemon(url, tmp_path / "desired.yaml", tmp_path / "log", environ=state) as running:
        await running.in_sync(len(CLOUDS))
        yield running, {**state, "ALLOCSYNC_LISTEN": running.url.removeprefix("http://")}


@pytest.mark.slow
async def test_an_api_that_hangs_is_told_by_every_output_within_30_seconds(tmp_path: Path) -> None:
    async with faulty_api(CLOUDS) as api, in_sync_daemon(api.url, tmp_path) as (running, environ):
        api.live.set_faults({"all": HANGS})
        hung = time.monotonic()
        await eventually(lambda: running.events("api_unreachable"), 60)
        assert time.monotonic() - hung <= TOLD_WITHIN_SECONDS
        assert api.live.fired["snapshot.latency_seconds"] >= 2
        assert await outage_told(running, environ) == ["JSON", "metric", "log", "status", "explain"]
        code, _, _ = await command("status", "--wait", "--timeout", "1", environ=environ)
        assert code == 1


@pytest.mark.slow
@pytest.mark.parametrize("faults", [{"list": HANGS}, {"list": {"500": 1}}], ids=["hangs", "fails"])
async def test_a_broken_list_is_no_outage_and_drift_that_somebody_asks_to_be_read_is_repaired(
    tmp_path: Path, faults: object
) -> None:
    async with faulty_api(CLOUDS) as api, in_sync_daemon(api.url, tmp_path) as (running, environ):
        api.live.set_faults(faults)
        for key in KEYS:
            api.live.set_field(key, "region", "venus")
        begun = time.monotonic()
        code, _ = await running.post("/-/sync", listen_token.find(tmp_path / "state", None))
        assert code == 202
        await eventually(lambda: "mars" in {cloud["region"] for cloud in api.live.clouds.values()}, 60)
        assert time.monotonic() - begun <= STILL_AT_MOST_SECONDS
        await eventually(lambda: {cloud["region"] for cloud in api.live.clouds.values()} == {"mars"})
        assert sum(api.live.fired.values()) >= 1, "the list was broken"
        assert await outage_told(running, environ) == []
        code, _, stderr = await command("status", "--wait", "--timeout", "30", environ=environ)
        assert (code, stderr) == (0, "")


@pytest.mark.slow
async def test_an_allocation_whose_reads_hang_is_told_by_itself_and_delays_no_other(tmp_path: Path) -> None:
    async with faulty_api(CLOUDS) as api, in_sync_daemon(api.url, tmp_path) as (running, environ):
        api.poison.id = KEYS[0]
        declare(tmp_path / "desired.yaml", CLOUDS, region="venus")
        await eventually(
            lambda: {key for key in KEYS if api.live.clouds[key]["region"] == "venus"} == {*KEYS[1:]}
        )
        await eventually(
            lambda: [row for row in running.events("condition_changed") if row["after"] == "Failing"], 60
        )
        assert api.poison.strikes >= 3
        assert await outage_told(running, environ) == []
        _, text, _ = await command("status", environ=environ)
        assert f"{KEYS[0]}   Failing" in text
        assert "19 InSync" in text
        code, _, _ = await command("status", "--wait", "--timeout", "1", environ=environ)
        assert code == 1
