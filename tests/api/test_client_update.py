"""Updates over real sockets: sent once, and what may have been applied is never called anything else."""

import asyncio
import time

import pytest

from allocsync.api import wire
from allocsync.api.client import AllocationClient, Timeouts
from allocsync.planning.model import (
    Accepted,
    AllocationId,
    Cloud,
    NotSent,
    NumberLiteral,
    OutcomeUnknown,
    Rejected,
    UpdateAnswer,
)
from tests.api.conftest import (
    Peer,
    RawServer,
    Request,
    answering,
    client_of,
    eventually,
    http,
    raw_server,
    refused_port,
)

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
    cloud = wire.loads(text)
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


async def test_a_refused_connection_is_not_sent() -> None:
    with refused_port() as port:
        answer = await update(f"http://127.0.0.1:{port}")
    assert isinstance(answer, NotSent)
    assert answer.reason.startswith(f"no connection to 127.0.0.1:{port}")


async def test_a_name_that_does_not_resolve_is_not_sent() -> None:
    answer = await update("http://nonexistent.invalid")
    assert isinstance(answer, NotSent)


async def test_a_host_name_that_is_none_is_not_sent() -> None:
    answer = await update(f"http://{'a' * 70}.invalid")
    assert isinstance(answer, NotSent)


async def test_tls_to_a_plain_port_is_not_sent() -> None:
    async def plain(peer: Peer) -> bool:
        await peer.reader.read(1)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        return False

    async with raw_server(answering(b""), on_connect=plain) as server:
        answer = await update(server.url.replace("http:", "https:"))
        assert server.connections == 1
    assert isinstance(answer, NotSent)
    assert server.requests == []


async def test_a_tls_handshake_that_stalls_is_not_sent() -> None:
    async def silent(peer: Peer) -> bool:
        await peer.reader.read()
        return False

    async with raw_server(answering(b""), on_connect=silent) as server:
        answer = await update(server.url.replace("http:", "https:"), connect_seconds=0.2)
        assert server.connections == 1
    assert isinstance(answer, NotSent)
    assert "within 0.2 s" in answer.reason


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"id": "a", "n": {1, 2}.__iter__}, id="not JSON"),
        pytest.param({"id": "a", "n": 1.5}, id="a float"),
        pytest.param({"id": "b"}, id="another allocation's body"),
        pytest.param({}, id="no id"),
    ],
)
async def test_a_body_that_must_not_go_is_not_sent(body: Cloud) -> None:
    async with raw_server(answering(http(200, ECHO))) as server:
        answer = await update(server, body)
        assert server.connections == 0
    assert isinstance(answer, NotSent)


async def test_the_id_dot_is_not_sent() -> None:
    async with raw_server(answering(http(200, ECHO))) as server, client_of(server) as client:
        assert isinstance(await client.update(AllocationId(".."), {"id": ".."}), NotSent)
        assert server.connections == 0


async def test_a_server_that_closes_idle_connections_makes_no_unknowns() -> None:
    """Reads keep connections, and updates land around the moment in which the server drops them."""
    idle_seconds = 0.05

    async def script(request: Request, peer: Peer) -> bool:
        await peer.send(http(200, b'{"id":"a"}'))
        return not request.line.startswith("POST")

    async with raw_server(script, idle_seconds=idle_seconds) as server, client_of(server) as client:
        answers = []
        for step in range(40):
            await client.snapshot(A)
            await asyncio.sleep(idle_seconds - 0.01 + step * 0.0005)
            answers.append(await client.update(A, BODY))
        posts = [request for request in server.requests if request.line.startswith("POST")]
        assert server.closed > 40, "the server closed idle connections too"
    assert [type(answer) for answer in answers] == [Accepted] * 40
    assert len({request.connection for request in posts}) == 40, "each on a connection of its own"
    assert all(request.headers["connection"] == "close" for request in posts)


async def test_cancelling_an_update_in_flight_raises_and_drops_the_connection() -> None:
    async def script(_: Request, peer: Peer) -> None:
        await peer.reader.read()

    async with raw_server(script) as server, client_of(server) as client:
        task = asyncio.create_task(client.update(A, BODY))
        await eventually(lambda: bool(server.requests))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: server.closed == 1)
        assert len(server.requests) == 1


async def test_a_cancellation_at_any_moment_passes() -> None:
    """Also in the instant of our own deadline, which must not swallow it."""

    async def script(_: Request, peer: Peer) -> None:
        await peer.send(http(200, length=3))
        await peer.reader.read()

    timeouts = Timeouts(post_seconds=0.05)
    ended = 0
    async with raw_server(script) as server, AllocationClient.open(server.url, timeouts=timeouts) as client:
        for step in range(60):
            task = asyncio.create_task(client.update(A, BODY))
            await asyncio.sleep(step * 0.001)
            if task.done():
                ended += 1
                continue
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    assert 0 < ended < 60


async def test_the_default_deadlines_are_the_documented_ones() -> None:
    assert Timeouts() == Timeouts(connect_seconds=3, get_seconds=10, post_seconds=75, bulk_seconds=120)
