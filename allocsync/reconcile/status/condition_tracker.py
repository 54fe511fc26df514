"""What was last told of each allocation's condition: a change is told once, and the counts agree with it.

Left out: what the condition is (`condition`), and everything else that is said of an allocation (`report`).
"""

from allocsync.model.condition import Condition
from allocsync.model.ids import AllocationId
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.events import AllInSync, ConditionChanged, Observer
from allocsync.reconcile.ports import Clock
from allocsync.reconcile.status.condition_rules import project
from allocsync.reconcile.status.report import ReportedCondition


class ConditionTracker:
    """The conditions as they were told. `shown` and `counts` are for reading.

    Every allocation that is followed is in `shown`, from the same step on in which it came until it goes.
    """

    def __init__(self, emit: Observer, clock: Clock) -> None:
        self._emit = emit
        self._clock = clock
        self._all_in_sync = False
        self._waiting: set[AllocationId] = set()  # for the end of a pause, while Pending
        self.reported: dict[AllocationId, ReportedCondition] = {}
        self.counts = dict.fromkeys(Condition, 0)

    def update_reported(
        self, allocation: ManagedAllocation, *, resync_seconds: float, allocations: int
    ) -> None:
        """See what the lane's condition is now, and tell it when it is another one."""
        now = self._clock.now()
        condition, reason = project(allocation, now, resync_seconds)
        reported = self.reported.get(allocation.id)
        paused = allocation.write_gate.active_pause(allocation.id, now) is not None
        self._waiting.discard(allocation.id)
        if paused and condition is Condition.PENDING:
            self._waiting.add(allocation.id)
        if reported is not None and reported.condition is condition:
            reported.reason, reported.paused = reason, paused
            return
        self.counts[condition] += 1
        if reported is not None:
            self.counts[reported.condition] -= 1
        self.reported[allocation.id] = ReportedCondition(condition, reason, self._clock.wall(), paused)
        before = None if reported is None else reported.condition
        self._emit(ConditionChanged(allocation=allocation.id, before=before, after=condition, reason=reason))
        everything = self.counts[Condition.IN_SYNC] == allocations
        if everything and not self._all_in_sync and len(self.reported) == allocations:
            self._emit(AllInSync(allocations=allocations))
        self._all_in_sync = everything

    def drop(self, key: AllocationId) -> None:
        """The allocation is not followed any more."""
        self.counts[self.reported.pop(key).condition] -= 1
        self._waiting.discard(key)

    def nothing_to_do(self) -> bool:
        """Whether nothing that is wanted is still to be done, as far as it can be."""
        undone = (
            *(Condition.PENDING, Condition.OUTCOME_UNKNOWN, Condition.FAILING),
            *(Condition.AWAITING_APPROVAL, Condition.BLOCKED),
        )
        return not any(self.counts[condition] for condition in undone)

    def unsettled(self) -> int:
        """How many are Pending or OutcomeUnknown, but for those that wait for the end of a pause."""
        return self.counts[Condition.PENDING] - len(self._waiting) + self.counts[Condition.OUTCOME_UNKNOWN]
