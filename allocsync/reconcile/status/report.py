"""What the loop's lanes look like from outside at one moment, one value an allocation. Pure.

The rule: a report is made when it is asked for and changes nothing. It is read bit by bit while the loop
runs, so an allocation that goes meanwhile is left out and breaks nothing.

Left out: everything about one allocation (`explain`), and the loop as a whole (`Loop.status`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf, isfinite

from allocsync.model.condition import Condition
from allocsync.model.desired_state import Mode
from allocsync.model.ids import AllocationId
from allocsync.reconcile.allocation.managed_allocation import Lane
from allocsync.reconcile.status.condition_rules import project
from allocsync.reconcile.status.controller_status import AllocationStatus


@dataclass(slots=True)
class Shown:
    """The condition that was last told of an allocation, and since when (wall clock)."""

    condition: Condition
    reason: str
    since: float
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a report is made, on both clocks, and the resync interval in force then (seconds).

    `bulk_at` is when everything is looked at in one request, infinity where that is not done.
    """

    now: float
    wall: float
    resync_seconds: float
    bulk_at: float = inf

    def at(self, time: float | None) -> float | None:
        """That time of the lanes' clock on the wall clock; None for never."""
        return self.wall + time - self.now if time is not None and isfinite(time) else None


def allocations(
    lanes: Mapping[AllocationId, Lane], shown: Mapping[AllocationId, Shown], moment: Moment
) -> Iterator[AllocationStatus]:
    """Every allocation, sorted by id; those that go while this is read are left out."""
    for key in sorted(lanes):
        lane, told = lanes.get(key), shown.get(key)
        if lane is not None and told is not None:
            yield allocation(lane, told, moment)


def allocation(lane: Lane, shown: Shown, moment: Moment) -> AllocationStatus:
    """One allocation."""
    condition, reason = project(lane, moment.now, moment.resync_seconds)
    by_bulk = _is_looked_at(lane) and lane.intent is None
    next_look = min(lane.turn().at, moment.bulk_at) if by_bulk else lane.turn().at
    return AllocationStatus(
        id=lane.id,
        condition=condition,
        reason=reason,
        since=shown.since,
        next_read_at=moment.at(next_look),
        paused=lane.stops.paused(lane.id, moment.now),
    )


def looked_at(lanes: Mapping[AllocationId, Lane], moment: Moment) -> float | None:
    """Since when (wall clock) each that is looked at at all has been; None: not each has."""
    return moment.at(min((lane.observed_at for lane in lanes.values() if _is_looked_at(lane)), default=inf))


def _is_looked_at(lane: Lane) -> bool:
    return lane.desired is not None and lane.desired.mode is not Mode.SUSPEND
