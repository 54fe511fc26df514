"""What the rail holds, judged by what processes were told and people approved, never by what they remember.

The rule: what a process is told first is the baseline, and so is what is approved. Whatever was in force for
five minutes may have become one since, as it may have settled; of several that it may be, a promise is broken
only where all of them hold an allocation, and something is demanded only where none does. What is held is
not written; what a held generation does not name any more stays as it stood.

Left out: a process that ends before its first baseline or an approval is on the disk, a journal that is lost,
canaries, and removals while the baseline may be one of several: no run with a rail has them.
"""

from collections.abc import Mapping

from allocsync.model.desired_state import Desired
from allocsync.model.ids import AllocationId
from allocsync.reconcile.parameters import Rules

RULES = Rules()
LEAST = 10  # allocations: a smaller set is not held
EVERYTHING = 100.0
Wanted = Mapping[AllocationId, Desired]


class Rail:
    """`held` must not be written, `perhaps` need not be; `stands` is what is in force and not named."""

    def __init__(self, percent: float) -> None:
        self._percent = percent
        self._baselines: list[Wanted] = []  # it is one of these
        self._in_force: list[tuple[float, Wanted]] = []  # since when, and not yet among them
        self._told: Wanted = {}  # last, whichever process it was
        self._stood: dict[AllocationId, Desired | None] = {}  # what was in force of what is held
        self.held: frozenset[AllocationId] = frozenset()
        self.perhaps: frozenset[AllocationId] = frozenset()
        self.stands: dict[AllocationId, Desired] = {}

    def begins(self) -> None:
        """A process begins: how long something was in force is counted anew."""
        self._in_force.clear()

    def judge(self, wanted: Wanted, now: float, *, approved: bool) -> None:
        """A process is told this now; it may be what somebody has approved."""
        if self._percent >= EVERYTHING:
            return
        long_ago = now - RULES.rail_settled_seconds
        self._baselines += [each for since, each in self._in_force if since <= long_ago]
        self._in_force = [(since, each) for since, each in self._in_force if since > long_ago]
        if approved or not self._baselines:
            self._baselines = [wanted]
            self._in_force.clear()
        changes = [self._changes(baseline, wanted) for baseline in self._baselines]
        changed = frozenset.intersection(*changes)
        if all(changes):
            self._in_force.clear()
        else:
            self._in_force.append((now, wanted))
        self._stood = {key: self._stood.get(key, self._told.get(key)) for key in changed}
        self._told = wanted
        self.stands = {key: stood for key in changed - wanted.keys() if (stood := self._stood[key])}
        self.held = changed & wanted.keys()
        self.perhaps = frozenset.union(*changes) - self.stands.keys()

    def _changes(self, baseline: Wanted, wanted: Wanted) -> frozenset[AllocationId]:
        """All that is declared otherwise, for the first time, or not any more, if that is too much."""
        named = baseline.keys() | wanted.keys()
        changes = frozenset(key for key in named if baseline.get(key) != wanted.get(key))
        too_much = len(named) >= LEAST and EVERYTHING * len(changes) > self._percent * len(named)
        return changes if too_much or not wanted else frozenset()
