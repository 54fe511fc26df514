"""The client of the Allocation API: two operations and the bulk read, each ending in a value.

The rule: no method raises for what a server or a network does, except `list`, which has one error to say that
it is of no use. Cancellation by the caller always passes. An update is sent once, on a connection of its own,
and what may have reached the server is never called rejected or not sent.

The id is percent-encoded whole. `.` and `..` cannot travel in a path (they mean folders there, to proxies as
well), so they are refused before anything is sent.

Left out: waiting and trying again (`api.retry`, `reconcile`), the exchange itself (`api.exchange`) and the
meaning of answers (`api.answers`).
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
from allocsync.api.list_parser import Records
from allocsync.api.transport import Exchange
from allocsync.errors import BulkUnavailable, SettingsError
from allocsync.model.api_answers import Failed, NotSent, Snapshot, UpdateAnswer
from allocsync.model.cloud import Cloud
from allocsync.model.ids import AllocationId

MAX_ANSWER_BYTES = 1024 * 1024
MAX_BULK_BYTES = 128 * 1024 * 1024  # held in memory while it is read: two hundred thousand clouds or so
RECORDS_PER_STEP = 50  # decoded in a thread between two turns of the event loop: about a millisecond
INLINE_BYTES = 64 * 1024  # a smaller bulk answer is not worth a thread

_HEADERS = {
    "Accept": "application/json, text/plain",
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": f"allocsync/{__version__}",
}
_NO_SUCH_ROUTE = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Deadlines in seconds, each for a whole exchange: `connect` is part of the others.

    The one for POST is longer than a usual gateway's (60 s): otherwise every slow update would become an
    unknown of our own making.
    """

    connect_seconds: float = 3.0
    get_seconds: float = 10.0
    post_seconds: float = 75.0
    bulk_seconds: float = 120.0


class AllocationClient:
    """One Allocation API, from `AllocationClient.open(...)`."""

    def __init__(
        self, exchange: Exchange, *, timeouts: Timeouts, max_answer_bytes: int, max_bulk_bytes: int
    ) -> None:
        self._exchange = exchange
        self._timeouts = timeouts
        self._max_answer_bytes = max_answer_bytes
        self._max_bulk_bytes = max_bulk_bytes

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        base_url: str | None,
        *,
        credentials: Credentials = Credentials(),
        timeouts: Timeouts = Timeouts(),
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        max_bulk_bytes: int = MAX_BULK_BYTES,
        wall: Callable[[], float] = time.time,
    ) -> AsyncIterator[Self]:
        """Open a client; `base_url` may have a path and may end in a slash; None: see `move`.

        `wall` gives seconds since the epoch: Retry-After may be a date.

        Raises:
            SettingsError: the URL is not one to send requests to.
        """
        async with Exchange.open(
            None if base_url is None else _base(base_url),
            headers=_HEADERS,
            credentials=credentials,
            connect_seconds=timeouts.connect_seconds,
            wall=wall,
        ) as exchange:
            yield cls(
                exchange,
                timeouts=timeouts,
                max_answer_bytes=max_answer_bytes,
                max_bulk_bytes=max_bulk_bytes,
            )

    def move(self, base_url: str | None) -> None:
        """Send requests there from the next one on; None: nowhere, they fail as not sent.

        Raises:
            SettingsError: the URL is not one to send requests to.
        """
        self._exchange.move(None if base_url is None else _base(base_url))

    def use(self, credentials: Credentials) -> None:
        """Send these from the next request on; one that is under way keeps what it began with."""
        self._exchange.use(credentials)

    async def snapshot(self, allocation_id: AllocationId) -> Snapshot:
        """One read of one allocation."""
        segment = _path_segment(allocation_id)
        if segment is None:
            return Failed(_UNADDRESSABLE)
        answer = await self._exchange.get(
            f"/allocation/{segment}",
            seconds=self._timeouts.get_seconds,
            max_bytes=self._max_answer_bytes,
        )
        return responses.snapshot_from(answer, allocation_id)

    async def update(self, allocation_id: AllocationId, body: Cloud) -> UpdateAnswer:
        """Send one update, once; `body` is the whole object, and must be the one of this allocation."""
        if _path_segment(allocation_id) is None:
            return NotSent(_UNADDRESSABLE)
        if body.get("id") != allocation_id:
            return NotSent("the body is not the one of this allocation: its id differs")
        try:
            data = json_codec.dumps(body)
        except json_codec.WireError as error:
            return NotSent(f"the body {error}")
        answer = await self._exchange.post(
            "/allocation/update",
            data,
            seconds=self._timeouts.post_seconds,
            max_bytes=self._max_answer_bytes,
        )
        return responses.update_from(answer, allocation_id)

    async def list(self) -> AsyncIterator[Cloud]:
        """Every cloud, one at a time. The answer is read whole first, so a slow consumer holds up nobody.

        Raises:
            BulkUnavailable: there is no usable answer, or it turns out to be malformed half-way.
        """
        answer = await self._exchange.get(
            "/allocations", seconds=self._timeouts.bulk_seconds, max_bytes=self._max_bulk_bytes
        )
        if isinstance(answer, responses.NoAnswer):
            raise BulkUnavailable(answer.reason, supported=True)
        if answer.status != HTTPStatus.OK or answer.chunks is None:
            supported = answer.status not in _NO_SUCH_ROUTE
            raise BulkUnavailable(
                responses.reason_of(answer, answer.problem),
                supported=supported,
                status=answer.status,
                retry_after_seconds=answer.retry_after_seconds,
            )
        records = Records(answer.chunks, max_record_bytes=self._max_answer_bytes)
        small = sum(map(len, answer.chunks)) <= INLINE_BYTES
        del answer  # the records let go of what they have read
        while True:
            try:
                if small:
                    clouds = records.take(RECORDS_PER_STEP)
                else:
                    clouds = await asyncio.to_thread(records.take, RECORDS_PER_STEP)
            except json_codec.WireError as error:
                unusable = f"200 OK, but the body is unusable: {error}"
                raise BulkUnavailable(unusable, supported=True, status=HTTPStatus.OK) from error
            for cloud in clouds:
                yield cloud
            if len(clouds) < RECORDS_PER_STEP:
                return


_UNADDRESSABLE = "this id cannot be addressed: it is empty, '.', '..' or not text that can be encoded"


def _path_segment(allocation_id: AllocationId) -> str | None:
    """The id as one segment of a path; None where there is no such segment."""
    if allocation_id in ("", ".", ".."):
        return None
    try:
        return quote(allocation_id, safe="")
    except UnicodeEncodeError:
        return None


def _base(base_url: str) -> URL:
    try:
        url = URL(base_url)
        proper = url.scheme in ("http", "https") and bool(url.host) and bool(url.port)
    except ValueError:
        proper = False
    if not proper or url.user is not None or url.password is not None or url.query_string or url.fragment:
        raise SettingsError("api_url: an http or https URL without user, query or fragment is expected")
    return url
