"""What the loop says of itself when asked: plain values, made at that moment, for metrics and `status`.

Times are seconds since the epoch, for people; the deciders never see them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from allocsync.model.condition import Condition
from allocsync.model.ids import AllocationId
from allocsync.reconcile.gates.pause import Pause


@dataclass(frozen=True, slots=True)
class AllocationStatus:
    """One allocation: its condition, why, since when, when it is read next, and the pause that it is in."""

    id: AllocationId
    condition: Condition
    reason: str
    since: float
    next_read_at: float | None
    paused: Pause | None = None  # a mark beside the condition


@dataclass(frozen=True, slots=True)
class ControllerStatus:
    """The whole loop. What is counted by operation has an entry for `read` and one for `write`.

    `slow` are those in flight that no longer count against the limit, `most` the hard maximum.
    """

    revision: str | None  # the newest one that loaded
    active_revision: str | None  # the newest one that is not awaiting approval, of this process
    active_since: float | None
    conditions: Mapping[Condition, int]
    open_intents: int
    settle_seconds: float
    queued: Mapping[str, int]
    in_flight: Mapping[str, int]
    slow: Mapping[str, int]
    limits: Mapping[str, int]
    most: Mapping[str, int]
    breakers_open: Mapping[str, bool]
    last_full_read: float | None
    first_answer_seen: bool
    stalled: str | None  # what stalls it, or None: an outage is not a stall
    stopping: bool
    changes: int = 0  # how many allocations the newest revision declares otherwise than the baseline
    awaiting_reason: str = ""  # why the newest generation is held; empty: it is not
    awaiting_since: float | None = None
    canaries: Mapping[AllocationId, bool] = field(default_factory=dict)  # is it verified?
    pauses: Mapping[str, tuple[int, float]] = field(default_factory=dict)  # by scope: number, last end
