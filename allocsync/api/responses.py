"""Decides what an HTTP response, or its absence, means for a read and for an update. Pure.

The rule for updates (one that may have been applied is never reported as rejected or as not sent):

    response                                     outcome
    200 with an object that has the right id     Accepted, with the object
    202                                          Accepted, without an object
    any 4xx except 408 and 499                   Rejected, in one of four classes
    no response, and nothing was sent            NotSent
    anything else                                OutcomeUnknown

The class of a rejection; the first line that fits decides:

    410                                          GONE
    409 423 425 429, or any with Retry-After     NOT_NOW
    400 413 415 422                              BODY
    any other, such as 401 403 404 405 451       OTHER

The rule for reads: 200 with an object that has the right id is Live, 410 is Missing, anything else is Failed.

The body decides only for a 200. For any other status it is only quoted in the reason.

Left out: how a response is received (`api.transport`) and what is done about it (`reconcile.reconciler`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from math import ceil

from allocsync.api import json_codec
from allocsync.api.http_date import parse_http_date
from allocsync.model.api_answers import (
    Accepted,
    Failed,
    Live,
    Missing,
    NotSent,
    OutcomeUnknown,
    Rejected,
    RejectionClass,
    Snapshot,
    UpdateAnswer,
)
from allocsync.model.cloud import Cloud
from allocsync.model.ids import AllocationId
from allocsync.model.times import WallTime

EXCERPT_CHARACTERS = 200
_SECONDS = re.compile(r"(\d{1,12})(?:\.(\d+))?", re.ASCII)  # a longer number is garbage
_SHOWN_ID_CHARACTERS = 80

_CLIENT_CLOSED_REQUEST = 499  # a gateway of nginx gave up waiting for the API
# The 4xx statuses with which somebody gave up waiting, so that the update may be applied.
_GAVE_UP_WAITING = frozenset({HTTPStatus.REQUEST_TIMEOUT, _CLIENT_CLOSED_REQUEST})
_NOT_NOW = frozenset(
    {HTTPStatus.CONFLICT, HTTPStatus.LOCKED, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
)
_BLAME_THE_BODY = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)


@dataclass(frozen=True, slots=True)
class Response:
    """A response whose status arrived.

    `chunks` is the body of a 200. It is None if the body cannot be used (`problem` says why), and for any
    other status. `excerpt` is the beginning of the body of any other status, without secrets, for people.
    `retry_after_seconds` is what the server asked for, without an upper limit. `evidence_age_seconds` is how
    long before the begin of the request the response was made (`api.evidence_time`).
    """

    status: int
    chunks: tuple[bytes, ...] | None = None
    problem: str = ""
    excerpt: str = ""
    retry_after_seconds: float | None = None
    evidence_age_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class NoResponse:
    """No status arrived. `sent` is whether any part of the request may have been sent."""

    reason: str
    sent: bool


def interpret_snapshot(response: Response | NoResponse, allocation_id: AllocationId) -> Snapshot:
    """Return the result of a read of this allocation."""
    if isinstance(response, NoResponse):
        return Failed(response.reason, unreachable=not response.sent)
    if response.status == HTTPStatus.GONE:
        return Missing(response.evidence_age_seconds)
    cloud: Cloud | str = "" if response.status != HTTPStatus.OK else _cloud(response, allocation_id)
    if isinstance(cloud, str):
        return Failed(describe_response(response, cloud), response.status, response.retry_after_seconds)
    return Live(cloud, response.evidence_age_seconds)


def interpret_update(response: Response | NoResponse, allocation_id: AllocationId) -> UpdateAnswer:
    """Return the outcome of an update of this allocation."""
    if isinstance(response, NoResponse):
        return (
            OutcomeUnknown(response.reason) if response.sent else NotSent(response.reason, unreachable=True)
        )
    status, after = response.status, response.retry_after_seconds
    if status == HTTPStatus.ACCEPTED:
        return Accepted(status, None)
    if _is_rejection(status):
        kind = _rejection_class(status, has_retry_after=after is not None)
        return Rejected(status, describe_response(response, ""), kind, after)
    cloud: Cloud | str = "" if status != HTTPStatus.OK else _cloud(response, allocation_id)
    if isinstance(cloud, str):
        return OutcomeUnknown(describe_response(response, cloud), status, after)
    return Accepted(status, cloud)


def _is_rejection(status: int) -> bool:
    """Whether this status means that the update was not applied: any 4xx except 408 and 499."""
    return (
        HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _GAVE_UP_WAITING
    )


def _rejection_class(status: int, *, has_retry_after: bool) -> RejectionClass:
    if status == HTTPStatus.GONE:
        return RejectionClass.GONE
    if status in _NOT_NOW or has_retry_after:
        return RejectionClass.NOT_NOW
    return RejectionClass.BODY if status in _BLAME_THE_BODY else RejectionClass.OTHER


def _cloud(response: Response, allocation_id: AllocationId) -> Cloud | str:
    """Return the cloud in a 200 response, or why there is none."""
    if response.chunks is None:
        return response.problem
    try:
        value = json_codec.loads(b"".join(response.chunks))
    except json_codec.CodecError as error:
        return f"the body is {error}"
    if not isinstance(value, Mapping):
        return "the body is not a JSON object"
    received_id = value.get("id")
    if received_id != allocation_id:
        if not isinstance(received_id, str):
            return "the body has no id"
        return f"the body has another id: {to_one_line(received_id, _SHOWN_ID_CHARACTERS)!r}"
    return value


def describe_response(response: Response, problem: str) -> str:
    """Return the response in one line for people: the status, the problem if there is one, the excerpt."""
    try:
        line = f"{response.status} {HTTPStatus(response.status).phrase}"
    except ValueError:
        line = str(response.status)
    if HTTPStatus.MULTIPLE_CHOICES <= response.status < HTTPStatus.BAD_REQUEST:
        line = f"{line} (redirects are never followed; check the URL of the API)"
    if problem:
        line = f"{line}, but {problem}"
    return f"{line}: {response.excerpt}" if response.excerpt else line


def to_one_line(text: str, limit: int = EXCERPT_CHARACTERS) -> str:
    """The text on one line, without control characters, and cut at `limit` characters.

    Control characters are dropped, not escaped (`model.escaping`). `api.transport` searches the result for
    secrets, and an escape inside a secret would hide it. The code that shows the text escapes it anyway.
    """
    visible = "".join(c for c in " ".join(text.split()) if c.isprintable())
    return visible if len(visible) <= limit else f"{visible[: limit - 1]}…"


def parse_retry_after(value: str | None, *, date: str | None, wall: WallTime) -> float | None:
    """Return the whole seconds that a Retry-After header asks for, without an upper limit.

    A decimal such as `12.5`, which RFC 9110 does not permit, is rounded up to 13. Returns None for a time in
    the past and for anything that is neither seconds nor an HTTP date. A date is compared with `date`, the
    Date header of the same response, so that a wrong clock on either side does not matter. `wall` (seconds
    since the epoch) is used if there is no Date header.
    """
    text = (value or "").strip()
    if match := _SECONDS.fullmatch(text):
        whole, fraction = match.groups()
        return float(int(whole) + bool((fraction or "").strip("0")))
    server_time = parse_http_date((date or "").strip(), wall=wall)
    now = wall if server_time is None else server_time
    at = parse_http_date(text, wall=now)
    return float(ceil(at - now)) if at is not None and at > now else None
