"""Updates over real sockets: sent once, and never rejected or not sent if they may have been applied."""

import asyncio
import time

import pytest

from allocsync.api import json_codec
from allocsync.model.api_answers import (
    Accepted,
    NotSent,
    OutcomeUnknown,
    Rejected,
    RejectionClass,
    UpdateAnswer,
)
from allocsync.model.cloud import Cloud, NumberLiteral
from allocsync.model.ids import AllocationId
from tests.integration.api.conftest import (
    Peer,
    RawServer,
    Request,
    http_response,
    open_client,
    raw_server,
    respond_with,
)

A = AllocationId("a")
BODY: Cloud = {"id": "a", "user": "u"}
ECHO = b'{"id":"a","user":"u","n":1.10}'


async def update(server: RawServer | str, body: Cloud = BODY, **timeouts: float) -> UpdateAnswer:
    async with open_client(server, **timeouts) as client:
        return await client.update(A, body)


def expected_of(status: int, *, retry_after: bool) -> tuple[type[UpdateAnswer], RejectionClass | None]:
    """Return the expected outcome and class: the tables of `responses`, written independently."""
    if status in (200, 202):
        return Accepted, None
    if status not in range(400, 500) or status in (408, 499):
        return OutcomeUnknown, None
    if status == 410:
        return Rejected, RejectionClass.GONE
    if retry_after or status in (409, 423, 425, 429):
        return Rejected, RejectionClass.NOT_NOW
    return Rejected, RejectionClass.BODY if status in (400, 413, 415, 422) else RejectionClass.OTHER


@pytest.mark.parametrize("retry_after", [True, False], ids=["Retry-After", "no Retry-After"])
async def test_every_status_has_its_outcome(*, retry_after: bool) -> None:
    statuses = [status for status in range(200, 600) if status not in (204, 304)]
    headers = ["Retry-After: 9"] if retry_after else ["Retry-After: soon"]
    async with (
        raw_server(respond_with(*(http_response(status, ECHO, *headers) for status in statuses))) as server,
        open_client(server) as client,
    ):
        for status in statuses:
            answer = await client.update(A, BODY)
            outcome, kind = expected_of(status, retry_after=retry_after)
            assert type(answer) is outcome, status
            assert not isinstance(answer, NotSent)
            assert answer.status == status
            if isinstance(answer, Rejected):
                assert answer.kind is kind, status
            if not isinstance(answer, Accepted):
                assert answer.retry_after_seconds == (9 if retry_after else None)
                assert answer.reason.startswith(str(status))
    assert len(server.requests) == len(statuses)
    assert all(request.line == "POST /allocation/update HTTP/1.1" for request in server.requests)


@pytest.mark.parametrize("status", [101, 204, 205, 304, 600, 999])
async def test_an_undocumented_status_of_an_update_is_an_unknown_outcome(status: int) -> None:
    async with raw_server(
        respond_with(f"HTTP/1.1 {status} Status\r\nConnection: close\r\n\r\n".encode())
    ) as server:
        answer = await update(server, post_seconds=0.3)
    assert isinstance(answer, OutcomeUnknown)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [100, 102, 103])
async def test_an_informational_response_alone_is_an_unknown_outcome(status: int) -> None:
    async with raw_server(respond_with(f"HTTP/1.1 {status} Status\r\n\r\n".encode())) as server:
        answer = await update(server, post_seconds=0.2)
    assert isinstance(answer, OutcomeUnknown)
    assert answer.status is None
    assert len(server.requests) == 1


async def test_an_accepted_update_returns_the_echo_unchanged() -> None:
    async with raw_server(respond_with(http_response(200, ECHO), http_response(202, b"later"))) as server:
        assert await update(server) == Accepted(200, {"id": "a", "user": "u", "n": NumberLiteral("1.10")})
        assert await update(server) == Accepted(202, None)


async def test_a_cloud_is_sent_back_byte_for_byte() -> None:
    numbers = b"[1e400,1.10,-0,0.0,1E+2,12345678901234567890123]"
    text = b'{"id":"a","n":' + numbers + b',"new":{"z":null,"a":true},"s":"\\u00e9"}'
    cloud = json_codec.loads(text)
    assert isinstance(cloud, dict)
    async with raw_server(respond_with(http_response(200, ECHO))) as server:
        await update(server, cloud)
    assert server.requests[0].body == text
    assert server.requests[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(http_response(200, b'{"id":"b"}'), id="another id"),
        pytest.param(http_response(200, b"<html>"), id="html"),
        pytest.param(http_response(200, b""), id="empty"),
        pytest.param(http_response(200, ECHO, length=900), id="cut off"),
        pytest.param(http_response(200, b'{"id":"a","x":"' + b"x" * 2_000_000 + b'"}'), id="too large"),
        pytest.param(http_response(200, b"\x1f\x8b", "Content-Encoding: gzip"), id="compressed"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}", id="chunk garbage"),
        pytest.param(b"HTTP/1.1 400 No\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", id="a huge header"),
        pytest.param(b"HTTP/1.1 400", id="cut in the head"),
        pytest.param(b"garbage\r\n\r\n", id="not HTTP"),
        pytest.param(b"", id="nothing"),
    ],
)
async def test_an_unusable_response_is_an_unknown_outcome_and_the_update_is_sent_once(raw: bytes) -> None:
    async def script(_: Request, peer: Peer) -> bool:
        await peer.send(raw)
        return False

    async with raw_server(script) as server:
        answer = await update(server)
    assert isinstance(answer, OutcomeUnknown)
    assert len(server.requests) == 1


async def test_a_rejection_without_its_body_is_a_rejection() -> None:
    async def script(_: Request, peer: Peer) -> bool:
        await peer.send(http_response(422, b"no such", length=900))
        peer.reset()
        return False

    async with raw_server(script) as server:
        answer = await update(server)
    assert isinstance(answer, Rejected)
    assert answer.kind is RejectionClass.BODY


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(status: int) -> None:
    async with (
        raw_server(respond_with(http_response(200, ECHO))) as second,
        raw_server(
            respond_with(http_response(status, b"", f"Location: {second.url}/allocation/update"))
        ) as server,
    ):
        answer = await update(server)
        assert second.connections == 0
    assert isinstance(answer, OutcomeUnknown)
    assert len(server.requests) == 1


async def test_a_reset_after_the_request_is_read_is_unknown_and_the_update_is_sent_once() -> None:
    async def script(_: Request, peer: Peer) -> bool:
        peer.reset()
        return False

    async with raw_server(script) as server, open_client(server) as client:
        answer = await client.update(A, BODY)
        assert isinstance(answer, OutcomeUnknown)
        assert "dropped the connection" in answer.reason
        await asyncio.sleep(0.05)
        assert server.connections == len(server.requests) == 1


async def test_a_reset_before_the_request_is_read_is_an_unknown_outcome() -> None:
    async def reset_at_once(peer: Peer) -> bool:
        await peer.reader.readexactly(1)  # the rest of the request stays unread
        peer.reset()
        return False

    async with raw_server(respond_with(b""), on_connect=reset_at_once) as server:
        answer = await update(server)
        assert server.connections == 1
    assert isinstance(answer, OutcomeUnknown)


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([bytes([c]) for c in b"HTTP/1.1 200 OK\r\n" * 20], id="the head drips"),
        pytest.param([http_response(200, length=500), *[b" "] * 500], id="the body drips"),
        pytest.param([], id="no answer"),
    ],
)
async def test_a_slow_response_is_an_unknown_outcome_at_the_deadline(pieces: list[bytes]) -> None:
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
