"""Fetches and checks what the daemon reports, and decides whether all is in sync since a given time.

The rule: every documented key must be there with its type, and other keys are ignored, so that a command can
read the answer of a newer daemon. An answer of another shape is an error and never half of a status.

Left out: how it is shown (`cli.commands.status`), and its JSON (`web.serializers`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from allocsync import errors
from allocsync.cli import daemon_client
from allocsync.model.condition import Condition

PATH = "/api/v1/status"
T = TypeVar("T")
IN_SYNC = Condition.IN_SYNC.value
# From the worst to the best.
WORST_FIRST = (
    *(Condition.FAILING, Condition.IGNORED, Condition.MISSING, Condition.CONFLICT),
    *(Condition.AWAITING_APPROVAL, Condition.BLOCKED, Condition.OUTCOME_UNKNOWN, Condition.DRIFTED),
    *(Condition.PENDING, Condition.SUSPENDED, Condition.IN_SYNC),
)


@dataclass(frozen=True, slots=True)
class RejectedFiles:
    """Rejected files: since when (RFC 3339), the first problems as `validate` prints them, and how many."""

    since: str
    problems: Sequence[str]
    count: int


@dataclass(frozen=True, slots=True)
class Canary:
    """A canary of a revision that waits for approval, and whether a read has shown it in sync."""

    id: str
    verified: bool


@dataclass(frozen=True, slots=True)
class AwaitingApproval:
    """A revision that awaits approval: why, since when (RFC 3339), and its canaries."""

    reason: str
    since: str | None
    canaries: Sequence[Canary] = ()


@dataclass(frozen=True, slots=True)
class Api:
    """Whether the API is reachable (None: not known yet), and times as RFC 3339; see `ApiStatus`."""

    reachable: bool | None
    since: str | None
    reason: str
    last_confirmed_at: str | None
    next_attempt_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStatus:
    """The daemon's answer.

    `all_confirmed_since` is since when every allocation has been read, and `files_read_at` when the read of
    the files began that is taken over; both are RFC 3339, and None if that has not happened yet.
    `resync_seconds` is the time between two reads of an allocation. `awaiting_approval` is None if no
    revision awaits approval, `rejected` is None if the files load.
    """

    revision: Mapping[str, str | None]
    api: Api
    all_confirmed_since: str | None
    files_read_at: str | None
    resync_seconds: float
    conditions: Mapping[str, int]
    allocations: Sequence[Mapping[str, Any]]
    awaiting_approval: AwaitingApproval | None = None
    rejected: RejectedFiles | None = None

    @property
    def noteworthy(self) -> list[Mapping[str, Any]]:
        """The allocations that are not InSync or whose newest declaration does not apply, worst first."""
        rank = {name.value: number for number, name in enumerate(WORST_FIRST)}
        rows = [row for row in self.allocations if row["condition"] != IN_SYNC or row["declaration"]]
        return sorted(rows, key=lambda row: (rank.get(str(row["condition"]), -1), str(row["id"])))

    def is_in_sync_since(self, asked_at: str) -> bool:
        """Whether everything is in sync, as shown by reads that began after `asked_at` (RFC 3339).

        The files must have been read since then too. Nothing may be rejected or await approval.
        """
        if not self.files_are_read_since(asked_at) or self.rejected is not None:
            return False
        if self.awaiting_approval is not None or self.revision["active"] is None:
            return False
        return all(
            row["condition"] == IN_SYNC
            and not row["declaration"]
            and _is_after(row["confirmed_at"], asked_at)
            for row in self.allocations
        )

    def files_are_read_since(self, asked_at: str) -> bool:
        """Whether the files that count were read at `asked_at` or later."""
        return self.files_read_at is not None and not _is_after(asked_at, self.files_read_at)

    def waits_for_person(self, asked_at: str) -> bool:
        """Whether something stays out of sync until a person acts, as known since `asked_at` (RFC 3339).

        False until the files have been read since then. A revision that canaries may approve does not count.
        """
        if not self.files_are_read_since(asked_at):
            return False
        if self.rejected is not None or (self.awaiting_approval and not self.awaiting_approval.canaries):
            return True
        return any(
            row["needs_person"] and (row["declaration"] or _is_after(row["confirmed_at"], asked_at))
            for row in self.allocations
        )


async def fetch_status(url: str) -> DaemonStatus:
    """Read the daemon's status once.

    Raises:
        NoAnswerError: no daemon answers at the address.
        DaemonError: the answer is not from this version of allocsync.
    """
    code, answer = await daemon_client.request(url, PATH)
    try:
        return parse_status(answer)
    except ValueError as error:
        raise daemon_client.unexpected_answer(url, code) from error


def parse_status(answer: Mapping[str, Any]) -> DaemonStatus:
    """Take the documented keys from the daemon's answer; other keys are ignored at every level.

    Raises:
        ValueError: a documented key is missing, or its value has another type than the daemon gives it.
    """
    revision, conditions = _take(answer, "revision", dict), _take(answer, "conditions", dict)
    return DaemonStatus(
        revision={
            name: _take_or_none(revision, name, str) for name in ("active", "awaiting_approval", "observed")
        },
        api=parse_api(_take(answer, "api", dict)),
        all_confirmed_since=_take_or_none(answer, "all_confirmed_since", str),
        files_read_at=_take_or_none(answer, "files_read_at", str),
        resync_seconds=_take(answer, "resync_seconds", float),
        conditions={name: _take(conditions, name, int) for name in conditions},
        allocations=[_parse_row(row) for row in _take(answer, "allocations", list)],
        awaiting_approval=_parse_awaiting_approval(_take_or_none(answer, "awaiting_approval", dict)),
        rejected=_parse_rejected(_take_or_none(answer, "rejected", dict)),
    )


def parse_api(answer: object) -> Api:
    """Take the documented keys from what the daemon says of the API.

    Raises:
        ValueError: a documented key is missing, or its value has another type than the daemon gives it.
    """
    return Api(
        reachable=_take_or_none(answer, "reachable", bool),
        since=_take_or_none(answer, "since", str),
        reason=_take(answer, "reason", str),
        last_confirmed_at=_take_or_none(answer, "last_confirmed_at", str),
        next_attempt_at=_take_or_none(answer, "next_attempt_at", str),
    )


def _parse_row(row: object) -> dict[str, Any]:
    pause = _take_or_none(row, "paused", dict)
    parts = ("until", "owner", "reason")
    return {
        **{name: _take(row, name, str) for name in ("id", "condition", "reason", "since")},
        "confirmed_at": _take_or_none(row, "confirmed_at", str),
        "next_read_at": _take_or_none(row, "next_read_at", str),
        **{name: _take(row, name, str) for name in ("waits_for", "declaration", "advice")},
        "needs_person": _take(row, "needs_person", bool),
        "paused": None if pause is None else {name: _take(pause, name, str) for name in parts},
    }


def _parse_awaiting_approval(answer: Mapping[str, Any] | None) -> AwaitingApproval | None:
    if answer is None:
        return None
    canaries = [
        Canary(_take(each, "id", str), _take(each, "verified", bool))
        for each in _take(answer, "canaries", list)
    ]
    return AwaitingApproval(_take(answer, "reason", str), _take_or_none(answer, "since", str), canaries)


def _parse_rejected(answer: Mapping[str, Any] | None) -> RejectedFiles | None:
    if answer is None:
        return None
    problems = [
        errors.Problem(
            file=_take(each, "file", str),
            line=_take(each, "line", int),
            column=_take(each, "column", int),
            path=_take(each, "path", str),
            message=_take(each, "message", str),
        )
        for each in _take(answer, "problems", list)
    ]
    since, count = _take(answer, "since", str), _take(answer, "count", int)
    return RejectedFiles(since, [str(problem) for problem in problems], count)


def _take(answer: object, key: str, kind: type[T]) -> T:
    """The value of a key of a JSON object; raises ValueError if it is missing or of another kind."""
    if isinstance(answer, dict) and isinstance(value := answer.get(key), kind):
        return value
    raise ValueError(f"{key} is missing or not of type {kind.__name__}")


def _take_or_none(answer: object, key: str, kind: type[T]) -> T | None:
    if isinstance(answer, dict) and key in answer and answer[key] is None:
        return None
    return _take(answer, key, kind)


def _is_after(time: str | None, other: str) -> bool:
    """Whether one RFC 3339 time is after another; None and what is not a time are never."""
    try:
        return time is not None and datetime.fromisoformat(time) > datetime.fromisoformat(other)
    except (ValueError, TypeError):  # the latter if one of them has no offset
        return False
