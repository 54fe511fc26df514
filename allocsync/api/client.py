"""The client of the Allocation API: read one allocation, update one allocation, list all of them.

The rules:
- A failure of the server or the network is returned as a value. Only `list` raises one: BulkUnavailable.
  Cancellation by the caller is always raised.
- An update is sent once, on a connection of its own. An update that may have reached the server is never
  reported as rejected or as not sent.
- A response has at most `MAX_RESPONSE_BYTES`, a list at most `MAX_LIST_BYTES`.
- The id is percent-encoded as one path segment. The ids `.` and `..` are refused before anything is sent,
  because servers and proxies read them as relative paths.

Left out: retries (`api.backoff`, `reconcile.reconciler`), sending a request (`api.transport`) and the meaning
of responses (`api.responses`).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self
from urllib.parse import quote

from yarl import URL

from allocsync import __version__
from allocsync.api import json_codec, responses
from allocsync.api.credentials import Credentials
from allocsync.api.list_parser import ListParser
from allocsync.api.transport import Limits, Transport
from allocsync.errors import BulkUnavailable, SettingsError
from allocsync.model.api_answers import Failed, Live, NotSent, Snapshot, UpdateAnswer
from allocsync.model.cloud import Cloud
from allocsync.model.ids import AllocationId
from allocsync.model.times import WallTime

MAX_RESPONSE_BYTES = 1024 * 1024
MAX_LIST_BYTES = 128 * 1024 * 1024  # received before it is parsed; about 200,000 allocations
RECORDS_PER_BATCH = 50  # parsed at a time: the event loop waits for about a millisecond per batch
INLINE_PARSE_BYTES = 64 * 1024  # a smaller list is parsed without a thread, which would cost more

_HEADERS = {
    "Accept": "application/json, text/plain",
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": f"allocsync/{__version__}",
}
_ROUTE_MISSING = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Deadlines in seconds, from the look-up of the host name to the last byte of the response.

    `connect_seconds` limits only the time until the connection is open. That time is part of the others too.
    A list may take long to compute and long to send. `list_head_seconds` is until the head of its response
    has arrived, `list_silence_seconds` the longest time without a byte after that. `list_seconds` ends only
    one that trickles for ever: the largest list permitted takes less at 300 kB a second.
    `post_seconds` is longer than the usual timeout of a gateway (60 s), so that the gateway answers before
    the client gives up and a slow update does not end with an unknown outcome needlessly.
    """

    connect_seconds: float = 3.0
    get_seconds: float = 10.0
    post_seconds: float = 75.0
    list_head_seconds: float = 120.0
    list_silence_seconds: float = 10.0
    list_seconds: float = 600.0


class AllocationClient:
    """A client of one Allocation API. Made by `AllocationClient.open`."""

    def __init__(
        self, transport: Transport, *, timeouts: Timeouts, max_response_bytes: int, max_list_bytes: int
    ) -> None:
        self._transport = transport
        self._timeouts = timeouts
        self._max_response_bytes = max_response_bytes
        self._max_list_bytes = max_list_bytes

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        base_url: str | None,
        *,
        credentials: Credentials = Credentials(),
        timeouts: Timeouts = Timeouts(),
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        max_list_bytes: int = MAX_LIST_BYTES,
        wall: Callable[[], WallTime] = lambda: WallTime(time.time()),
    ) -> AsyncIterator[Self]:
        """Open a client while the context lasts. Does not connect yet.

        `base_url` may have a path and may end with a slash; None means that it is not known yet (see
        `set_base_url`). `wall` returns the wall-clock time in seconds since the epoch, which is needed for
        dates in Retry-After.

        Raises:
            SettingsError: `base_url` is not an http or https URL, or has a user, a query or a fragment.
        """
        async with Transport.open(
            None if base_url is None else _parse_base_url(base_url),
            headers=_HEADERS,
            credentials=credentials,
            connect_seconds=timeouts.connect_seconds,
            wall=wall,
        ) as transport:
            yield cls(
                transport,
                timeouts=timeouts,
                max_response_bytes=max_response_bytes,
                max_list_bytes=max_list_bytes,
            )

    def set_base_url(self, base_url: str | None) -> None:
        """Use this base URL from the next request on. With None, reads fail and updates are not sent.

        Raises:
            SettingsError: `base_url` is not an http or https URL, or has a user, a query or a fragment.
        """
        self._transport.set_base_url(None if base_url is None else _parse_base_url(base_url))

    def set_credentials(self, credentials: Credentials) -> None:
        """Use these credentials from the next request on. A request in flight keeps its own."""
        self._transport.set_credentials(credentials)

    async def snapshot(self, allocation_id: AllocationId) -> Snapshot:
        """Read one allocation once. Returns Live, Missing or Failed."""
        segment = _path_segment(allocation_id)
        if segment is None:
            return Failed(_UNADDRESSABLE_ID)
        response = await self._transport.get(
            f"/allocation/{segment}",
            Limits(total_seconds=self._timeouts.get_seconds, max_bytes=self._max_response_bytes),
        )
        return responses.interpret_snapshot(response, allocation_id)

    async def update(self, allocation_id: AllocationId, body: Cloud) -> UpdateAnswer:
        """Send one update, once. `body` is the whole object; its `id` must be `allocation_id`.

        Returns Accepted, Rejected, OutcomeUnknown or NotSent. It is NotSent also if the body has another id
        or cannot be written as JSON, or if no URL can hold the id.
        """
        if _path_segment(allocation_id) is None:
            return NotSent(_UNADDRESSABLE_ID)
        if body.get("id") != allocation_id:
            return NotSent("the body has the id of another allocation")
        try:
            data = json_codec.dumps(body)
        except json_codec.CodecError as error:
            return NotSent(f"the body {error}")
        response = await self._transport.post(
            "/allocation/update",
            data,
            Limits(total_seconds=self._timeouts.post_seconds, max_bytes=self._max_response_bytes),
        )
        return responses.interpret_update(response, allocation_id)

    async def list(self) -> AsyncIterator[Live]:
        """Yield every cloud of `GET /allocations`; all have the same `evidence_age_seconds`.

        The response is received completely before the first cloud is yielded, so the deadline does not apply
        to a slow consumer.

        Raises:
            BulkUnavailable: there is no usable response. With a malformed one, some clouds may have been
                yielded before.
        """
        response = await self._transport.get(
            "/allocations",
            Limits(
                total_seconds=self._timeouts.list_seconds,
                head_seconds=self._timeouts.list_head_seconds,
                silence_seconds=self._timeouts.list_silence_seconds,
                max_bytes=self._max_list_bytes,
            ),
        )
        if isinstance(response, responses.NoResponse):
            raise BulkUnavailable(response.reason, supported=True)
        if response.status != HTTPStatus.OK or response.chunks is None:
            supported = response.status not in _ROUTE_MISSING
            raise BulkUnavailable(
                responses.describe_response(response, response.problem),
                supported=supported,
                status=response.status,
                retry_after_seconds=response.retry_after_seconds,
            )
        parser = ListParser(response.chunks, max_record_bytes=self._max_response_bytes)
        age_seconds = response.evidence_age_seconds
        is_small = sum(map(len, response.chunks)) <= INLINE_PARSE_BYTES
        del response  # the parser frees what it has parsed; this reference would keep the whole body
        while True:
            try:
                if is_small:
                    clouds = parser.take(RECORDS_PER_BATCH)
                else:
                    clouds = await asyncio.to_thread(parser.take, RECORDS_PER_BATCH)
            except json_codec.CodecError as error:
                reason = f"200 OK, but the body is unusable: {error}"
                raise BulkUnavailable(reason, supported=True, status=HTTPStatus.OK) from error
            for cloud in clouds:
                yield Live(cloud, age_seconds)
            if len(clouds) < RECORDS_PER_BATCH:
                return


_UNADDRESSABLE_ID = "no URL can hold this id: it is empty, '.', '..' or not valid Unicode"


def _path_segment(allocation_id: AllocationId) -> str | None:
    """Return the id percent-encoded as one path segment, or None if that is not possible."""
    if allocation_id in ("", ".", ".."):
        return None
    try:
        return quote(allocation_id, safe="")
    except UnicodeEncodeError:
        return None


def _parse_base_url(base_url: str) -> URL:
    try:
        url = URL(base_url)
        is_http = url.scheme in ("http", "https") and bool(url.host) and bool(url.port)
    except ValueError:
        is_http = False
    if not is_http or url.user is not None or url.password is not None or url.query_string or url.fragment:
        raise SettingsError("api_url: an http or https URL without user, query or fragment is expected")
    return url
