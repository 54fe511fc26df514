"""What the loop says of itself when asked: plain values, made at that moment, for metrics and `status`.

Times are seconds since the epoch, for people; the deciders never see them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from allocsync.model.condition import Condition
from allocsync.model.ids import AllocationId


@dataclass(frozen=True, slots=True)
class AllocationStatus:
    """One allocation: its condition, why, since when and when it is looked at next."""

    id: AllocationId
    condition: Condition
    reason: str
    since: float
    next_look_at: float | None


@dataclass(frozen=True, slots=True)
class LoopStatus:
    """The whole loop. What is counted by lane has an entry for `read` and one for `write`.

    `slow` are those in flight that no longer count against the limit, `most` the hard maximum.
    """

    generation: str | None
    generation_since: float | None
    conditions: Mapping[Condition, int]
    open_intents: int
    settle_seconds: float
    queued: Mapping[str, int]
    in_flight: Mapping[str, int]
    slow: Mapping[str, int]
    limits: Mapping[str, int]
    most: Mapping[str, int]
    breakers_open: Mapping[str, bool]
    last_full_look: float | None
    first_answer_seen: bool
    stalled: str | None  # what stalls it, or None: an outage is not a stall
    stopping: bool
    changes: int = 0  # how many allocations the newest generation declares otherwise than the baseline
    held_reason: str = ""  # why the newest generation is held; empty: it is not
    held_since: float | None = None
    canaries: Mapping[AllocationId, bool] = field(default_factory=dict)  # is it verified?
    pauses: Mapping[str, tuple[int, float]] = field(default_factory=dict)  # by scope: number, last end
