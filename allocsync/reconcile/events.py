"""The events of the controller, one dataclass for each kind.

The rule: an event is emitted once. Logs, metrics and the terminal read the same typed fields, so that they
agree. `name` is the name of the event in logs; it and the names of the fields are public. `reconcile` is the
id of one reconcile, the same in all its events.

Left out: which events become log lines (`telemetry.log_events`) and which are counted (`telemetry.metrics`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Literal, TypeAlias, get_args

from allocsync.model.change import Change
from allocsync.model.condition import Condition
from allocsync.model.ids import AllocationId
from allocsync.model.times import WallTime
from allocsync.reconcile.operation import Operation

ReadAnswer: TypeAlias = Literal["live", "missing", "failed"]
UpdateOutcome: TypeAlias = Literal["accepted", "rejected", "unknown", "not_sent"]
Scope: TypeAlias = Literal["all", "one"]
ConvergenceCause: TypeAlias = Literal["first", "edit", "drift"]
UpdateCause: TypeAlias = Literal["first", "edit", "drift", "retry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionActivated:
    """A revision is active. `revision` is its whole id.

    `changed` counts allocations that are new or whose active declaration changed; `removed` counts those that
    are no longer managed.
    """

    name: ClassVar[str] = "revision_activated"
    revision: str
    allocations: int
    changed: int
    removed: int
    quarantined: int
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionAwaitingApproval:
    """The change limit withholds a revision until it is approved; the numbers count allocations."""

    name: ClassVar[str] = "revision_awaiting_approval"
    revision: str
    reason: str
    changed: int
    added: int
    removed: int
    allocations: int
    limit_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionApproved:
    """A revision that awaited approval is approved; `by` is its approver, `canary` for its canaries."""

    name: ClassVar[str] = "revision_approved"
    revision: str
    changes: int
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFinished:
    """A GET of one allocation ended. `differs` counts the declared fields that differ."""

    name: ClassVar[str] = "read_finished"
    allocation: AllocationId
    reconcile: str
    answer: ReadAnswer
    status: int | None
    reason: str
    elapsed_seconds: float
    differs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadsCached:
    """A cache between allocsync and the API answers reads; `age_seconds` is the age of the oldest answer."""

    name: ClassVar[str] = "reads_cached"
    age_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateIntended:
    """The intent of an update is in the journal, in the row `sequence`. The update may still be not sent."""

    name: ClassVar[str] = "update_intended"
    allocation: AllocationId
    reconcile: str
    fields: tuple[str, ...]
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateFinished:
    """A POST ended, or was not sent. `settle_seconds` is None unless the outcome is unknown.

    `cause` is `retry` if the one before failed, and `first` if the allocation has not been in sync in this
    process. `next_read_in_seconds` is infinite if no read is due.
    """

    name: ClassVar[str] = "update_finished"
    allocation: AllocationId
    reconcile: str
    outcome: UpdateOutcome
    cause: UpdateCause
    status: int | None
    reason: str
    elapsed_seconds: float
    settle_seconds: float | None
    next_read_in_seconds: float
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSettled:
    """A read showed the outcome of an update: one of `model.intent_record.OUTCOMES`.

    `waited_seconds` is the time since the outcome became unknown or the update was accepted; `sequence` is
    its row in the journal.
    """

    name: ClassVar[str] = "update_settled"
    allocation: AllocationId
    reconcile: str
    outcome: str
    reason: str
    sequence: int
    waited_seconds: float
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnotherWriterSuspected:
    """Fields were changed back three times in a day, or have another value after each update.

    `flips` counts over all `fields`, over the last day. `changed_back_at` has for each field the times (Unix
    seconds), oldest first.
    """

    name: ClassVar[str] = "another_writer_suspected"
    allocation: AllocationId
    reconcile: str
    fields: tuple[str, ...]
    flips: int
    changed_back_at: tuple[tuple[WallTime, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionChanged:
    """The reported condition of an allocation changed; `before` is None for a new one."""

    name: ClassVar[str] = "condition_changed"
    allocation: AllocationId
    before: Condition | None
    after: Condition
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Converged:
    """An allocation is in sync, `seconds` after it was first managed, edited, or found to differ."""

    name: ClassVar[str] = "converged"
    allocation: AllocationId
    cause: ConvergenceCause
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseBegun:
    """A pause of one allocation, or of all (None), began. `ends` is an RFC 3339 time."""

    name: ClassVar[str] = "pause_begun"
    allocation: AllocationId | None
    scope: Scope
    ends: str
    reason: str
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseLifted:
    """A person ended a pause before its time."""

    name: ClassVar[str] = "pause_lifted"
    allocation: AllocationId | None
    scope: Scope
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseEnded:
    """A pause ended because its time is over."""

    name: ClassVar[str] = "pause_ended"
    allocation: AllocationId | None
    scope: Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRequested:
    """A person asks for another try of one allocation, or of all (None); `by` may be empty."""

    name: ClassVar[str] = "retry_requested"
    allocation: AllocationId | None
    scope: Scope
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResyncStarted:
    """A read of the list began. `allocations` is the number of managed allocations."""

    name: ClassVar[str] = "resync_started"
    allocations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResyncFinished:
    """The list was read completely. `differ` counts all managed allocations that differ, listed or not.

    `allocations` counts the managed allocations in the list.
    """

    name: ClassVar[str] = "resync_finished"
    allocations: int
    differ: int
    elapsed_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ListUnavailable:
    """The list cannot be used. `asked`: a request was made for it.

    `supported` is False if the server has no list or the list was wrong too often. It is then requested again
    only with `BulkPolicy.ON`.
    """

    name: ClassVar[str] = "bulk_unavailable"
    reason: str
    supported: bool
    status: int | None
    asked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiUnreachable:
    """The API is unreachable, since `since` (Unix seconds); see `scheduling.reachability`."""

    name: ClassVar[str] = "api_unreachable"
    reason: str
    since: WallTime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiReachable:
    """The API answers again. `unreachable_seconds` counts from the first request that failed."""

    name: ClassVar[str] = "api_reachable"
    unreachable_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOpened:
    """No request of this operation succeeds; from now on one probe is sent in each interval."""

    name: ClassVar[str] = "breaker_opened"
    operation: Operation
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerClosed:
    """A request of this operation succeeded again, after `open_seconds` and so many probes."""

    name: ClassVar[str] = "breaker_closed"
    operation: Operation
    open_seconds: float
    probes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeStarted:
    """A reconcile began as the probe of an open breaker."""

    name: ClassVar[str] = "probe_started"
    allocation: AllocationId
    operation: Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class AllInSync:
    """Every managed allocation is in sync, and at least one was not before."""

    name: ClassVar[str] = "all_in_sync"
    allocations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """The controller admits nothing new and waits for the requests in flight."""

    name: ClassVar[str] = "stopping"
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """The controller has ended. `open_intents` counts the updates whose outcome is not known."""

    name: ClassVar[str] = "stopped"
    open_intents: int


Event: TypeAlias = (
    RevisionActivated
    | RevisionAwaitingApproval
    | RevisionApproved
    | ReadFinished
    | ReadsCached
    | UpdateIntended
    | UpdateFinished
    | UpdateSettled
    | AnotherWriterSuspected
    | ConditionChanged
    | Converged
    | PauseBegun
    | PauseLifted
    | PauseEnded
    | RetryRequested
    | ResyncStarted
    | ResyncFinished
    | ListUnavailable
    | ApiUnreachable
    | ApiReachable
    | BreakerOpened
    | BreakerClosed
    | ProbeStarted
    | AllInSync
    | Stopping
    | Stopped
)
Observer: TypeAlias = Callable[[Event], None]
KINDS: tuple[type[Event], ...] = get_args(Event)


def fields_of(event: Event) -> Mapping[str, object]:
    """Return the fields of an event by name, in their order; the values are not copied."""
    return {field.name: getattr(event, field.name) for field in fields(event)}


def emit_to_all(observers: Iterable[Observer]) -> Observer:
    """Return one observer that passes each event to all of these, in their order.

    If one of them raises, the error reaches the caller, and the later ones do not get the event.
    """
    all_observers = tuple(observers)

    def emit(event: Event) -> None:
        for observer in all_observers:
            observer(event)

    return emit
