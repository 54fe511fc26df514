"""Requests: their lines and headers, the messages about them, and cancellation."""

import asyncio

import pytest

from allocsync.api.client import AllocationClient
from allocsync.api.credentials import Credentials
from allocsync.errors import SettingsError
from allocsync.model.api_answers import Failed, Live, Snapshot
from allocsync.model.ids import AllocationId
from tests.integration.api.conftest import (
    Peer,
    RawServer,
    Request,
    eventually,
    http_response,
    open_client,
    raw_server,
    respond_with,
)

A = AllocationId("a")
CLOUD = b'{"id":"a"}'
SECRET = "s3cret-token"


async def read(server: RawServer, allocation_id: str = "a", **timeouts: float) -> Snapshot:
    async with open_client(server, **timeouts) as client:
        return await client.snapshot(AllocationId(allocation_id))


@pytest.mark.parametrize(
    "allocation_id", ["a/b c", "é", "%", "%2F", "?x=1", "#f", "a;b", "a+b", "…", "a\\b", "~"]
)
async def test_an_id_is_percent_encoded_as_one_path_segment(allocation_id: str) -> None:
    async with raw_server(respond_with(http_response(404))) as server:
        await read(server, allocation_id)
    expected = "".join(
        c if c.isascii() and (c.isalnum() or c in "-._~") else "".join(f"%{b:02X}" for b in c.encode())
        for c in allocation_id
    )
    assert [request.line for request in server.requests] == [f"GET /allocation/{expected} HTTP/1.1"]


@pytest.mark.parametrize("allocation_id", ["", ".", "..", "\ud800"])
async def test_an_id_that_cannot_be_a_path_segment_is_not_requested(allocation_id: str) -> None:
    async with raw_server(respond_with(http_response(200, CLOUD))) as server:
        found = await read(server, allocation_id)
        assert server.connections == 0
    assert isinstance(found, Failed)
    assert "no URL can hold this id" in found.reason


@pytest.mark.parametrize(
    ("suffix", "prefix"),
    [("", ""), ("/", ""), ("/base", "/base"), ("/base/", "/base"), ("/a%2Fb/", "/a%2Fb")],
)
async def test_a_base_url_may_have_a_path_and_end_with_a_slash(suffix: str, prefix: str) -> None:
    async with (
        raw_server(respond_with(http_response(404))) as server,
        open_client(server.url + suffix) as client,
    ):
        await client.snapshot(A)
    assert server.requests[0].line == f"GET {prefix}/allocation/a HTTP/1.1"


@pytest.mark.parametrize(
    "url",
    ["", "localhost:1000", "ftp://h", "http://", "http://u:p@h", "http://h?q=1", "http://h#f", "http://h:x"],
)
async def test_an_invalid_base_url_is_a_settings_error(url: str) -> None:
    with pytest.raises(SettingsError, match="api_url"):
        async with AllocationClient.open(url):
            pass


async def test_the_headers_are_the_documented_ones() -> None:
    async with (
        raw_server(respond_with(http_response(404, b"", "Set-Cookie: a=b; Path=/"))) as server,
        AllocationClient.open(server.url, credentials=Credentials(SECRET, "app-1")) as client,
        AllocationClient.open(server.url) as plain,
    ):
        for _ in range(2):
            await client.snapshot(A)
        await plain.snapshot(A)
    first, second, without = (request.headers for request in server.requests)
    assert first["accept"] == "application/json, text/plain"
    assert first["content-type"] == "application/json"
    assert first["user-agent"].startswith("allocsync/")
    assert first["x-application-id"] == "app-1"
    assert first["authorization"] == f"Bearer {SECRET}"
    assert "cookie" not in second
    assert not {"x-application-id", "authorization"} & set(without)


async def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with raw_server(respond_with(http_response(200, CLOUD))) as server:
        assert isinstance(await read(server), Live)


async def test_no_message_contains_a_secret_or_a_control_character() -> None:
    error_body = (
        f"no\x1b[31m entry\r\nfor Bearer {SECRET[:4]}\x00{SECRET[4:]} and app-1 \u202e {'x' * 500}".encode()
    )
    async with (
        raw_server(respond_with(http_response(401, error_body))) as server,
        AllocationClient.open(server.url, credentials=Credentials(SECRET, "app-1")) as client,
    ):
        found = await client.snapshot(A)
    assert isinstance(found, Failed)
    assert found.reason.startswith("401 Unauthorized: no[31m entry for Bearer *** and *** xxx")
    assert found.reason.isprintable()
    assert len(found.reason) == len("401 Unauthorized: ") + 200


@pytest.mark.parametrize("bad", ["two words", "a\r\nX: y", "é"])
async def test_a_secret_that_cannot_be_a_header_is_refused_and_not_quoted(bad: str) -> None:
    with pytest.raises(SettingsError) as caught:
        async with AllocationClient.open("http://127.0.0.1:9", credentials=Credentials(bad)):
            pass
    assert bad not in str(caught.value)


async def test_cancellation_by_the_caller_is_raised() -> None:
    async def script(_: Request, peer: Peer) -> None:
        await peer.send(http_response(200, length=5))
        await peer.reader.read()

    async with raw_server(script) as server, open_client(server) as client:
        task = asyncio.create_task(client.snapshot(A))
        await eventually(lambda: bool(server.requests))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: server.closed == 1)


async def test_a_deadline_of_the_caller_raises_its_timeout_error() -> None:
    async def script(_: Request, peer: Peer) -> None:
        await peer.reader.read()

    async with raw_server(script) as server, open_client(server) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.snapshot(A)
        assert len(server.requests) == 1
