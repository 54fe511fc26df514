"""The results of a read and of an update, as values.

The rule: a request never raises for what a server or a network does. Its result is one of these values.
The read of the list is the exception: it raises `BulkUnavailable`.

Left out: which HTTP response gives which value (`api.responses`).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from allocsync.model.cloud import Cloud


class RejectionClass(StrEnum):
    """What a rejection says about sending the same update again."""

    NOT_NOW = "not now"  # later it may be accepted, and the server may have said when
    BODY = "body"  # this body is never accepted
    GONE = "gone"  # there is no such allocation
    OTHER = "other"  # it says neither; somebody has to mend something, such as the access


@dataclass(frozen=True, slots=True)
class Live:
    """The read returned the allocation; `cloud` is the object as it came.

    `evidence_age_seconds` is how long before the begin of the request the answer was made. It is 0 unless a
    cache answered.
    """

    cloud: Cloud
    evidence_age_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Missing:
    """The API answered 410: there is no such allocation now. A cache may have answered, as with `Live`."""

    evidence_age_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Failed:
    """The read failed and says nothing about the allocation.

    `status` is the HTTP status, or None without one. `retry_after_seconds` is what the server asked for,
    without an upper limit. `unreachable` is whether no connection was established.
    """

    reason: str
    status: int | None = None
    retry_after_seconds: float | None = None
    unreachable: bool = False


Snapshot: TypeAlias = Live | Missing | Failed


@dataclass(frozen=True, slots=True)
class Accepted:
    """The API accepted the update.

    `echo` is the object in the response, or None after a 202. It does not prove that the update was applied.
    """

    status: int
    echo: Cloud | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The API rejected the update, which was not applied.

    `retry_after_seconds` is what the server asked for, without an upper limit.
    """

    status: int
    reason: str
    kind: RejectionClass
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """The update was sent, and it is unknown whether it was or will be applied.

    `status` is the HTTP status, or None without one. `retry_after_seconds` is what the server asked for,
    without an upper limit.
    """

    reason: str
    status: int | None = None
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class NotSent:
    """The update never reached the API: no connection was established, or a check before sending failed.

    `terminal` is whether sending the same update again cannot succeed. `unreachable` is whether no connection
    was established.
    """

    reason: str
    terminal: bool = False
    unreachable: bool = False


UpdateAnswer: TypeAlias = Accepted | Rejected | OutcomeUnknown | NotSent
