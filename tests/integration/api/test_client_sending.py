"""Sending updates: those that are not sent, connections of their own, and cancellation."""

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from allocsync.api.client import AllocationClient, Timeouts
from allocsync.model.api_answers import Accepted, Live, NotSent, UpdateAnswer
from allocsync.model.cloud import Cloud
from allocsync.model.ids import AllocationId
from tests.integration.api.conftest import (
    Peer,
    RawServer,
    Request,
    eventually,
    http_response,
    open_client,
    raw_server,
    refused_port,
    respond_with,
)

A = AllocationId("a")
BODY: Cloud = {"id": "a", "user": "u"}
ECHO = b'{"id":"a","user":"u"}'


async def update(server: RawServer | str, body: Cloud = BODY, **timeouts: float) -> UpdateAnswer:
    async with open_client(server, **timeouts) as client:
        return await client.update(A, body)


async def test_an_update_to_a_refused_port_is_not_sent() -> None:
    with refused_port() as port:
        answer = await update(f"http://127.0.0.1:{port}")
    assert isinstance(answer, NotSent)
    assert answer.reason.startswith(f"no connection to 127.0.0.1:{port}")
    assert answer.unreachable


async def test_an_update_to_an_unknown_host_name_is_not_sent() -> None:
    answer = await update("http://nonexistent.invalid")
    assert isinstance(answer, NotSent)


async def test_an_update_to_an_invalid_host_name_is_not_sent() -> None:
    answer = await update(f"http://{'a' * 70}.invalid")
    assert isinstance(answer, NotSent)


async def test_an_update_with_tls_to_a_plain_port_is_not_sent() -> None:
    async def plain(peer: Peer) -> bool:
        await peer.reader.read(1)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        return False

    async with raw_server(respond_with(b""), on_connect=plain) as server:
        answer = await update(server.url.replace("http:", "https:"))
        assert server.connections == 1
    assert isinstance(answer, NotSent)
    assert server.requests == []


async def test_an_update_whose_tls_handshake_stalls_is_not_sent() -> None:
    async def silent(peer: Peer) -> bool:
        await peer.reader.read()
        return False

    async with raw_server(respond_with(b""), on_connect=silent) as server:
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
async def test_an_update_with_an_invalid_body_is_not_sent(body: Cloud) -> None:
    async with raw_server(respond_with(http_response(200, ECHO))) as server:
        answer = await update(server, body)
        assert server.connections == 0
    assert isinstance(answer, NotSent)
    assert not answer.unreachable


async def test_an_update_of_the_id_dot_dot_is_not_sent() -> None:
    async with raw_server(respond_with(http_response(200, ECHO))) as server, open_client(server) as client:
        assert isinstance(await client.update(AllocationId(".."), {"id": ".."}), NotSent)
        assert server.connections == 0


async def test_a_server_that_closes_idle_connections_causes_no_unknown_outcome() -> None:
    """Reads keep connections open, and updates are sent about when the server closes them."""
    idle_seconds = 0.05

    async def script(request: Request, peer: Peer) -> bool:
        await peer.send(http_response(200, b'{"id":"a"}'))
        return not request.line.startswith("POST")

    async with raw_server(script, idle_seconds=idle_seconds) as server, open_client(server) as client:
        answers = []
        for step in range(40):
            await client.snapshot(A)
            await asyncio.sleep(idle_seconds - 0.01 + step * 0.0005)
            answers.append(await client.update(A, BODY))
        posts = [request for request in server.requests if request.line.startswith("POST")]
        assert server.closed > 40, "the server closed idle connections as well"
    assert [type(answer) for answer in answers] == [Accepted] * 40
    assert len({request.connection for request in posts}) == 40, "each update has a connection of its own"
    assert all(request.headers["connection"] == "close" for request in posts)


async def test_a_read_on_a_stale_connection_is_sent_again() -> None:
    async def script(request: Request, peer: Peer) -> bool:
        if request.connection == 1 and len(server.requests) > 1:
            peer.reset()
            return False
        await peer.send(http_response(200, ECHO))
        return True

    async with raw_server(script) as server, open_client(server) as client:
        assert isinstance(await client.snapshot(A), Live)
        assert isinstance(await client.snapshot(A), Live)
        assert [request.connection for request in server.requests] == [1, 1, 2], (
            "the second request was reset"
        )


async def test_cancelling_an_update_in_flight_raises_and_drops_the_connection() -> None:
    async def script(_: Request, peer: Peer) -> None:
        await peer.reader.read()

    async with raw_server(script) as server, open_client(server) as client:
        task = asyncio.create_task(client.update(A, BODY))
        await eventually(lambda: bool(server.requests))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: server.closed == 1)
        assert len(server.requests) == 1


async def test_a_cancellation_at_any_moment_is_raised() -> None:
    """A cancellation at the same moment as the deadline must not be lost."""

    async def script(_: Request, peer: Peer) -> None:
        await peer.send(http_response(200, length=3))
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
    assert Timeouts() == Timeouts(
        connect_seconds=3,
        get_seconds=10,
        post_seconds=75,
        list_head_seconds=120,
        list_silence_seconds=10,
        list_seconds=600,
    )


@pytest.mark.real
@pytest.mark.skipif(not shutil.which("openssl"), reason="apt-get install openssl")
async def test_an_update_to_a_server_with_an_untrusted_certificate_is_not_sent(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1"]
    command = [*make, "-keyout", str(key), "-out", str(certificate)]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with raw_server(respond_with(http_response(200, ECHO)), tls=context) as server:
        answer = await update(server)
        assert server.requests == []
    assert isinstance(answer, NotSent)
    assert "TLS with 127.0.0.1:" in answer.reason
    assert "certificate" in answer.reason
