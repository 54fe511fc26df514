"""Reads behind caches over real sockets: what is asked of them, and how old their answers are found to be."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from allocsync.model.api_answers import Accepted, Live, Missing
from allocsync.model.ids import AllocationId
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.integration.api.caching_proxy import caching_proxy
from tests.integration.api.conftest import http_response, open_client, raw_server, respond_with
from tests.support.nginx_cache import needs_nginx, nginx_cache

CLOUDS = sample_clouds(3, 5)
ID = AllocationId(str(CLOUDS[0]["id"]))
WAIT_SECONDS = 3.5  # more than the tolerance of two seconds, and whole seconds differ by one


@pytest.fixture
async def server() -> AsyncIterator[ReferenceServer]:
    async with ReferenceServer.start(CLOUDS) as running:
        yield running


async def test_each_get_asks_caches_not_to_answer_and_a_post_does_not(server: ReferenceServer) -> None:
    async with caching_proxy(server.url, seconds=0.0) as proxy, open_client(proxy.url) as client:
        await client.snapshot(ID)
        [listed async for listed in client.list()]
        await client.update(ID, CLOUDS[0])
    asked = [(method, headers.get("Cache-Control")) for method, headers in proxy.requests]
    assert asked == [("GET", "no-cache"), ("GET", "no-cache"), ("POST", None)]


@pytest.mark.parametrize(
    ("sends_age", "sends_date"),
    [pytest.param(True, True, id="Age and Date"), pytest.param(False, True, id="Date alone")],
)
async def test_a_cached_answer_is_as_old_as_the_time_that_it_was_kept(
    server: ReferenceServer, *, sends_age: bool, sends_date: bool
) -> None:
    server.remove(str(CLOUDS[1]["id"]))
    async with (
        caching_proxy(server.url, seconds=60.0, sends_age=sends_age, sends_date=sends_date) as proxy,
        open_client(proxy.url) as client,
    ):
        gone = AllocationId(str(CLOUDS[1]["id"]))
        fresh = [await client.snapshot(ID), await client.snapshot(gone)]
        assert fresh == [Live(CLOUDS[0]), Missing()]
        assert {listed.evidence_age_seconds async for listed in client.list()} == {0.0}
        await asyncio.sleep(WAIT_SECONDS)
        assert isinstance(await client.update(ID, {**CLOUDS[0], "region": "mars"}), Accepted)
        old = [await client.snapshot(ID), await client.snapshot(gone)]
        ages = [answer.evidence_age_seconds for answer in old if isinstance(answer, Live | Missing)]
        ages += [listed.evidence_age_seconds async for listed in client.list()]
        assert proxy.hits == 3
    assert isinstance(old[0], Live)
    assert old[0].cloud == CLOUDS[0], "the cache shows what was before the update"
    assert len(ages) == 4
    assert all(WAIT_SECONDS - 1.5 < age < WAIT_SECONDS + 2 for age in ages), ages


async def test_a_slow_answer_of_the_server_is_not_old(server: ReferenceServer) -> None:
    """Otherwise each 504 would make all reads of the next ten minutes too old."""
    server.set_faults({"update": {"timeout_after": 1, "timeout_seconds": 3.2}})
    async with open_client(server.url) as client:
        begun = time.monotonic()
        await client.update(ID, CLOUDS[0])
        assert time.monotonic() - begun > 3
        assert await client.snapshot(ID) == Live(CLOUDS[0])
    assert server.fired == {"update.timeout_after": 1}


@pytest.mark.parametrize("age", ["-43", "soon", "4.5", ""])
async def test_an_age_that_is_garbage_is_ignored(age: str) -> None:
    async with (
        raw_server(respond_with(http_response(200, b'{"id":"a"}', f"Age: {age}"))) as raw,
        open_client(raw) as client,
    ):
        assert await client.snapshot(AllocationId("a")) == Live({"id": "a"}, 0.0)


async def test_the_reference_server_answers_as_behind_a_cache(server: ReferenceServer) -> None:
    server.set_faults({"all": {"cache_seconds": 60}})
    async with open_client(server.url) as client:
        await client.snapshot(ID)
        [listed async for listed in client.list()]
        server.set_field(ID, "region", "mars")
        await asyncio.sleep(1.1)
        read = await client.snapshot(ID)
        (listed, *_) = [listed async for listed in client.list()]
        assert isinstance(read, Live)
        assert read.cloud == listed.cloud == CLOUDS[0]
        assert 1 <= read.evidence_age_seconds <= 3
        assert 1 <= listed.evidence_age_seconds <= 3
        assert server.fired == {"snapshot.cache_seconds": 1, "list.cache_seconds": 1}
        server.set_faults({})
        read = await client.snapshot(ID)
        assert isinstance(read, Live)
        assert (read.cloud["region"], read.evidence_age_seconds) == ("mars", 0.0)


@pytest.mark.real
@needs_nginx
async def test_an_answer_that_nginx_kept_is_as_old_as_its_date(
    server: ReferenceServer, tmp_path: Path, unused_tcp_port: int
) -> None:
    async with (
        nginx_cache(server.url, tmp_path, unused_tcp_port) as nginx,
        open_client(nginx.url) as client,
    ):
        assert await client.snapshot(ID) == Live(CLOUDS[0])
        await asyncio.sleep(WAIT_SECONDS)
        assert isinstance(await client.update(ID, {**CLOUDS[0], "region": "mars"}), Accepted)
        old = await client.snapshot(ID)
        assert [(method, cached, control) for method, _, cached, control in nginx.requests()] == [
            ("GET", "MISS", "no-cache"),
            ("POST", "-", "-"),
            ("GET", "HIT", "no-cache"),
        ]
    assert isinstance(old, Live)
    assert old.cloud == CLOUDS[0], "nginx answered from its cache, although the request said no-cache"
    assert WAIT_SECONDS - 1.5 < old.evidence_age_seconds < WAIT_SECONDS + 2
