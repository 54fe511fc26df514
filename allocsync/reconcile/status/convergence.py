"""How long allocations take to be in sync, since when the slowest is not, and what holds updates back. Pure.

The rules: an allocation converges from the time when allocsync began to manage it, its declaration was
edited, or a read found a difference, until it is in sync. Only Pending, OutcomeUnknown, Failing and Blocked
count: the other conditions need a person, or last by design. Neither counts what a person, a write window or
the quota holds back; when that ends, the time begins. An edit meanwhile begins anew, because the user waits
for the newest declaration.

Left out: which condition applies (`condition_rules`), and how it becomes a metric (`telemetry.metrics`).
"""

from typing import Literal, TypeAlias, get_args

from allocsync.model.condition import Condition
from allocsync.model.desired_state import Desired, Mode
from allocsync.model.ids import AllocationId
from allocsync.model.times import Monotonic
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.events import ConvergenceCause as Cause

HeldBackBy: TypeAlias = Literal["approval", "pause", "windows", "quota", "journal", "entry"]
HELD_BACK_BY: tuple[HeldBackBy, ...] = get_args(HeldBackBy)

_CONVERGING = frozenset({Condition.PENDING, Condition.OUTCOME_UNKNOWN, Condition.FAILING, Condition.BLOCKED})


class Convergence:
    """Keeps since when each allocation converges, and what holds its update back. Times are monotonic.

    Attributes:
        held_back: the number of allocations whose update is held back, by what does it.
    """

    def __init__(self) -> None:
        # In the order of the times, so that the first is the oldest.
        self._begun: dict[AllocationId, tuple[Monotonic, Cause, Desired | None]] = {}
        self._held_back: dict[AllocationId, HeldBackBy] = {}
        self.held_back: dict[HeldBackBy, int] = dict.fromkeys(HELD_BACK_BY, 0)

    def oldest_at(self) -> Monotonic | None:
        """Since when the allocation converges that takes longest; None if none does."""
        return next((begun for begun, _, _ in self._begun.values()), None)

    def update(
        self, allocation: ManagedAllocation, condition: Condition, now: Monotonic
    ) -> tuple[Cause, float] | None:
        """Take in the condition of an allocation at `now`.

        Returns why it converged and how many seconds that took, if it is in sync from now on.
        """
        held_back = held_back_by(allocation, condition, now)
        self._set_held_back(allocation.id, held_back)
        if condition not in _CONVERGING or held_back not in {None, "journal"}:
            begun = self._begun.pop(allocation.id, None)
            return (begun[1], now - begun[0]) if begun and condition is Condition.IN_SYNC else None
        cause, known = allocation.difference_cause, self._begun.get(allocation.id)
        # Without a difference it is not drift: the allocation cannot be read.
        is_known = cause != "drift" or bool(allocation.changes)
        if is_known and (known is None or known[2] != allocation.desired):
            self._begun.pop(allocation.id, None)
            self._begun[allocation.id] = now, cause, allocation.desired
        return None

    def forget(self, key: AllocationId) -> None:
        """Forget an allocation that is released."""
        self._begun.pop(key, None)
        self._set_held_back(key, None)

    def _set_held_back(self, key: AllocationId, by: HeldBackBy | None) -> None:
        before = self._held_back.pop(key, None)
        if before is not None:
            self.held_back[before] -= 1
        if by is not None:
            self._held_back[key] = by
            self.held_back[by] += 1


def held_back_by(allocation: ManagedAllocation, condition: Condition, now: Monotonic) -> HeldBackBy | None:
    """What holds back an update that the allocation needs at `now` (monotonic); None if nothing does."""
    if condition is Condition.AWAITING_APPROVAL:
        return "approval"
    if allocation.problems:
        return "entry"
    desired = allocation.desired
    needs_update = desired is not None and desired.mode is Mode.ENFORCE and bool(allocation.changes)
    if not needs_update or condition not in _CONVERGING or allocation.intent is not None:
        return None
    if allocation.write_gate.active_pause(allocation.id, now) is not None:
        return "pause"
    if shared := allocation.write_gate.shared_limit(now):
        return shared
    return "journal" if allocation.write_backoff.journal_problem else None
