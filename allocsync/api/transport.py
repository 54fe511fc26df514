"""Sends one HTTP request to the Allocation API and returns the response, or why there is none.

The rules:
- One deadline covers the whole request, from the name look-up to the last byte of the response. A server
  that sends its response slowly, byte by byte, cannot extend it. A long response can have two more limits:
  for the time until its head has arrived, and for the silence between two pieces of its body.
- A failure of the server or the network is returned as a value, never raised. Cancellation by the caller is
  always raised.
- Redirects are not followed, cookies and compression are not used, and the proxy settings of the environment
  are ignored. A response is read up to a limit.
- **An update gets a connection of its own** (`Connection: close`). The server can close a kept connection
  while a request is on its way, and the outcome of a POST would then be unknown. A new connection costs one
  more round trip, two with TLS: 0.6 ms instead of 0.4 ms on loopback. Reads share kept connections.
- **An update is sent once.** A read is sent a second time only if a reused connection was dropped. aiohttp's
  own retry is disabled: it also repeats a read that failed on a new connection, and so doubles the load on a
  server that is failing.
- A read asks caches not to answer (`Cache-Control: no-cache`). Some do all the same, so the age of each
  answer is taken from its headers (`api.evidence_time`).
- `sent` is recorded when the first byte of the request is written, not derived from the kind of error.

Left out: what a response means (`api.responses`), and how large it may be (`api.client`).
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from types import SimpleNamespace
from typing import Self

import aiohttp
from aiohttp.http import HttpProcessingError
from yarl import URL

from allocsync.api.credentials import Credentials
from allocsync.api.evidence_time import EvidenceTime
from allocsync.api.http_date import parse_http_date
from allocsync.api.responses import NoResponse, Response, parse_retry_after, to_one_line
from allocsync.model.times import Monotonic, WallTime

EXCERPT_BYTES = 16 * 1024  # of an error's body; the connection of a longer one is closed
EXCERPT_SECONDS = 1.0  # an error's body is read for this long at most
KEEP_ALIVE_SECONDS = 2.0

# OSError includes TimeoutError and TLS errors.
_NETWORK_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError, ValueError)


@dataclass(slots=True)
class _RequestProgress:
    """How far one request has got: whether its connection was reused, and whether anything was sent."""

    reused: bool = False
    sent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long one request may take, in seconds, and how large the body of a 200 may be.

    `total_seconds` is from the start to the last byte of the response, `head_seconds` from the start to the
    end of its head, and `silence_seconds` the longest time without any byte of its body. None: no limit of
    its own.
    """

    total_seconds: float
    head_seconds: float | None = None
    silence_seconds: float | None = None
    max_bytes: int


class _SilentError(aiohttp.ClientError):
    """No byte of the body arrived for as long as is permitted."""


class _ConnectionDroppedError(aiohttp.ClientError):
    """The connection was dropped before a response arrived. aiohttp does not retry after this error."""


class Transport:
    """Sends requests to one API. Made by `Transport.open`.

    `wall` returns the wall-clock time in seconds since the epoch, which is needed for dates in Retry-After.
    """

    def __init__(
        self,
        base_url: URL | None,
        *,
        reads: aiohttp.ClientSession,
        writes: aiohttp.ClientSession,
        credentials: Credentials,
        connect_seconds: float,
        wall: Callable[[], WallTime],
    ) -> None:
        self._secrets: set[str] = set()
        self.set_credentials(credentials)
        self.set_base_url(base_url)
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
        wall: Callable[[], WallTime],
    ) -> AsyncIterator[Self]:
        """Open the connection pools for reads and for updates while the context lasts.

        The secrets of `credentials` never appear in a message.
        """
        reads = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)
        writes = aiohttp.TCPConnector(limit=0, force_close=True)
        async with (
            _session(reads, {**headers, "Cache-Control": "no-cache"}, connect_seconds) as for_reads,
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

    def set_base_url(self, base_url: URL | None) -> None:
        """Use this base URL from the next request on. With None, nothing is sent."""
        self._base_url = None if base_url is None else str(base_url).rstrip("/")
        self._evidence_time = EvidenceTime()  # the clock of another server
        self._address = "" if base_url is None else f"{base_url.host_subcomponent}:{base_url.port}"

    def set_credentials(self, credentials: Credentials) -> None:
        """Use these credentials from the next request on. Earlier secrets still stay out of messages."""
        self._credentials = credentials
        self._secrets.update(credentials.secrets())

    async def get(self, path: str, limits: Limits) -> Response | NoResponse:
        """Send a GET for `path`, which is percent-encoded already.

        The body of a 200 is not used if it exceeds a limit.
        """
        return await self._request(self._reads, "GET", path, None, limits)

    async def post(self, path: str, body: bytes, limits: Limits) -> Response | NoResponse:
        """Send a POST of `body` once; `limits` mean the same as for `get`."""
        return await self._request(self._writes, "POST", path, body, limits)

    async def _request(
        self,
        session: aiohttp.ClientSession,
        method: str,
        path: str,
        body: bytes | None,
        limits: Limits,
    ) -> Response | NoResponse:
        if self._base_url is None:
            return NoResponse("no Allocation API has been found yet", sent=False)
        begun = Monotonic(asyncio.get_running_loop().time())
        head_seconds = min(limits.total_seconds, limits.head_seconds or limits.total_seconds)
        progress = _RequestProgress()

        async def send_tracked(
            request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            return await _send_once(request, send, progress)

        try:
            async with asyncio.timeout_at(float(begun + head_seconds)):
                response = await session.request(
                    method,
                    URL(self._base_url + path, encoded=True),
                    data=body,
                    headers=tuple(self._credentials.headers()),
                    ssl=self._credentials.tls_context or True,
                    allow_redirects=False,
                    trace_request_ctx=progress,
                    middlewares=(send_tracked,),
                )
        except _NETWORK_ERRORS as error:
            return NoResponse(self._describe_error(error, head_seconds), sent=progress.sent)
        try:
            age_seconds = self._age_seconds(response, begun)
            answer = await self._read_response(response, limits, deadline=begun + limits.total_seconds)
            return replace(answer, evidence_age_seconds=age_seconds) if age_seconds else answer
        finally:
            response.close()

    def _age_seconds(self, response: aiohttp.ClientResponse, begun: Monotonic) -> float:
        """Return how old a response to a request of `begun` is, whose head has just arrived."""
        now = Monotonic(asyncio.get_running_loop().time())
        date = parse_http_date(response.headers.get("Date", "").strip(), wall=self._wall())
        self._evidence_time.record(date, arrived=now)
        return self._evidence_time.age_seconds(date, response.headers.get("Age"), begun=begun, now=now)

    async def _read_response(
        self, response: aiohttp.ClientResponse, limits: Limits, *, deadline: Monotonic
    ) -> Response:
        after = parse_retry_after(
            response.headers.get("Retry-After"), date=response.headers.get("Date"), wall=self._wall()
        )
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            problem = f"the body is encoded ({to_one_line(encoding, 20)}), which was not asked for"
            return Response(response.status, problem=problem, retry_after_seconds=after)
        if response.status != HTTPStatus.OK:
            excerpt = await self._read_excerpt(response, deadline)
            return Response(response.status, excerpt=excerpt, retry_after_seconds=after)
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout_at(float(deadline)):
                declared = response.content_length or 0
                whole = declared <= limits.max_bytes and await _read_body(
                    response, chunks, limits.max_bytes, silence_seconds=limits.silence_seconds
                )
        except _NETWORK_ERRORS as error:
            size = sum(map(len, chunks))
            if isinstance(error, TimeoutError):
                reason = f"it was not complete within {limits.total_seconds:g} s"
            elif isinstance(error, _SilentError):
                reason = f"{limits.silence_seconds:g} s passed without a byte of it"
            else:
                reason = self._describe_error(error, limits.total_seconds)
            problem = f"the body is cut off after {size:,} bytes: {reason}"
            return Response(response.status, problem=problem, retry_after_seconds=after)
        if not whole:
            problem = f"the body is larger than {limits.max_bytes:,} bytes"
            return Response(response.status, problem=problem, retry_after_seconds=after)
        return Response(response.status, tuple(chunks), retry_after_seconds=after)

    async def _read_excerpt(self, response: aiohttp.ClientResponse, deadline: Monotonic) -> str:
        """Return what arrives of an error's body within EXCERPT_SECONDS, without secrets.

        A failure here changes nothing, because the status is known. Of a body that is longer than
        EXCERPT_BYTES, the first bytes are returned.
        """
        chunks: list[bytes] = []
        soon = Monotonic(asyncio.get_running_loop().time()) + EXCERPT_SECONDS
        try:
            async with asyncio.timeout_at(float(min(soon, deadline))):
                await _read_body(response, chunks, EXCERPT_BYTES)
        except _NETWORK_ERRORS:
            pass  # what arrived until then is returned
        return self._redact(b"".join(chunks).decode(errors="replace"))

    def _redact(self, text: str) -> str:
        text = to_one_line(text, len(text))  # first, so that a secret cannot hide between control characters
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return to_one_line(text)

    def _describe_error(self, error: BaseException, seconds: float) -> str:
        """Return the error in words, without secrets."""
        match error:
            case aiohttp.ClientConnectorDNSError():
                text = f"the host name of {self._address} cannot be resolved: {_os_reason(error.os_error)}"
            case aiohttp.ClientSSLError() | ssl.SSLError():
                text = f"TLS with {self._address} failed: {error}"
            case aiohttp.ConnectionTimeoutError():
                text = f"no connection to {self._address} within {self._connect_seconds:g} s"
            case aiohttp.ClientConnectorError():
                text = f"no connection to {self._address}: {_os_reason(error.os_error)}"
            case TimeoutError():
                text = f"no answer from {self._address} within {seconds:g} s"
            case _ConnectionDroppedError() | aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
                text = f"{self._address} dropped the connection before it answered"
            case aiohttp.ClientResponseError() | HttpProcessingError():
                text = f"the response from {self._address} is not HTTP: {error.message}"
            case aiohttp.ClientPayloadError():
                text = f"{self._address} closed the connection in the middle of the response"
            case _:
                text = f"{type(error).__name__}: {error}"
        return self._redact(text)


def _session(
    connector: aiohttp.TCPConnector, headers: Mapping[str, str], connect_seconds: float
) -> aiohttp.ClientSession:
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_record_reuse)
    trace.on_request_headers_sent.append(_record_sent)
    return aiohttp.ClientSession(
        connector=connector,
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        # No total here: the deadline is set in `_request`, so that it is not confused with a cancellation.
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_seconds),
        trace_configs=[trace],
    )


async def _record_reuse(_session: aiohttp.ClientSession, context: SimpleNamespace, _: object) -> None:
    context.trace_request_ctx.reused = True


async def _record_sent(_session: aiohttp.ClientSession, context: SimpleNamespace, _: object) -> None:
    context.trace_request_ctx.sent = True


async def _send_once(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType, progress: _RequestProgress
) -> aiohttp.ClientResponse:
    """Send the request, and send a read once more if its reused connection was dropped.

    Errors that aiohttp would retry are raised as _ConnectionDroppedError.
    """
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        if not progress.reused or request.method != "GET":
            raise _ConnectionDroppedError from error
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _ConnectionDroppedError from error


async def _read_body(
    response: aiohttp.ClientResponse,
    chunks: list[bytes],
    max_bytes: int,
    *,
    silence_seconds: float | None = None,
) -> bool:
    """Append the body to `chunks`. Returns False, with its first bytes only, if it exceeds `max_bytes`.

    Raises:
        _SilentError: no byte arrived for `silence_seconds`.
    """
    size = 0
    while True:
        try:
            async with asyncio.timeout(silence_seconds):
                chunk = await response.content.readany()
        except TimeoutError as error:
            raise _SilentError from error
        if not chunk:
            return True
        chunks.append(chunk[: max_bytes - size])
        size += len(chunk)
        if size > max_bytes:
            return False


def _os_reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
