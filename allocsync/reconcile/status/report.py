"""What the loop's lanes look like from outside at one moment, one value an allocation. Pure.

The rule: a report is made when it is asked for and changes nothing. It is read bit by bit while the loop
runs, so an allocation that goes meanwhile is left out and breaks nothing.

Left out: everything about one allocation (`explain`), and the loop as a whole (`Controller.status`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf, isfinite

from allocsync.model.condition import Condition
from allocsync.model.desired_state import Mode
from allocsync.model.ids import AllocationId
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.status.condition_rules import project
from allocsync.reconcile.status.controller_status import AllocationStatus


@dataclass(slots=True)
class ReportedCondition:
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


def statuses(
    allocations: Mapping[AllocationId, ManagedAllocation],
    reported: Mapping[AllocationId, ReportedCondition],
    moment: Moment,
) -> Iterator[AllocationStatus]:
    """Every allocation, sorted by id; those that go while this is read are left out."""
    for key in sorted(allocations):
        allocation, told = allocations.get(key), reported.get(key)
        if allocation is not None and told is not None:
            yield status_of(allocation, told, moment)


def status_of(allocation: ManagedAllocation, reported: ReportedCondition, moment: Moment) -> AllocationStatus:
    """One allocation."""
    condition, reason = project(allocation, moment.now, moment.resync_seconds)
    by_bulk = _is_read(allocation) and allocation.intent is None
    next_read = min(allocation.queue_entry().at, moment.bulk_at) if by_bulk else allocation.queue_entry().at
    return AllocationStatus(
        id=allocation.id,
        condition=condition,
        reason=reason,
        since=reported.since,
        next_read_at=moment.at(next_read),
        paused=allocation.write_gate.active_pause(allocation.id, moment.now),
    )


def all_read_since(allocations: Mapping[AllocationId, ManagedAllocation], moment: Moment) -> float | None:
    """Since when (wall clock) each that is looked at at all has been; None: not each has."""
    return moment.at(
        min(
            (allocation.observed_at for allocation in allocations.values() if _is_read(allocation)),
            default=inf,
        )
    )


def _is_read(allocation: ManagedAllocation) -> bool:
    return allocation.desired is not None and allocation.desired.mode is not Mode.SUSPEND
