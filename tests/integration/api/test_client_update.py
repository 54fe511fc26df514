"""Updates over real sockets: sent once, and what may have been applied is never called anything else."""

import asyncio
import time

import pytest

from allocsync.api import json_codec
from allocsync.model.api_answers import Accepted, NotSent, OutcomeUnknown, Rejected, UpdateAnswer
from allocsync.model.cloud import Cloud, NumberLiteral
from allocsync.model.ids import AllocationId
from tests.integration.api.conftest import Peer, RawServer, Request, answering, client_of, http, raw_server

A = AllocationId("a")
BODY: Cloud = {"id": "a", "user": "u"}
ECHO = b'{"id":"a","user":"u","n":1.10}'


async def update(server: RawServer | str, body: Cloud = BODY, **timeouts: float) -> UpdateAnswer:
    async with client_of(server, **timeouts) as client:
        return await client.update(A, body)


def expected_of(status: int) -> tuple[type[UpdateAnswer], bool | None]:
    """The decision table, written out a second time and differently."""
    if status in (200, 202):
        return Accepted, None
    if status in (401, 403, 404, 423, 429):
        return Rejected, False
    if status in set(range(400, 500)) - {408}:
        return Rejected, True
    return OutcomeUnknown, None


async def test_every_status_has_its_outcome() -> None:
    statuses = [status for status in range(200, 600) if status not in (204, 304)]
    async with (
        raw_server(answering(*(http(status, ECHO, "Retry-After: 9") for status in statuses))) as server,
        client_of(server) as client,
    ):
        for status in statuses:
            answer = await client.update(A, BODY)
            kind, terminal = expected_of(status)
            assert type(answer) is kind, status
            assert not isinstance(answer, NotSent)
            assert answer.status == status
            if isinstance(answer, Rejected):
                assert answer.terminal is terminal, status
            if not isinstance(answer, Accepted):
                assert answer.retry_after_seconds == 9
                assert answer.reason.startswith(str(status))
    assert len(server.requests) == len(statuses)
    assert all(request.line == "POST /allocation/update HTTP/1.1" for request in server.requests)


@pytest.mark.parametrize("status", [101, 204, 205, 304, 600, 999])
async def test_a_status_that_no_update_should_get_is_an_unknown(status: int) -> None:
    async with raw_server(
        answering(f"HTTP/1.1 {status} Said\r\nConnection: close\r\n\r\n".encode())
    ) as server:
        answer = await update(server, post_seconds=0.3)
    assert isinstance(answer, OutcomeUnknown)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [100, 102, 103])
async def test_an_answer_that_is_only_announced_is_an_unknown(status: int) -> None:
    async with raw_server(answering(f"HTTP/1.1 {status} Said\r\n\r\n".encode())) as server:
        answer = await update(server, post_seconds=0.2)
    assert isinstance(answer, OutcomeUnknown)
    assert answer.status is None
    assert len(server.requests) == 1


async def test_an_accepted_update_carries_the_echo_to_the_letter() -> None:
    async with raw_server(answering(http(200, ECHO), http(202, b"later"))) as server:
        assert await update(server) == Accepted(200, {"id": "a", "user": "u", "n": NumberLiteral("1.10")})
        assert await update(server) == Accepted(202, None)


async def test_what_came_goes_back_byte_for_byte() -> None:
    numbers = b"[1e400,1.10,-0,0.0,1E+2,12345678901234567890123]"
    text = b'{"id":"a","n":' + numbers + b',"new":{"z":null,"a":true},"s":"\\u00e9"}'
    cloud = json_codec.loads(text)
    assert isinstance(cloud, dict)
    async with raw_server(answering(http(200, ECHO))) as server:
        await update(server, cloud)
    assert server.requests[0].body == text
    assert server.requests[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(http(200, b'{"id":"b"}'), id="another id"),
        pytest.param(http(200, b"<html>"), id="html"),
        pytest.param(http(200, b""), id="empty"),
        pytest.param(http(200, ECHO, length=900), id="cut off"),
        pytest.param(http(200, b'{"id":"a","x":"' + b"x" * 2_000_000 + b'"}'), id="too large"),
        pytest.param(http(200, b"\x1f\x8b", "Content-Encoding: gzip"), id="compressed"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}", id="chunk garbage"),
        pytest.param(b"HTTP/1.1 400 No\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", id="a huge header"),
        pytest.param(b"HTTP/1.1 400", id="cut in the head"),
        pytest.param(b"garbage\r\n\r\n", id="not HTTP"),
        pytest.param(b"", id="nothing"),
    ],
)
async def test_an_unusable_answer_is_an_unknown_and_is_sent_once(raw: bytes) -> None:
    async def script(_: Request, peer: Peer) -> bool:
        await peer.send(raw)
        return False

    async with raw_server(script) as server:
        answer = await update(server)
    assert isinstance(answer, OutcomeUnknown)
    assert len(server.requests) == 1


async def test_a_rejection_whose_body_never_comes_is_a_rejection() -> None:
    async def script(_: Request, peer: Peer) -> bool:
        await peer.send(http(422, b"no such", length=900))
        peer.reset()
        return False

    async with raw_server(script) as server:
        answer = await update(server)
    assert isinstance(answer, Rejected)
    assert answer.terminal


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(status: int) -> None:
    async with (
        raw_server(answering(http(200, ECHO))) as second,
        raw_server(answering(http(status, b"", f"Location: {second.url}/allocation/update"))) as server,
    ):
        answer = await update(server)
        assert second.connections == 0
    assert isinstance(answer, OutcomeUnknown)
    assert len(server.requests) == 1


async def test_a_reset_after_reading_is_an_unknown_and_is_sent_once() -> None:
    async def script(_: Request, peer: Peer) -> bool:
        peer.reset()
        return False

    async with raw_server(script) as server, client_of(server) as client:
        answer = await client.update(A, BODY)
        assert isinstance(answer, OutcomeUnknown)
        assert "dropped the connection" in answer.reason
        await asyncio.sleep(0.05)
        assert server.connections == len(server.requests) == 1


async def test_a_reset_before_reading_is_an_unknown() -> None:
    async def at_once(peer: Peer) -> bool:
        await peer.reader.readexactly(1)  # the rest stays unread
        peer.reset()
        return False

    async with raw_server(answering(b""), on_connect=at_once) as server:
        answer = await update(server)
        assert server.connections == 1
    assert isinstance(answer, OutcomeUnknown)


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([bytes([c]) for c in b"HTTP/1.1 200 OK\r\n" * 20], id="the head drips"),
        pytest.param([http(200, length=500), *[b" "] * 500], id="the body drips"),
        pytest.param([], id="no answer"),
    ],
)
async def test_a_slow_answer_is_an_unknown_at_the_deadline(pieces: list[bytes]) -> None:
    async def script(_: Request, peer: Peer) -> None:
        await peer.send(*pieces, every_seconds=0.05)
        await peer.reader.read()

    async with raw_server(script) as server:
        begun = time.monotonic()
        answer = await update(server, post_seconds=0.3)
        took = time.monotonic() - begun
        assert len(server.requests) == 1
    assert isinstance(answer, OutcomeUnknown)
    assert 0.25 < took < 3
