"""The canaries of a revision that awaits approval: watched until a GET has shown each of them in sync. Pure.

The rules: a canary is verified if its condition is InSync and the GET of its latest reconcile showed all that
the newest revision declares of it. A reconcile counts only if it began after that revision was loaded. A list
read verifies nothing, but a difference in it ends the verification; a failed GET verifies nothing either,
even while the condition stays InSync. The revision is approved when all canaries are verified at the
same time, and never by time alone.

The cost: progress is computed only after an event of a canary, so that it does not grow with the number of
allocations.

Left out: which allocations are canaries (`planning.change_limit`), and the approval (`rollout`).
"""

from collections import Counter
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from allocsync.model.condition import Condition
from allocsync.model.ids import AllocationId
from allocsync.model.times import Monotonic
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.updates import State
from allocsync.reconcile.status.report import ReportedCondition

_UNVERIFIED = "not yet verified by a GET"  # InSync, according to the list or to an earlier GET


@dataclass(frozen=True, slots=True)
class Progress:
    """`done`: all canaries are verified. `text`: how many are, and the state of the others, for people."""

    done: bool
    text: str


class Canaries:
    """Watches the canaries of the newest revision; there are none unless it awaits approval."""

    def __init__(
        self,
        *,
        allocations: Mapping[AllocationId, ManagedAllocation],
        reported: Mapping[AllocationId, ReportedCondition],
        requeue: Callable[[ManagedAllocation], None],
    ) -> None:
        """`requeue` queues an allocation anew; `reported` has the reported condition of each allocation."""
        self._allocations = allocations
        self._reported = reported
        self._requeue = requeue
        self._ids: AbstractSet[AllocationId] = frozenset()
        self._verified: set[AllocationId] = set()
        self._begun: set[AllocationId] = set()  # a reconcile of these began after `watch`
        self._changed = False  # whether a canary had an event since the latest `tick`

    def watch(self, ids: AbstractSet[AllocationId]) -> None:
        """Watch these canaries from now on; none of them is verified yet."""
        self._ids, self._verified, self._begun, self._changed = ids, set(), set(), bool(ids)

    def on_begin(self, key: AllocationId) -> None:
        """A reconcile of this allocation begins."""
        if key in self._ids:
            self._begun.add(key)

    def on_end(self, allocation: ManagedAllocation, *, observed: bool) -> None:
        """A reconcile of this allocation ended; `observed`: its GET showed a state and did not fail."""
        if allocation.id not in self._begun:
            return
        if observed and _shows_desired(allocation):
            self._verified.add(allocation.id)
        else:
            self._verified.discard(allocation.id)

    def on_condition(self, key: AllocationId) -> None:
        """The condition of this allocation was computed anew after an event."""
        self._changed = self._changed or key in self._ids

    def tick(self, now: Monotonic) -> Progress | None:
        """Return the progress, or None if no canary had an event since the latest call.

        Queue a GET of each canary that is InSync but not yet verified.
        """
        if not self._changed:
            return None
        self._changed = False
        for key in self._ids - self._verified:
            allocation = self._allocations[key]
            needs_read = (
                self._in_sync(allocation) and allocation.state is State.IDLE and not allocation.read_failures
            )
            if needs_read and allocation.read_no_later_than(now):
                self._requeue(allocation)
        verified = self.verified()
        others = Counter(self._describe(key) for key in verified if not verified[key])
        states = [f"{number:,} {state}" for state, number in others.items()]
        so_far = f"{sum(verified.values()):,} so far"
        return Progress(done=not others, text=", ".join([so_far, *states]))

    def verified(self) -> Mapping[AllocationId, bool]:
        """Return for each canary, sorted by id, whether it is verified now."""
        return {key: self._is_verified(self._allocations[key]) for key in sorted(self._ids)}

    def _is_verified(self, allocation: ManagedAllocation) -> bool:
        undisputed = not allocation.list_differs and not self._reported[allocation.id].paused
        return allocation.id in self._verified and self._in_sync(allocation) and undisputed

    def _describe(self, key: AllocationId) -> str:
        """Return why a canary is not verified, for people."""
        if self._reported[key].paused:
            return "paused"
        condition = self._reported[key].condition
        return _UNVERIFIED if condition is Condition.IN_SYNC else condition.value

    def _in_sync(self, allocation: ManagedAllocation) -> bool:
        return self._reported[allocation.id].condition is Condition.IN_SYNC


def _shows_desired(allocation: ManagedAllocation) -> bool:
    """Whether the latest reconcile saw exactly what is declared now, so that it sent nothing."""
    return allocation.compared == allocation.desired and not (allocation.changes or allocation.intent)
