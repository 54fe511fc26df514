"""The nouns that everything else speaks of: a live cloud, a desired allocation, a generation, an outcome.

The rule kept here: a live object is the JSON that came, to the letter. Numbers stay the literals that the
server wrote (`1e400` is not infinity, `1.10` is not `1.1`), and fields that nobody here knows stay in place,
because an update sends the whole object back.

Left out: how JSON is read and written (`api.wire`), where desired state comes from (`desired`), and when
anything is done (`reconcile`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType, TypeAlias

AllocationId = NewType("AllocationId", str)

_GONE = 410


@dataclass(frozen=True, slots=True)
class NumberLiteral:
    """A JSON number as its text, so that it goes back as it came. Equal only to the same text."""

    text: str


Json: TypeAlias = "bool | str | NumberLiteral | Sequence[Json] | Mapping[str, Json] | None"
Cloud: TypeAlias = Mapping[str, Json]

# The leaves that a file may declare, in the order in which they are compared, shown and hashed.
DECLARABLE = (
    "user",
    "project",
    "region",
    "version",
    "status.cloud",
    "urls.base.status",
    "urls.base.url",
    "urls.id.status",
    "urls.id.url",
    "urls.vanity.status",
    "urls.vanity.url",
)
STATUSES = ("PENDING", "RUNNING", "FAILED", "SUCCEEDED", "UNKNOWN", "DISCONNECTED")
UNDECLARABLE_STATUSES = ("PENDING", "UNKNOWN")  # the server passes through these; nobody can want them


class Mode(StrEnum):
    """What may be done about a difference."""

    ENFORCE = "enforce"  # look and update
    OBSERVE = "observe"  # look and report
    SUSPEND = "suspend"  # do neither


@dataclass(frozen=True, slots=True)
class Desired:
    """One allocation as a file declares it: only these leaves are owned.

    `leaves` is ordered as DECLARABLE; `source` is `file:line` for people. Two of these with the same leaves
    and mode are equal wherever they stand in a file.
    """

    id: AllocationId
    leaves: tuple[tuple[str, str], ...]
    mode: Mode = Mode.ENFORCE
    source: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Generation:
    """One loaded version of the desired state.

    `digest` is the hash of what is declared (not of comments, order or file names). `quarantined` names the
    allocations whose entry has errors, with the errors as people read them: the last good version of each
    stays in force, otherwise it is Held.
    """

    digest: str
    allocations: Mapping[AllocationId, Desired]
    quarantined: Mapping[AllocationId, tuple[str, ...]] = field(default_factory=dict)
    files: int = 0


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
