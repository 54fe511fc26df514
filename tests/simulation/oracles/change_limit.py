"""What the change limit holds, from what processes were given and people approved, never from their memory.

The rules: the first revision that a process gets is the baseline, and so is an approved one. A revision that
was active for five minutes may have become the baseline, since it may have settled. If the baseline is one of
several, an allocation must not be written if all of them hold it, and an update is expected only if none
does. A held allocation is not written; one that a held revision no longer names stays active.

Left out: a process that ends before its first baseline or an approval is on the disk, a lost journal,
canaries, and removals while the baseline is one of several. No run with a change limit has them.
"""

from collections.abc import Mapping

from allocsync.model.desired_state import Desired
from allocsync.model.ids import AllocationId
from allocsync.reconcile.parameters import Parameters

RULES = Parameters()
LEAST = 10  # allocations; smaller revisions are not held
EVERYTHING = 100.0
DesiredById = Mapping[AllocationId, Desired]


class ChangeLimitOracle:
    """What is held of the active revision.

    `held` must not be written, `possibly_held` need not be. `still_active` has what is active and no longer
    declared.
    """

    def __init__(self, percent: float) -> None:
        self._percent = percent
        self._baselines: list[DesiredById] = []  # the baseline is one of these
        self._became_active: list[tuple[float, DesiredById]] = []  # since when, too young to be a baseline
        self._last_reviewed: DesiredById = {}  # the latest revision of any process
        self._active_before: dict[AllocationId, Desired | None] = {}  # what was active before it was held
        self.held: frozenset[AllocationId] = frozenset()
        self.possibly_held: frozenset[AllocationId] = frozenset()
        self.still_active: dict[AllocationId, Desired] = {}

    def process_started(self) -> None:
        """A process starts: the time that a revision has been active counts from zero."""
        self._became_active.clear()

    def review(self, desired: DesiredById, now: float, *, approved: bool) -> None:
        """A process gets this revision at `now`; `approved` says that a person approved it."""
        if self._percent >= EVERYTHING:
            return
        settled_since = now - RULES.baseline_settled_seconds
        self._baselines += [each for since, each in self._became_active if since <= settled_since]
        self._became_active = [(since, each) for since, each in self._became_active if since > settled_since]
        if approved or not self._baselines:
            self._baselines = [desired]
            self._became_active.clear()
        changes = [self._changes(baseline, desired) for baseline in self._baselines]
        changed = frozenset.intersection(*changes)
        if all(changes):
            self._became_active.clear()
        else:
            self._became_active.append((now, desired))
        self._active_before = {
            key: self._active_before.get(key, self._last_reviewed.get(key)) for key in changed
        }
        self._last_reviewed = desired
        self.still_active = {
            key: active_before
            for key in changed - desired.keys()
            if (active_before := self._active_before[key])
        }
        self.held = changed & desired.keys()
        self.possibly_held = frozenset.union(*changes) - self.still_active.keys()

    def _changes(self, baseline: DesiredById, desired: DesiredById) -> frozenset[AllocationId]:
        """The allocations whose declaration was changed, added or removed, if they exceed the limit."""
        named = baseline.keys() | desired.keys()
        changes = frozenset(key for key in named if baseline.get(key) != desired.get(key))
        too_much = len(named) >= LEAST and EVERYTHING * len(changes) > self._percent * len(named)
        return changes if too_much or not desired else frozenset()
