"""What the Allocation API answered to a read or an update, as values.

The rule: a request never raises for what a server or a network does; its answer is one of these.

Left out: which HTTP answer is which of them (`api.responses`).
"""

from dataclasses import dataclass
from typing import TypeAlias

from allocsync.model.cloud import Cloud

_GONE = 410


@dataclass(frozen=True, slots=True)
class Live:
    """A usable snapshot: the object as it came."""

    cloud: Cloud


@dataclass(frozen=True, slots=True)
class Missing:
    """The API answered 410: no such cloud for now."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A read without a usable answer: nothing was learned of the allocation.

    `status` is the HTTP status or None; `retry_after_seconds` is what the server asked for, not yet clamped;
    `unreachable`: no connection came about.
    """

    reason: str
    status: int | None = None
    retry_after_seconds: float | None = None
    unreachable: bool = False


Snapshot: TypeAlias = Live | Missing | Failed


@dataclass(frozen=True, slots=True)
class Accepted:
    """The API took the update. `echo` is its answer: a claim, not evidence (None after a 202)."""

    status: int
    echo: Cloud | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The API refused the update: it was not applied. `terminal`: the same body would be refused again."""

    status: int
    reason: str
    terminal: bool
    retry_after_seconds: float | None = None

    @property
    def gone(self) -> bool:
        """Whether it says that there is no such allocation."""
        return self.status == _GONE


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """The update left and no answer says whether it was, or will be, applied."""

    reason: str
    status: int | None = None
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class NotSent:
    """The update never reached the API: DNS, connection refused, TLS, or a check just before sending.

    `terminal`: there is no sense in trying it again as it is; `unreachable`: no connection came about.
    """

    reason: str
    terminal: bool = False
    unreachable: bool = False


UpdateAnswer: TypeAlias = Accepted | Rejected | OutcomeUnknown | NotSent
