"""The canaries of a held generation: watched until a GET has shown each of them in sync. Pure.

The rule: a canary is verified while the latest pass over it saw, by a GET of its own, all that the newest
generation declares of it, and it is InSync. A bulk answer is no such proof, but may put one in doubt, and nor
is a GET that failed, forgiven or not; each new generation asks for passes that begin after it. The rest may
follow when all are verified at once. No time lets it through.

The cost: it is reckoned anew only after something happened to a canary, however many allocations there are.

Left out: which ones they are (`planning.guard`), and what it means that the rest may follow (`adoption`).
"""

from collections import Counter
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from allocsync.model.condition import Condition
from allocsync.model.ids import AllocationId
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.updates import State
from allocsync.reconcile.status.report import ReportedCondition

_UNSEEN = "not yet seen by a GET"  # in sync, as far as that is known without one


@dataclass(frozen=True, slots=True)
class Progress:
    """How far they are: whether the rest may follow, and the same for people."""

    done: bool
    text: str


class Canaries:
    """Watches the canaries of the newest generation; there are none where nothing is held."""

    def __init__(
        self,
        *,
        allocations: Mapping[AllocationId, ManagedAllocation],
        reported: Mapping[AllocationId, ReportedCondition],
        requeue: Callable[[ManagedAllocation], None],
    ) -> None:
        """`place` puts a lane where it belongs in the queue; `shown` are the conditions as they were told."""
        self._allocations = allocations
        self._shown = reported
        self._requeue = requeue
        self._ids: AbstractSet[AllocationId] = frozenset()
        self._verified: set[AllocationId] = set()
        self._begun: set[AllocationId] = set()  # a pass over these has, since they are the canaries
        self._news = False

    def watch(self, ids: AbstractSet[AllocationId]) -> None:
        """These are the canaries from now on, and nothing has shown anything of them yet."""
        self._ids, self._verified, self._begun, self._news = ids, set(), set(), bool(ids)

    def begun(self, key: AllocationId) -> None:
        """A pass over one allocation begins."""
        if key in self._ids:
            self._begun.add(key)

    def on_read(self, allocation: ManagedAllocation, *, reported: bool) -> None:
        """A pass over one allocation ended, and its GET has `shown` what is live, or has failed."""
        if allocation.id not in self._begun:
            return
        if reported and _seen_equal(allocation):
            self._verified.add(allocation.id)
        else:
            self._verified.discard(allocation.id)

    def placed(self, key: AllocationId) -> None:
        """Something has happened to one allocation, and its condition is told."""
        self._news = self._news or key in self._ids

    def tick(self, now: float) -> Progress | None:
        """Have a look at those that only a bulk answer called in sync; None where there is nothing new."""
        if not self._news:
            return None
        self._news = False
        for key in self._ids - self._verified:
            allocation = self._allocations[key]
            waits = (
                self._in_sync(allocation) and allocation.state is State.IDLE and not allocation.read_failures
            )
            if waits and allocation.read_no_later_than(now):
                self._requeue(allocation)
        verified = self.verified()
        others = Counter(self._word(key) for key in verified if not verified[key])
        words = [f"{number:,} {word}" for word, number in others.items()]
        so_far = f"{sum(verified.values()):,} so far"
        return Progress(done=not others, text=", ".join([so_far, *words]))

    def verified(self) -> Mapping[AllocationId, bool]:
        """Which allocations they are, and whether each is verified now."""
        return {key: self._is_verified(self._allocations[key]) for key in sorted(self._ids)}

    def _is_verified(self, allocation: ManagedAllocation) -> bool:
        clear = not allocation.list_differs and not self._shown[allocation.id].paused
        return allocation.id in self._verified and self._in_sync(allocation) and clear

    def _word(self, key: AllocationId) -> str:
        """Why a canary is not verified, for people."""
        if self._shown[key].paused:
            return "paused"
        condition = self._shown[key].condition
        return _UNSEEN if condition is Condition.IN_SYNC else condition.value

    def _in_sync(self, allocation: ManagedAllocation) -> bool:
        return self._shown[allocation.id].condition is Condition.IN_SYNC


def _seen_equal(allocation: ManagedAllocation) -> bool:
    """Whether the pass that has just ended saw what is declared now; nothing was sent since, then."""
    return allocation.compared == allocation.desired and not (allocation.changes or allocation.intent)
