"""The results of a read and of an update, as values.

The rule: a request never raises for what a server or a network does. Its result is one of these values.
The read of the list is the exception: it raises `BulkUnavailable`.

Left out: which HTTP response gives which value (`api.responses`).
"""

from dataclasses import dataclass
from typing import TypeAlias

from allocsync.model.cloud import Cloud

_GONE = 410


@dataclass(frozen=True, slots=True)
class Live:
    """The read returned the allocation; `cloud` is the object as it came."""

    cloud: Cloud


@dataclass(frozen=True, slots=True)
class Missing:
    """The API answered 410: there is no such allocation now."""


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

    `terminal` is whether the same body would be rejected again. `retry_after_seconds` is what the server
    asked for, without an upper limit.
    """

    status: int
    reason: str
    terminal: bool
    retry_after_seconds: float | None = None

    @property
    def gone(self) -> bool:
        """Whether the API says that there is no such allocation."""
        return self.status == _GONE


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
