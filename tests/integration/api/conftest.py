"""Scripted servers on raw sockets: a test decides every byte, every delay and every reset."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from allocsync.api.client import AllocationClient, Timeouts

WITHIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived; nothing is decoded."""

    connection: int
    head: bytes
    body: bytes

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = (line.split(":", 1) for line in lines if line)
        return {name.lower(): value.strip() for name, value in pairs}


@dataclass
class Peer:
    """One connection of a client, for a script to use."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int

    async def send(self, *pieces: bytes, every_seconds: float = 0.0) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            if every_seconds:
                await asyncio.sleep(every_seconds)

    def reset(self) -> None:
        """Close the connection with a TCP reset instead of an orderly end."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Request, Peer], Awaitable[bool | None]]  # returning False closes the connection


@dataclass
class RawServer:
    """A server that answers by a script and records its requests.

    `connections` counts the accepted connections and `closed` those that have ended. A connection without a
    request for `idle_seconds` is closed. `on_connect` runs before the first request, and False closes the
    connection.
    """

    script: Script
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    closed: int = 0
    idle_seconds: float | None = None
    on_connect: Callable[[Peer], Awaitable[bool]] | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        peer = Peer(reader, writer, self.connections)
        try:
            if self.on_connect is None or await self.on_connect(peer):
                await self._requests(peer)
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            pass
        finally:
            self.closed += 1
            writer.close()

    async def _requests(self, peer: Peer) -> None:
        while True:
            head = await asyncio.wait_for(peer.reader.readuntil(b"\r\n\r\n"), self.idle_seconds)
            request = Request(peer.number, head[:-4], b"")
            length = int(request.headers.get("content-length", "0"))
            request = Request(peer.number, head[:-4], await peer.reader.readexactly(length))
            self.requests.append(request)
            if await self.script(request, peer) is False:
                return


@asynccontextmanager
async def raw_server(
    script: Script,
    *,
    idle_seconds: float | None = None,
    on_connect: Callable[[Peer], Awaitable[bool]] | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[RawServer]:
    """Serve the script on a free port while the context lasts, then cancel every connection."""
    served = RawServer(script, idle_seconds=idle_seconds, on_connect=on_connect)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await served.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    served.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield served
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def http_response(
    status: int, body: bytes = b"", *headers: str, length: int | None = None, phrase: str = "Status"
) -> bytes:
    """Return one complete response as bytes. `length` overrides the Content-Length."""
    lines = [f"HTTP/1.1 {status} {phrase}", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def respond_with(*answers: bytes) -> Script:
    """Return a script that sends these responses in turn and repeats the last one."""
    left = list(answers)

    async def script(_: Request, peer: Peer) -> bool | None:
        await peer.send(left.pop(0) if len(left) > 1 else left[0])
        return None

    return script


@asynccontextmanager
async def open_client(server: RawServer | str, **timeouts: float) -> AsyncIterator[AllocationClient]:
    """Open a client with deadlines short enough for a test."""
    short = {"connect_seconds": 2.0, "get_seconds": 5.0, "post_seconds": 5.0, "list_seconds": 5.0}
    url = server if isinstance(server, str) else server.url
    async with AllocationClient.open(url, timeouts=Timeouts(**{**short, **timeouts})) as client:
        yield client


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds, for at most WITHIN_SECONDS."""
    async with asyncio.timeout(WITHIN_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


@contextmanager
def refused_port() -> Iterator[int]:
    """Yield a port that refuses connections. It is bound, so that no other process can take it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
