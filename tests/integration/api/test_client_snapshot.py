"""Reads of one allocation over real sockets: Live, Missing or Failed, and nothing is raised."""

import asyncio
import gzip
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocsync.model.api_answers import Failed, Live, Missing, Snapshot
from allocsync.model.cloud import NumberLiteral
from allocsync.model.ids import AllocationId
from tests.integration.api.conftest import (
    Peer,
    RawServer,
    Request,
    http_response,
    open_client,
    raw_server,
    refused_port,
    respond_with,
)
from tests.support.tier import part_of

A = AllocationId("a")
CLOUD = b'{"id":"a","user":"u","new":{"n":[1.10,1e400,-0]}}'
SECRET = "s3cret-token"


async def read(server: RawServer, allocation_id: str = "a", **timeouts: float) -> Snapshot:
    async with open_client(server, **timeouts) as client:
        return await client.snapshot(AllocationId(allocation_id))


async def test_an_object_with_the_right_id_is_live_and_unchanged() -> None:
    async with raw_server(respond_with(http_response(200, CLOUD))) as server:
        found = await read(server)
    assert isinstance(found, Live)
    assert found.cloud["new"] == {"n": [NumberLiteral("1.10"), NumberLiteral("1e400"), NumberLiteral("-0")]}
    assert [request.line for request in server.requests] == ["GET /allocation/a HTTP/1.1"]


async def test_every_status_except_200_and_410_is_a_failed_read() -> None:
    statuses = [status for status in range(200, 600) if status not in (200, 204, 304, 410)]
    async with (
        raw_server(respond_with(*(http_response(status, CLOUD) for status in statuses))) as server,
        open_client(server) as client,
    ):
        for status in statuses:
            found = await client.snapshot(A)
            assert isinstance(found, Failed), status
            assert found.status == status
            assert found.reason.startswith(str(status))
    assert len(server.requests) == len(statuses)


@pytest.mark.parametrize("status", [204, 304])
async def test_a_response_without_a_body_is_a_failed_read(status: int) -> None:
    async with raw_server(respond_with(f"HTTP/1.1 {status} Status\r\n\r\n".encode())) as server:
        found = await read(server)
    assert isinstance(found, Failed)
    assert found.status == status


@pytest.mark.parametrize("status", [100, 102, 103])
async def test_an_informational_response_alone_is_a_failed_read(status: int) -> None:
    async with raw_server(respond_with(f"HTTP/1.1 {status} Status\r\n\r\n".encode())) as server:
        found = await read(server, get_seconds=0.2)
    assert isinstance(found, Failed)
    assert found.status is None
    assert "no answer" in found.reason
    assert len(server.requests) == 1


async def test_410_is_missing_even_if_its_body_is_cut_off() -> None:
    async def script(_: Request, peer: Peer) -> bool:
        await peer.send(http_response(410, b"Cloud no", length=500))
        return False

    async with raw_server(script) as server:
        assert await read(server) == Missing()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"<!DOCTYPE html><h1>Welcome</h1>", "not JSON", id="html"),
        pytest.param(b"[]", "not a JSON object", id="array"),
        pytest.param(b'"a"', "not a JSON object", id="string"),
        pytest.param(b'{"id":"a"', "not JSON", id="cut"),
        pytest.param(b'{"id":"a","n":NaN}', "NaN", id="nan"),
        pytest.param(b'{"id":"a","n":"\xff"}', "not JSON", id="not UTF-8"),
        pytest.param(b'{"id":"b"}', "another id: 'b'", id="another id"),
        pytest.param(b'{"id":1}', "no id", id="a number for an id"),
        pytest.param(b"{}", "no id", id="no id"),
        pytest.param(b'{"id":"a","x":' + b"[" * 100_000, "nested deeper", id="deep"),
    ],
)
async def test_a_200_without_the_right_object_is_a_failed_read(body: bytes, reason: str) -> None:
    async with raw_server(respond_with(http_response(200, body))) as server:
        found = await read(server)
    assert isinstance(found, Failed)
    assert found.status == 200
    assert reason in found.reason
    assert len(server.requests) == 1


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "chunked"])
async def test_a_body_over_the_limit_is_not_read_to_its_end(*, chunked: bool) -> None:
    body = b'{"id":"a","x":"' + b"x" * 2_000_000 + b'"}'

    async def script(_: Request, peer: Peer) -> bool:
        if chunked:
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            await peer.send(head, b"%x\r\n" % len(body), body, b"\r\n0\r\n\r\n")
        else:
            await peer.send(http_response(200, body))
        return False

    async with raw_server(script) as server:
        found = await read(server)
    assert isinstance(found, Failed)
    assert "larger than 1,048,576 bytes" in found.reason
    assert len(server.requests) == 1


async def test_a_compressed_body_is_unusable_and_not_decompressed() -> None:
    packed = gzip.compress(CLOUD)
    async with raw_server(respond_with(http_response(200, packed, "Content-Encoding: gzip"))) as server:
        found = await read(server)
    assert isinstance(found, Failed)
    assert "encoded (gzip)" in found.reason
    assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "nonsense"])
async def test_a_410_with_a_compressed_body_is_missing(encoding: str) -> None:
    async with raw_server(
        respond_with(http_response(410, b"\xffrubbish", f"Content-Encoding: {encoding}"))
    ) as server:
        assert await read(server) == Missing()
    assert len(server.requests) == 1


async def test_a_content_length_over_the_limit_fails_at_once() -> None:
    async with raw_server(respond_with(http_response(200, b"{", length=2_000_000))) as server:
        found = await read(server)
    assert isinstance(found, Failed)
    assert "larger than 1,048,576 bytes" in found.reason


async def test_a_redirect_is_never_followed() -> None:
    async with (
        raw_server(respond_with(http_response(200, CLOUD))) as second,
        raw_server(respond_with(http_response(302, b"", f"Location: {second.url}/allocation/a"))) as server,
    ):
        found = await read(server)
        assert second.connections == 0
    assert isinstance(found, Failed)
    assert found.status == 302
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([bytes([c]) for c in b"HTTP/1.1 200 OK\r\n" * 20], id="the head"),
        pytest.param([http_response(200, length=900), *[b" "] * 900], id="the body"),
        pytest.param([http_response(200, length=900)], id="nothing after the head"),
        pytest.param([], id="nothing at all"),
    ],
)
async def test_a_server_that_sends_byte_by_byte_does_not_extend_the_deadline(pieces: list[bytes]) -> None:
    async def script(_: Request, peer: Peer) -> None:
        await peer.send(*pieces, every_seconds=0.05)
        await peer.reader.read()

    async with raw_server(script) as server:
        begun = time.monotonic()
        found = await read(server, get_seconds=0.3)
        took = time.monotonic() - begun
        assert len(server.requests) == 1
    assert isinstance(found, Failed)
    assert "no answer" in found.reason or "not complete within 0.3 s" in found.reason
    assert 0.25 < took < 3


async def test_an_error_with_a_slow_body_is_known_by_its_status() -> None:
    async def script(_: Request, peer: Peer) -> None:
        await peer.send(http_response(503, b"on fire", "Retry-After: 7", length=900))
        await peer.reader.read()

    async with raw_server(script) as server:
        found = await read(server, get_seconds=0.3)
    assert found == Failed("503 Service Unavailable: on fire", 503, 7.0)


async def test_of_a_long_error_the_first_bytes_are_quoted() -> None:
    async with raw_server(respond_with(http_response(502, b"on fire " * 4_000))) as server:
        found = await read(server)
    assert isinstance(found, Failed)
    assert found.reason.startswith("502 Bad Gateway: on fire on fire")


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="reset after reading"),
        pytest.param(b"HTTP/1.1 200", id="reset in the head"),
        pytest.param(http_response(200, CLOUD, length=900), id="reset in the body"),
    ],
)
async def test_a_read_that_is_reset_fails_and_is_not_sent_again(raw: bytes) -> None:
    async def script(_: Request, peer: Peer) -> bool:
        await peer.send(raw)
        await asyncio.sleep(0.05)  # otherwise the reset discards the bytes before they arrive
        peer.reset()
        return False

    async with raw_server(script) as server:
        found = await read(server)
    assert isinstance(found, Failed)
    assert len(server.requests) == 1, "aiohttp did not send it again"


async def test_a_reset_before_the_request_is_read_is_a_failed_read() -> None:
    async def reset_at_once(peer: Peer) -> bool:
        peer.reset()
        return False

    async with raw_server(respond_with(b""), on_connect=reset_at_once) as server:
        found = await read(server)
        assert server.connections == 1
    assert isinstance(found, Failed)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(http_response(200, CLOUD, length=900), id="shorter than it says"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}", id="chunk without size"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", id="chunk cut off"),
        pytest.param(b"SSH-2.0-OpenSSH_9.7\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", id="a huge header"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 50_000 + b"\r\n", id="many headers"),
        pytest.param(b"HTTP/1.1 20 OK\r\n\r\n", id="two digits"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", id="a negative length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{", id="two lengths"),
        pytest.param(b"\x00" * 5_000, id="zeros"),
    ],
)
async def test_a_response_that_is_not_http_is_a_failed_read(raw: bytes) -> None:
    async def script(_: Request, peer: Peer) -> bool:
        await peer.send(raw)
        return False

    async with raw_server(script) as server:
        found = await read(server)
    assert isinstance(found, Failed)
    assert len(found.reason) < 400
    assert found.reason.isprintable()
    assert len(server.requests) == 1


@settings(max_examples=part_of(60))
@given(
    raw=st.one_of(
        st.binary(max_size=300), st.binary(max_size=80).map(lambda tail: b"HTTP/1.1 200 OK\r\n" + tail)
    )
)
def test_no_bytes_make_the_client_raise(raw: bytes) -> None:
    async def play() -> tuple[Snapshot, int]:
        async def script(_: Request, peer: Peer) -> bool:
            await peer.send(raw)
            return False

        async with raw_server(script) as server:
            return await read(server, get_seconds=1.0), len(server.requests)

    found, requests = asyncio.run(play())
    asyncio.set_event_loop(None)
    assert not isinstance(found, Live)
    assert requests == 1


async def test_a_refused_connection_and_an_unknown_host_name_are_failed_reads() -> None:
    with refused_port() as port:
        async with open_client(f"http://127.0.0.1:{port}") as client:
            refused = await client.snapshot(A)
    async with open_client("http://nonexistent.invalid") as client:
        unknown = await client.snapshot(A)
    assert isinstance(refused, Failed)
    assert "no connection to 127.0.0.1:" in refused.reason
    assert refused.unreachable
    assert isinstance(unknown, Failed)
    assert unknown.unreachable
    assert unknown.status is None
