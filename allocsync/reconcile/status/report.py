"""The status of all allocations at one moment, one value for each. Pure.

The rule: a report is made on demand and changes nothing. It is read piece by piece while the controller runs,
so an allocation that is released meanwhile is left out.

Left out: all details of one allocation (`explain`), and the controller as a whole (`Controller.status`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite

from allocsync.model.condition import Condition
from allocsync.model.desired_state import Mode
from allocsync.model.ids import AllocationId
from allocsync.model.times import NEVER, Monotonic, WallTime, clock_offset_seconds, to_wall_time
from allocsync.planning.change_limit import NOT_DECLARED
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.updates import State
from allocsync.reconcile.operation import Operation
from allocsync.reconcile.status.advice import advise
from allocsync.reconcile.status.condition_rules import needs_person, project
from allocsync.reconcile.status.controller_status import AllocationStatus


@dataclass(slots=True)
class ReportedCondition:
    """The condition last reported of an allocation, and since when (wall clock); changed by its tracker."""

    condition: Condition
    reason: str
    since: WallTime
    paused: bool = False

    def refresh(self, reason: str, *, paused: bool) -> None:
        """Take over the current reason and pause; the condition is the same."""
        self.reason, self.paused = reason, paused


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a report is made: `now` (monotonic) and `wall`, and the current resync interval in seconds.

    `list_read_at` is when (monotonic) the list is read next; `NEVER` if it does not cover the allocations.
    `blocked_until` is until when (monotonic) no request of an operation may go, None if one may go now;
    `probing`: the circuit breaker of reads is open. `awaiting_revision` is the revision that awaits approval,
    as commands name it.
    """

    now: Monotonic
    wall: WallTime
    resync_seconds: float
    list_read_at: Monotonic = NEVER
    blocked_until: Mapping[Operation, Monotonic | None] = field(default_factory=dict)
    probing: bool = False
    awaiting_revision: str = ""

    def at(self, time: Monotonic | None) -> WallTime | None:
        """Convert monotonic seconds to Unix seconds; None for None, `NEVER` and `LONG_AGO`."""
        offset_seconds = clock_offset_seconds(self.wall, self.now)
        return to_wall_time(time, offset_seconds) if time is not None and isfinite(time) else None


def statuses(
    allocations: Mapping[AllocationId, ManagedAllocation],
    reported: Mapping[AllocationId, ReportedCondition],
    moment: Moment,
) -> Iterator[AllocationStatus]:
    """Yield the status of each allocation, sorted by id; one that is released meanwhile is left out."""
    for key in sorted(allocations):
        allocation, condition = allocations.get(key), reported.get(key)
        if allocation is not None and condition is not None:
            yield status_of(allocation, condition, moment)


def status_of(
    allocation: ManagedAllocation, reported: ReportedCondition, moment: Moment, *, name: str = "ID"
) -> AllocationStatus:
    """Return the status of one allocation.

    The condition is computed for `moment`; `since` is from `reported`, which may still be an earlier one.
    `name` stands for the allocation in the commands of the advice.
    """
    condition, reason = project(allocation, moment.now, moment.resync_seconds)
    next_read, waits_for = _next_read(allocation, moment)
    return AllocationStatus(
        id=allocation.id,
        condition=condition,
        reason=reason,
        since=reported.since,
        next_read_at=moment.at(next_read),
        confirmed_at=moment.at(allocation.observed_at),
        waits_for=waits_for,
        declaration=_declaration(allocation),
        needs_person=needs_person(allocation, condition),
        advice=advise(allocation, condition, moment.now, name=name, awaiting=moment.awaiting_revision),
        paused=allocation.write_gate.active_pause(allocation.id, moment.now),
    )


def _next_read(allocation: ManagedAllocation, moment: Moment) -> tuple[Monotonic, str]:
    """When the allocation is read next (monotonic, never in the past), and what that waits for."""
    if allocation.state in {State.READING, State.POSTING}:
        return moment.now, "a request is in flight"
    entry = allocation.queue_entry()
    if entry.at <= moment.now:
        until = moment.blocked_until.get(entry.operation)
        if until is None or until == NEVER:
            return moment.now, "a free slot"
        return max(until, moment.now), "the next probe" if moment.probing else "the API, which asked to wait"
    if allocation.intent is None and _is_read(allocation) and moment.list_read_at < entry.at:
        return moment.list_read_at, "the resync"
    return entry.at, "" if entry.at == NEVER else allocation.waits_for(moment.now)


def _declaration(allocation: ManagedAllocation) -> str:
    """Why the newest declaration does not apply; empty if it does."""
    if allocation.problems:
        more = len(allocation.problems) - 1
        rest = f", and {more} more" if more else ""
        has_valid = allocation.desired is not None
        applies = "the last valid one still applies" if has_valid else "no valid one is known"
        return f"its entry has errors ({allocation.problems[0]}{rest}); {applies}"
    if allocation.desired is not None and allocation.desired.source == NOT_DECLARED:
        return "it is no longer declared; its release awaits approval"
    if allocation.id in allocation.write_gate.awaiting_approval:
        return "its newest declaration awaits approval"
    return ""


def all_read_since(allocations: Mapping[AllocationId, ManagedAllocation], moment: Moment) -> WallTime | None:
    """Return when (Unix seconds) the read of the least recently read allocation began.

    A list read counts for each allocation that it shows in sync or with the known differences. A read that
    fails, or that leaves the outcome of an update unknown, does not count. Considered are the allocations
    with an active declaration whose mode is not `suspend`. So a released one is left out, and one whose entry
    has errors while no earlier declaration is active. None if one of them has never been read, or if there
    is none.
    """
    return moment.at(
        min(
            (allocation.observed_at for allocation in allocations.values() if _is_read(allocation)),
            default=NEVER,
        )
    )


def _is_read(allocation: ManagedAllocation) -> bool:
    return allocation.desired is not None and allocation.desired.mode is not Mode.SUSPEND
