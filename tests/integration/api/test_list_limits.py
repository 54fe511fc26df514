"""A list may take long to compute and to arrive; a silent or an endless one is given up, with the reason."""

import asyncio
import time

import pytest

from allocsync.errors import BulkUnavailable
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.integration.api.conftest import Peer, RawServer, Request, http_response, open_client, raw_server

BODY = b'{"iterable":[' + b",".join(b'{"id":"%d"}' % number for number in range(20)) + b"]}"


async def read_list(server: RawServer | str, **limits: float) -> list[str]:
    async with open_client(server, **{"list_seconds": 30.0, **limits}) as client:
        return [str(listed.cloud["id"]) async for listed in client.list()]


async def test_a_list_that_takes_long_to_compute_and_arrives_in_pieces_is_used() -> None:
    async def script(_: Request, peer: Peer) -> None:
        await asyncio.sleep(0.8)  # four times the silence that is permitted afterwards
        whole = http_response(200, BODY)
        await peer.send(*(whole[at : at + 16] for at in range(0, len(whole), 16)), every_seconds=0.05)

    async with raw_server(script) as server:
        begun = time.monotonic()
        found = await read_list(server, list_head_seconds=5.0, list_silence_seconds=0.2)
        assert time.monotonic() - begun > 1.5, "the response took longer than each limit between its bytes"
    assert found == [str(number) for number in range(20)]


@pytest.mark.parametrize(
    ("first", "every_seconds", "limits", "reason"),
    [
        pytest.param(
            b"", 0.0, {"list_head_seconds": 0.3}, r"no answer from 127\.0\.0\.1:\d+ within 0\.3 s", id="head"
        ),
        pytest.param(
            http_response(200, BODY, length=9_000),
            0.0,
            {"list_silence_seconds": 0.3},
            rf"cut off after {len(BODY)} bytes: 0\.3 s passed without a byte of it",
            id="silence",
        ),
        pytest.param(
            http_response(200, b"", length=9_000),
            0.05,
            {"list_silence_seconds": 0.5, "list_seconds": 0.7},
            r"cut off after \d+ bytes: it was not complete within 0\.7 s",
            id="total",
        ),
    ],
)
async def test_the_reason_names_the_limit_that_a_list_exceeded(
    first: bytes, every_seconds: float, limits: dict[str, float], reason: str
) -> None:
    ended = asyncio.Event()

    async def script(_: Request, peer: Peer) -> bool:
        await peer.send(first)
        while every_seconds:
            await peer.send(b" ", every_seconds=every_seconds)
        await peer.reader.read()  # until the client closes the connection
        ended.set()
        return False

    async with raw_server(script) as server:
        begun = time.monotonic()
        with pytest.raises(BulkUnavailable, match=reason) as raised:
            await read_list(server, **limits)
        assert time.monotonic() - begun < 3.0
        assert len(server.requests) == 1
        if not every_seconds:
            await asyncio.wait_for(ended.wait(), 5.0)
    assert raised.value.supported


async def test_a_list_with_a_gap_that_is_too_long_is_given_up_in_the_middle() -> None:
    async with ReferenceServer.start(sample_clouds(3, 5)) as server:
        server.set_faults({"list": {"drip": 1, "drip_seconds": 1}})
        with pytest.raises(BulkUnavailable, match=r"0\.5 s passed without a byte"):
            await read_list(server.url, list_silence_seconds=0.5)
        assert server.fired == {"list.drip": 1}
