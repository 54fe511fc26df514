"""The memory for a response is limited: endless headers, bodies and lists, slow and truncated responses."""

import asyncio
import gc
import tracemalloc
from collections.abc import Iterator

import pytest

from allocsync.api.client import MAX_LIST_BYTES, MAX_RESPONSE_BYTES, AllocationClient
from allocsync.errors import BulkUnavailable
from allocsync.model.api_answers import Failed, OutcomeUnknown
from allocsync.model.ids import AllocationId
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.integration.api.conftest import Peer, Request, open_client, raw_server

MIB = 1024 * 1024
A = AllocationId("a")
CHUNK = b"10000\r\n" + b"1" * 65536 + b"\r\n"
TEN_GIB_OF_CHUNKS = 10 * 1024 * MIB // 65536
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True)
def _traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def peak_mib() -> float:
    """Return the peak of the traced memory since the last call."""
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    return peak / MIB


async def ten_gib(_: Request, peer: Peer) -> bool:
    await peer.send(HEAD)
    for _number in range(TEN_GIB_OF_CHUNKS):
        await peer.send(CHUNK)
    raise AssertionError("the client read the whole body")


async def test_a_body_of_ten_gib_is_not_read_into_memory() -> None:
    async with raw_server(ten_gib) as server, open_client(server, list_seconds=60) as client:
        peak_mib()
        read = await client.snapshot(A)
        sent = await client.update(A, {"id": "a"})
        assert peak_mib() < 8
    assert isinstance(read, Failed)
    assert isinstance(sent, OutcomeUnknown)
    assert f"larger than {MAX_RESPONSE_BYTES:,} bytes" in read.reason


async def test_a_list_of_ten_gib_is_read_up_to_the_limit() -> None:
    async with (
        raw_server(ten_gib) as server,
        AllocationClient.open(server.url, max_list_bytes=8 * MIB) as client,
    ):
        peak_mib()
        with pytest.raises(BulkUnavailable, match="larger than"):
            [listed async for listed in client.list()]
        assert 8 < peak_mib() < 16
    assert MAX_LIST_BYTES == 128 * MIB, "all of it is in memory, and the process has 256 MiB"


async def test_a_million_headers_are_not_read() -> None:
    sent = 0

    async def script(_: Request, peer: Peer) -> bool:
        nonlocal sent
        await peer.send(b"HTTP/1.1 200 OK\r\n")
        while sent < 1_000_000:
            await peer.send(b"".join(b"X-%d: value\r\n" % number for number in range(1000)))
            sent += 1000
        return False

    async with raw_server(script) as server, open_client(server) as client:
        peak_mib()
        answer = await client.update(A, {"id": "a"})
        assert peak_mib() < 8
    assert isinstance(answer, OutcomeUnknown)
    assert "not HTTP" in answer.reason
    assert 0 < sent < 1_000_000


async def test_an_endless_header_is_not_read() -> None:
    async def script(_: Request, peer: Peer) -> bool:
        await peer.send(b"HTTP/1.1 200 OK\r\nX: ")
        for _number in range(16 * 64):
            await peer.send(b"1" * 16384)
        return False

    async with raw_server(script) as server, open_client(server) as client:
        peak_mib()
        assert isinstance(await client.snapshot(A), Failed)
        assert peak_mib() < 8


async def test_hundreds_of_slow_and_truncated_responses_leak_no_memory() -> None:
    cloud = sample_clouds(1, 5)[0]
    key = AllocationId(str(cloud["id"]))
    faults = {"all": {"drip": 0.5, "cut_off": 0.5, "drip_seconds": 0.2}}
    async with (
        ReferenceServer.start([cloud], faults=faults) as server,
        open_client(server.url, get_seconds=0.3, post_seconds=0.3) as client,
    ):

        async def ask() -> None:
            assert isinstance(await client.snapshot(key), Failed)
            assert isinstance(await client.update(key, cloud), OutcomeUnknown)

        await asyncio.gather(*(ask() for _ in range(20)))
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(5):
            await asyncio.gather(*(ask() for _ in range(20)))
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        assert (after - before) / MIB < 1
        assert server.fired["snapshot.drip"] > 20
        assert server.fired["update.cut_off"] > 20
