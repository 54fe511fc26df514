"""One HTTP exchange with the Allocation API: one request, one deadline, one answer or the lack of one.

The rules:
- The deadline covers everything, name look-up to last byte: a server that drips bytes gains nothing.
- Nothing that a server or a network does is raised. Cancellation by the caller always is.
- No redirect, cookie, proxy from the environment or compressed body; an answer is read up to a bound.
- **An update goes on a connection of its own** (`Connection: close`). A kept connection can die while a
  request is on its way, whatever its age (a server may close after any answer), and a POST on it is then an
  unknown of our making; with a fresh one that cannot happen. It costs a round trip more, two with TLS:
  0.6 instead of 0.4 ms on loopback. Reads share kept connections.
- **An update is sent once.** aiohttp by itself sends only idempotent requests again; reads are sent again
  here, once, and only if the connection had been used before: it was stale. (aiohttp would also double every
  read on a fresh connection that is reset, which is twice the load on a server that is going down.)
- What left is known, not guessed from the kind of error: `sent` is noted just before the first byte.

Left out: what answers mean (`api.answers`).
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from types import SimpleNamespace
from typing import Self

import aiohttp
from aiohttp.http import HttpProcessingError
from yarl import URL

from allocsync.api.credentials import Credentials
from allocsync.api.responses import Answer, NoAnswer, one_line, retry_after_seconds

EXCERPT_BYTES = 16 * 1024  # more of an error's body than this costs its connection
EXCERPT_SECONDS = 1.0  # a body that only explains is not waited for
KEEP_ALIVE_SECONDS = 2.0

_FAULTS = (aiohttp.ClientError, HttpProcessingError, OSError, ValueError)  # OSError: TimeoutError and TLS too


@dataclass(slots=True)
class _Way:
    """What became of one request on its way out."""

    reused: bool = False
    sent: bool = False


class _DroppedError(aiohttp.ClientError):
    """A connection that was lost before an answer, in a form that aiohttp does not try again."""


class Exchange:
    """Sends requests to one API. `wall` gives seconds since the epoch, for dates in Retry-After."""

    def __init__(
        self,
        base_url: URL | None,
        *,
        reads: aiohttp.ClientSession,
        writes: aiohttp.ClientSession,
        credentials: Credentials,
        connect_seconds: float,
        wall: Callable[[], float],
    ) -> None:
        self._secrets: set[str] = set()
        self.use(credentials)
        self.move(base_url)
        self._reads = reads
        self._writes = writes
        self._connect_seconds = connect_seconds
        self._wall = wall

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        base_url: URL | None,
        *,
        headers: Mapping[str, str],
        credentials: Credentials,
        connect_seconds: float,
        wall: Callable[[], float],
    ) -> AsyncIterator[Self]:
        """Open both kinds of connections; the secrets of `credentials` never appear in a message."""
        reads = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)
        writes = aiohttp.TCPConnector(limit=0, force_close=True)
        async with (
            _session(reads, headers, connect_seconds) as for_reads,
            _session(writes, headers, connect_seconds) as for_writes,
        ):
            yield cls(
                base_url,
                reads=for_reads,
                writes=for_writes,
                credentials=credentials,
                connect_seconds=connect_seconds,
                wall=wall,
            )

    def move(self, base_url: URL | None) -> None:
        """Send requests there from the next one on; None: nowhere, until it is known where."""
        self._base = None if base_url is None else str(base_url).rstrip("/")
        self._where = "" if base_url is None else f"{base_url.host_subcomponent}:{base_url.port}"

    def use(self, credentials: Credentials) -> None:
        """Send these from the next request on. What was a secret once stays out of messages."""
        self._credentials = credentials
        self._secrets.update(credentials.secrets())

    async def get(self, path: str, *, seconds: float, max_bytes: int) -> Answer | NoAnswer:
        """Read `path`, which is already percent-encoded, in at most so many seconds."""
        return await self._exchange(self._reads, "GET", path, None, seconds=seconds, max_bytes=max_bytes)

    async def post(self, path: str, body: bytes, *, seconds: float, max_bytes: int) -> Answer | NoAnswer:
        """Send `body` once, in at most so many seconds."""
        return await self._exchange(self._writes, "POST", path, body, seconds=seconds, max_bytes=max_bytes)

    async def _exchange(
        self,
        session: aiohttp.ClientSession,
        method: str,
        path: str,
        body: bytes | None,
        *,
        seconds: float,
        max_bytes: int,
    ) -> Answer | NoAnswer:
        if self._base is None:
            return NoAnswer("no Allocation API has been found yet", sent=False)
        deadline = asyncio.get_running_loop().time() + seconds
        way = _Way()

        async def on_its_way(
            request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            return await _sent_once(request, send, way)

        try:
            async with asyncio.timeout_at(deadline):
                response = await session.request(
                    method,
                    URL(self._base + path, encoded=True),
                    data=body,
                    headers=tuple(self._credentials.headers()),
                    ssl=self._credentials.tls or True,
                    allow_redirects=False,
                    trace_request_ctx=way,
                    middlewares=(on_its_way,),
                )
        except _FAULTS as error:
            return NoAnswer(self._why(error, seconds), sent=way.sent)
        try:
            return await self._answer(response, deadline=deadline, seconds=seconds, max_bytes=max_bytes)
        finally:
            response.close()

    async def _answer(
        self, response: aiohttp.ClientResponse, *, deadline: float, seconds: float, max_bytes: int
    ) -> Answer:
        after = retry_after_seconds(
            response.headers.get("Retry-After"), date=response.headers.get("Date"), wall=self._wall()
        )
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            problem = f"the body is encoded ({one_line(encoding, 20)}), which was not asked for"
            return Answer(response.status, problem=problem, retry_after_seconds=after)
        if response.status != HTTPStatus.OK:
            excerpt = await self._excerpt(response, deadline)
            return Answer(response.status, excerpt=excerpt, retry_after_seconds=after)
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout_at(deadline):
                whole = await _read(response, chunks, max_bytes)
        except _FAULTS as error:
            problem = f"the body is cut off: {self._why(error, seconds)}"
            return Answer(response.status, problem=problem, retry_after_seconds=after)
        if not whole:
            problem = f"the body is larger than {max_bytes:,} bytes"
            return Answer(response.status, problem=problem, retry_after_seconds=after)
        return Answer(response.status, tuple(chunks), retry_after_seconds=after)

    async def _excerpt(self, response: aiohttp.ClientResponse, deadline: float) -> str:
        """As much of an explaining body as comes quickly; the status line stands without it."""
        chunks: list[bytes] = []
        soon = asyncio.get_running_loop().time() + EXCERPT_SECONDS
        try:
            async with asyncio.timeout_at(min(soon, deadline)):
                await _read(response, chunks, EXCERPT_BYTES)
        except _FAULTS:
            pass  # what came before is shown
        return self._clean(b"".join(chunks).decode(errors="replace"))

    def _clean(self, text: str) -> str:
        text = one_line(text, len(text))
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return one_line(text)

    def _why(self, error: BaseException, seconds: float) -> str:
        """The fault in words, without secrets."""
        match error:
            case aiohttp.ClientConnectorDNSError():
                text = f"the host name of {self._where} cannot be resolved: {_cause(error.os_error)}"
            case aiohttp.ClientSSLError() | ssl.SSLError():
                text = f"TLS with {self._where} failed: {error}"
            case aiohttp.ConnectionTimeoutError():
                text = f"no connection to {self._where} within {self._connect_seconds:g} s"
            case aiohttp.ClientConnectorError():
                text = f"no connection to {self._where}: {_cause(error.os_error)}"
            case TimeoutError():
                text = f"no answer from {self._where} within {seconds:g} s"
            case _DroppedError() | aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
                text = f"{self._where} dropped the connection before it had answered"
            case aiohttp.ClientResponseError() | HttpProcessingError():
                text = f"what {self._where} sent is not HTTP: {error.message}"
            case aiohttp.ClientPayloadError():
                text = f"{self._where} ended the connection in the middle"
            case _:
                text = f"{type(error).__name__}: {error}"
        return self._clean(text)


def _session(
    connector: aiohttp.TCPConnector, headers: Mapping[str, str], connect_seconds: float
) -> aiohttp.ClientSession:
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_note_reuse)
    trace.on_request_headers_sent.append(_note_sent)
    return aiohttp.ClientSession(
        connector=connector,
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        # No total here: the deadline is ours, so that ours and the caller's cancellation are told apart.
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_seconds),
        trace_configs=[trace],
    )


async def _note_reuse(_session: aiohttp.ClientSession, context: SimpleNamespace, _: object) -> None:
    context.trace_request_ctx.reused = True


async def _note_sent(_session: aiohttp.ClientSession, context: SimpleNamespace, _: object) -> None:
    context.trace_request_ctx.sent = True


async def _sent_once(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType, way: _Way
) -> aiohttp.ClientResponse:
    """Send; a read that met a stale connection goes once more. What is raised, aiohttp does not retry."""
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        if not way.reused or request.method != "GET":
            raise _DroppedError from error
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _DroppedError from error


async def _read(response: aiohttp.ClientResponse, chunks: list[bytes], max_bytes: int) -> bool:
    """Read the body into `chunks`; False when it is larger than `max_bytes`."""
    if (response.content_length or 0) > max_bytes:
        return False
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > max_bytes:
            return False
        chunks.append(chunk)
    return True


def _cause(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
