"""The status of the controller and of an allocation: plain values of one moment, for metrics and `status`.

The rule: times are wall-clock seconds since the epoch, for people; no decision depends on them.

Left out: how the values are made (`report`, `Controller.status`), and all details of one allocation
(`explain`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from allocsync.model.condition import Condition
from allocsync.model.ids import AllocationId
from allocsync.model.times import WallTime
from allocsync.reconcile.gates.pause import Pause


@dataclass(frozen=True, slots=True)
class AllocationStatus:
    """One allocation: its condition with reason and begin, its next read (None: never), and its pause.

    `confirmed_at` is when the latest usable read began, the proof of the condition; None before the first.
    `waits_for` says what the next read waits for. `declaration` says that the newest declaration does not
    apply and why; empty if it applies. `needs_person`: it stays out of sync until a person acts. `advice`
    says what a person can do.
    """

    id: AllocationId
    condition: Condition
    reason: str
    since: WallTime
    next_read_at: WallTime | None
    confirmed_at: WallTime | None = None
    waits_for: str = ""
    declaration: str = ""
    needs_person: bool = False
    advice: str = ""
    paused: Pause | None = None  # a mark beside the condition


@dataclass(frozen=True, slots=True)
class ApiStatus:
    """What the latest requests say of the API; see `scheduling.reachability`.

    `reachable` is None before the first request has ended. `since` is since when it is so; for an outage,
    when the first failed request began. `last_confirmed_at` is when the latest request ended that succeeded,
    and `next_attempt_at` when the next one is due, never in the past.
    """

    reachable: bool | None = None
    since: WallTime | None = None
    reason: str = ""
    last_confirmed_at: WallTime | None = None
    next_attempt_at: WallTime | None = None


@dataclass(frozen=True, slots=True)
class ControllerStatus:
    """The controller. What is counted by operation has an entry for `read` and one for `write`.

    `slow` counts the requests in flight that no longer count against the limit; `limits` are the current
    limits of requests in flight, `max_in_flight` their maxima. `queued` counts what is due now.
    `last_full_read` is when the latest list was read completely; if it fails or is not used, when the oldest
    of the latest reads of all allocations began. `first_answer_seen`: a read has ended, even by a failure.
    """

    revision: str | None  # the newest one that was loaded
    observed_revision: str | None  # the newest one that every allocation has been compared with
    active_revision: str | None  # the newest one of this process that does not await approval
    active_since: WallTime | None
    conditions: Mapping[Condition, int]
    open_intents: int
    settle_seconds: float
    queued: Mapping[str, int]
    in_flight: Mapping[str, int]
    slow: Mapping[str, int]
    limits: Mapping[str, int]
    max_in_flight: Mapping[str, int]
    breakers_open: Mapping[str, bool]
    last_full_read: WallTime | None
    resync_seconds: float  # between two reads of an allocation, if nothing else causes one
    first_answer_seen: bool
    stalled: str | None  # what stalls it, or None; an outage of the API is not a stall
    stopping: bool
    api: ApiStatus = field(default_factory=ApiStatus)
    changes: int = 0  # how many allocations the newest revision changes against the baseline
    awaiting_reason: str = ""  # why the newest revision awaits approval; empty if it does not
    awaiting_since: WallTime | None = None
    canaries: Mapping[AllocationId, bool] = field(default_factory=dict)  # whether each is verified
    # By scope: the number of pauses, and the end of the last.
    pauses: Mapping[str, tuple[int, WallTime]] = field(default_factory=dict)
    oldest_unconverged_at: WallTime | None = None  # see `convergence`
    oldest_conditions: Mapping[Condition, WallTime] = field(default_factory=dict)  # without InSync
    held_back: Mapping[str, int] = field(default_factory=dict)  # by what forbids the update
