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
    """One allocation: its condition with reason and begin, its next read (None: never), and its pause."""

    id: AllocationId
    condition: Condition
    reason: str
    since: WallTime
    next_read_at: WallTime | None
    paused: Pause | None = None  # a mark beside the condition


@dataclass(frozen=True, slots=True)
class ControllerStatus:
    """The controller. What is counted by operation has an entry for `read` and one for `write`.

    `slow` counts the requests in flight that no longer count against the limit; `limits` are the current
    limits of requests in flight, `max_in_flight` their maxima. `queued` counts what is due now.
    `last_full_read` is when the latest list was read completely; if it fails or is not used, when the oldest
    of the latest reads of all allocations began. `first_answer_seen`: a read has ended, even by a failure.
    """

    revision: str | None  # the newest one that was loaded
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
    first_answer_seen: bool
    stalled: str | None  # what stalls it, or None; an outage of the API is not a stall
    stopping: bool
    changes: int = 0  # how many allocations the newest revision changes against the baseline
    awaiting_reason: str = ""  # why the newest revision awaits approval; empty if it does not
    awaiting_since: WallTime | None = None
    canaries: Mapping[AllocationId, bool] = field(default_factory=dict)  # whether each is verified
    # By scope: the number of pauses, and the end of the last.
    pauses: Mapping[str, tuple[int, WallTime]] = field(default_factory=dict)
