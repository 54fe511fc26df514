"""What an HTTP answer, or its absence, means for a snapshot and for an update. Pure: values in, values out.

The rule for updates (what may have been applied is never called rejected or not sent):

    answer                                          outcome
    200, an object with the id that was asked for   Accepted, with the echo
    202                                             Accepted, without
    any other 4xx than 408                          Rejected; not terminal: 401 403 404 423 429
    nothing sent                                    NotSent
    anything else, also no answer after sending     OutcomeUnknown

The rule for snapshots: 200 with the right object is Live, 410 is Missing, everything else taught us nothing.
The status line decides alone wherever a body would only explain it.

Left out: how the answer travelled (`api.exchange`) and what is done about it (`reconcile`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from allocsync.api import json_codec
from allocsync.model.api_answers import (
    Accepted,
    Failed,
    Live,
    Missing,
    NotSent,
    OutcomeUnknown,
    Rejected,
    Snapshot,
    UpdateAnswer,
)
from allocsync.model.cloud import Cloud
from allocsync.model.ids import AllocationId

EXCERPT_CHARACTERS = 200
_RETRY_AFTER_DIGITS = 12  # more is not a number of seconds that anyone meant
_SHOWN_ID_CHARACTERS = 80

# Refusals that say nothing about this body: a fault of the whole API, or "not now".
_NOT_TERMINAL = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.LOCKED,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A status line arrived. `chunks` is the body of a 200, None when it cannot be used: see `problem`.

    `excerpt` is the body of anything else, for people. `retry_after_seconds` is what the server asked for,
    not clamped.
    """

    status: int
    chunks: tuple[bytes, ...] | None = None
    problem: str = ""
    excerpt: str = ""
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """No status line arrived. `sent`: something of the request may have left."""

    reason: str
    sent: bool


def snapshot_from(answer: Answer | NoAnswer, allocation_id: AllocationId) -> Snapshot:
    """What a read of this allocation found."""
    if isinstance(answer, NoAnswer):
        return Failed(answer.reason, unreachable=not answer.sent)
    if answer.status == HTTPStatus.GONE:
        return Missing()
    cloud: Cloud | str = "" if answer.status != HTTPStatus.OK else _cloud(answer, allocation_id)
    if isinstance(cloud, str):
        return Failed(reason_of(answer, cloud), answer.status, answer.retry_after_seconds)
    return Live(cloud)


def update_from(answer: Answer | NoAnswer, allocation_id: AllocationId) -> UpdateAnswer:
    """What became of an update of this allocation."""
    if isinstance(answer, NoAnswer):
        return OutcomeUnknown(answer.reason) if answer.sent else NotSent(answer.reason, unreachable=True)
    status, after = answer.status, answer.retry_after_seconds
    if status == HTTPStatus.ACCEPTED:
        return Accepted(status, None)
    if _is_rejection(status):
        terminal = status not in _NOT_TERMINAL
        return Rejected(status, reason_of(answer, ""), terminal=terminal, retry_after_seconds=after)
    cloud: Cloud | str = "" if status != HTTPStatus.OK else _cloud(answer, allocation_id)
    if isinstance(cloud, str):
        return OutcomeUnknown(reason_of(answer, cloud), status, after)
    return Accepted(status, cloud)


def _is_rejection(status: int) -> bool:
    """Whether an update answered so was certainly not applied: any 4xx but 408, a gateway's timeout."""
    return (
        HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
        and status != HTTPStatus.REQUEST_TIMEOUT
    )


def _cloud(answer: Answer, allocation_id: AllocationId) -> Cloud | str:
    """The cloud in a 200, or why there is none."""
    if answer.chunks is None:
        return answer.problem
    try:
        value = json_codec.loads(b"".join(answer.chunks))
    except json_codec.WireError as error:
        return f"the body is {error}"
    if not isinstance(value, Mapping):
        return "the body is not a JSON object"
    found = value.get("id")
    if found != allocation_id:
        shown = f"the id {one_line(found, _SHOWN_ID_CHARACTERS)!r}" if isinstance(found, str) else "no id"
        return f"the body has {shown}, not the one asked for"
    return value


def reason_of(answer: Answer, problem: str) -> str:
    """The answer in one line for people: its status, what is wrong with it, what it says."""
    try:
        line = f"{answer.status} {HTTPStatus(answer.status).phrase}"
    except ValueError:
        line = str(answer.status)
    if HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST:
        line = f"{line} (redirects are never followed: is the API's URL right?)"
    if problem:
        line = f"{line}, but {problem}"
    return f"{line}: {answer.excerpt}" if answer.excerpt else line


def one_line(text: str, limit: int = EXCERPT_CHARACTERS) -> str:
    """The text on one line, without control characters, and cut at `limit` characters.

    They are dropped, not escaped as by `model.escaping`: one inside a secret must not hide it from the search
    for secrets that follows (`api.transport`), and what shows the text escapes it anyway.
    """
    visible = "".join(c for c in " ".join(text.split()) if c.isprintable())
    return visible if len(visible) <= limit else f"{visible[: limit - 1]}…"


def retry_after_seconds(value: str | None, *, date: str | None, wall: float) -> float | None:
    """The seconds that a Retry-After header asks for, not clamped; None for the past and for garbage.

    An HTTP date is measured against the answer's own Date header, so that clocks that disagree do no harm;
    `wall` (seconds since the epoch) serves where there is none.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) <= _RETRY_AFTER_DIGITS else None
    at = _timestamp(text)
    if at is None:
        return None
    now = _timestamp(date or "")
    seconds = at - (wall if now is None else now)
    return seconds if seconds > 0 else None


def _timestamp(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except (ValueError, TypeError, IndexError, OverflowError):  # all of these were seen on garbage
        return None
