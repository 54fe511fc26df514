"""The reported condition of each allocation, and how many allocations have each condition.

The rule: a change of the condition is reported once, and the counts always agree with what was reported.

Left out: which condition applies (`condition_rules`), how long it takes to be in sync (`convergence`), and
everything else about an allocation (`report`).
"""

from allocsync.model.condition import Condition
from allocsync.model.desired_state import Mode
from allocsync.model.ids import AllocationId
from allocsync.model.times import WallTime
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.events import AllInSync, ConditionChanged, Converged, Observer
from allocsync.reconcile.ports import Clock
from allocsync.reconcile.status.condition_rules import ignored_since, project
from allocsync.reconcile.status.convergence import Convergence
from allocsync.reconcile.status.report import ReportedCondition


class ConditionTracker:
    """Keeps the reported conditions; `reported` and `counts` are read-only for others.

    Every managed allocation is in `reported`, from the step that adds it to the step that releases it.
    """

    def __init__(self, emit: Observer, clock: Clock) -> None:
        self._emit = emit
        self._clock = clock
        self._all_in_sync = False
        self._uncompared: set[AllocationId] = set()
        self._paused_pending: set[AllocationId] = set()  # Pending only until a pause ends
        self.reported: dict[AllocationId, ReportedCondition] = {}
        self._since: dict[Condition, dict[AllocationId, WallTime]] = {
            condition: {} for condition in Condition if condition is not Condition.IN_SYNC
        }
        self.counts = dict.fromkeys(Condition, 0)
        self.convergence = Convergence()

    def update_reported(
        self, allocation: ManagedAllocation, *, resync_seconds: float, allocations: int
    ) -> None:
        """Compute the condition of an allocation now, and emit it if it differs from the reported one.

        `allocations` is the number of managed allocations.
        """
        now = self._clock.now()
        condition, reason = project(allocation, now, resync_seconds)
        reported = self.reported.get(allocation.id)
        paused = allocation.write_gate.active_pause(allocation.id, now) is not None
        if _is_uncompared(allocation):
            self._uncompared.add(allocation.id)
        else:
            self._uncompared.discard(allocation.id)
        self._paused_pending.discard(allocation.id)
        if paused and condition is Condition.PENDING:
            self._paused_pending.add(allocation.id)
        took = self.convergence.update(allocation, condition, now)
        if reported is not None and reported.condition is condition:
            reported.refresh(reason, paused=paused)
            return
        self.counts[condition] += 1
        if reported is not None:
            self.counts[reported.condition] -= 1
        since = self._clock.wall()
        if condition is Condition.IGNORED:  # it stays Ignored through requests that fail, and restarts
            since += ignored_since(allocation) - now
        if reported is not None:
            self._since.get(reported.condition, {}).pop(allocation.id, None)
        if condition in self._since:
            self._since[condition][allocation.id] = since
        self.reported[allocation.id] = ReportedCondition(condition, reason, since, paused)
        before = None if reported is None else reported.condition
        self._emit(ConditionChanged(allocation=allocation.id, before=before, after=condition, reason=reason))
        if took is not None:
            self._emit(Converged(allocation=allocation.id, cause=took[0], seconds=took[1]))
        all_in_sync = self.counts[Condition.IN_SYNC] == allocations
        if all_in_sync and not self._all_in_sync and len(self.reported) == allocations:
            self._emit(AllInSync(allocations=allocations))
        self._all_in_sync = all_in_sync

    def forget(self, key: AllocationId) -> None:
        """Forget an allocation that is released."""
        condition = self.reported.pop(key).condition
        self.counts[condition] -= 1
        self._since.get(condition, {}).pop(key, None)
        self._paused_pending.discard(key)
        self._uncompared.discard(key)
        self.convergence.forget(key)

    def oldest(self) -> dict[Condition, WallTime]:
        """Since when (wall clock) each condition, InSync apart, has lasted for the slowest allocation."""
        return {condition: min(since.values()) for condition, since in self._since.items() if since}

    def all_compared(self) -> bool:
        """Whether each allocation that is read has been compared with its newest declaration."""
        return not self._uncompared

    def all_settled(self) -> bool:
        """Whether no allocation is Pending, OutcomeUnknown, Failing, AwaitingApproval or Blocked.

        All others count as settled, Drifted, Missing, Suspended, Conflict and Ignored too.
        """
        unsettled = (
            *(Condition.PENDING, Condition.OUTCOME_UNKNOWN, Condition.FAILING),
            *(Condition.AWAITING_APPROVAL, Condition.BLOCKED),
        )
        return not any(self.counts[condition] for condition in unsettled)

    def unsettled_count(self) -> int:
        """Return how many allocations are Pending or OutcomeUnknown, without those Pending for a pause."""
        return (
            self.counts[Condition.PENDING]
            - len(self._paused_pending)
            + self.counts[Condition.OUTCOME_UNKNOWN]
        )


def _is_uncompared(allocation: ManagedAllocation) -> bool:
    """Whether the allocation is read, and no read has been compared with what is declared now."""
    desired = allocation.desired
    if desired is None or desired.mode is Mode.SUSPEND or allocation.missing:
        return False
    return allocation.compared is not desired and allocation.compared != desired
