"""What the change limit holds, from what processes were given and people approved, never from their memory.

The rules: the first revision that a process gets is the baseline, and so is an approved one. A revision that
was active for five minutes may have become the baseline, since it may have settled. What a process stored
just before it ended may be lost, so that an older baseline is in force again. If the baseline is one of
several, an allocation must not be written if all of them hold it, and an update is expected only if none
does. A held allocation is not written; one that a held revision no longer names stays active.

Canaries are not held. When a read of each canary that one of the baselines gives has shown what the revision
declares, and that read began after the process got the revision, the revision may be approved.

Left out: removals while the baseline is one of several, or while there are canaries. No run has them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from allocsync.model.desired_state import Desired, Revision
from allocsync.model.ids import AllocationId
from allocsync.planning import change_limit
from allocsync.reconcile.parameters import Parameters

RULES = Parameters()
LEAST = 10  # allocations; smaller revisions are not held
EVERYTHING = 100.0
DesiredById = Mapping[AllocationId, Desired]
NOTHING: frozenset[AllocationId] = frozenset()
Baselines = list[DesiredById | None]  # None: a journal without a baseline


@dataclass(frozen=True, slots=True)
class _Stored:
    """A baseline that a process stored at a time, and those that are in force again if that is lost."""

    process: int
    at: float
    before: Baselines


class ChangeLimitOracle:
    """What is held of the active revision.

    `held` must not be written, `possibly_held` need not be. `still_active` has what is active and no longer
    declared. `canaries` has what may be written first, by each baseline that gives canaries. `fired` has the
    kinds of what happened.
    """

    def __init__(self, percent: float, canary: int = 0) -> None:
        self._percent, self._canary = percent, canary
        self.fired: set[str] = set()
        self._baselines: Baselines = [None]  # the baseline is one of these
        self._stored: list[_Stored] = []
        self._process = 0
        self._became_active: list[tuple[float, DesiredById]] = []  # since when, too young to be a baseline
        self._last_reviewed: DesiredById = {}  # the latest revision of any process
        self._active_before: dict[AllocationId, Desired | None] = {}  # what was active before it was held
        self.held: frozenset[AllocationId] = NOTHING
        self.possibly_held: frozenset[AllocationId] = NOTHING
        self.canaries: tuple[frozenset[AllocationId], ...] = ()
        self.still_active: dict[AllocationId, Desired] = {}

    def process_started(self, process: int, *, is_recorded: Callable[[int, float], bool], gap: bool) -> None:
        """A process starts: the time that a revision has been active counts from zero.

        `is_recorded(process, at)` says whether what a process stored at a time is surely on the disk; `gap`
        says that the journal was lost.
        """
        self._process = process
        self._became_active.clear()
        self.canaries = ()
        if gap:
            self._baselines = [None]
        for stored in () if gap else self._stored:
            if not is_recorded(stored.process, stored.at):
                self._add(*stored.before)
        self._stored.clear()

    def canaries_verified(self) -> None:
        """The canaries of the newest revision may have been verified, and the revision approved."""
        self._add(self._last_reviewed)

    def _add(self, *baselines: DesiredById | None) -> None:
        self._baselines += [each for each in baselines if each not in self._baselines]

    def _set_baseline(self, desired: DesiredById, now: float) -> None:
        self._stored.append(_Stored(self._process, now, list(self._baselines)))
        self._baselines = [desired]

    def review(
        self, desired: DesiredById, now: float, *, approved: bool, are_canaries_verified: bool = False
    ) -> None:
        """A process gets this revision at `now`; `approved` says that a person approved it.

        `are_canaries_verified` says that reads have shown all canaries of the revision before as declared.
        """
        if self._percent >= EVERYTHING:
            return
        if are_canaries_verified:
            self.canaries_verified()
        settled_since = now - RULES.baseline_settled_seconds
        self._add(*(each for since, each in self._became_active if since <= settled_since))
        self._became_active = [(since, each) for since, each in self._became_active if since > settled_since]
        if approved or self._baselines == [None]:
            self._set_baseline(desired, now)
            self._became_active.clear()
        # A process whose journal has no baseline takes this revision as one.
        baselines = [desired if each is None else each for each in self._baselines]
        changes = [self._changes(baseline, desired) for baseline in baselines]
        canaries = [
            self._canaries(baseline, desired) if changed else NOTHING
            for baseline, changed in zip(baselines, changes, strict=True)
        ]
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
        withheld = [each - first for each, first in zip(changes, canaries, strict=True)]
        self.canaries = tuple(each for each in canaries if each)
        self.held = frozenset.intersection(*withheld) & desired.keys()
        self.possibly_held = frozenset.union(*withheld) - self.still_active.keys()
        self.fired |= {"change limit"} if self.held else set()
        self.fired |= {"canaries"} if self.canaries else set()

    def release(self, now: float) -> None:
        """Nothing of the newest revision is held: its canaries are verified, or the daemon says so."""
        self.fired |= {"approval by canaries"} if self.canaries else set()
        if self.possibly_held:
            self._set_baseline(self._last_reviewed, now)
        self.held = self.possibly_held = NOTHING
        self.canaries = ()

    def _changes(self, baseline: DesiredById, desired: DesiredById) -> frozenset[AllocationId]:
        """The allocations whose declaration was changed, added or removed, if they exceed the limit."""
        named = baseline.keys() | desired.keys()
        changes = frozenset(key for key in named if baseline.get(key) != desired.get(key))
        too_much = len(named) >= LEAST and EVERYTHING * len(changes) > self._percent * len(named)
        return changes if too_much or not desired else frozenset()

    def _canaries(self, baseline: DesiredById, desired: DesiredById) -> frozenset[AllocationId]:
        """The canaries are a pure function of both, tested by its own unit tests."""
        limit = change_limit.ChangeLimit(percent=self._percent, canary=self._canary)
        return change_limit.review_changes(baseline, Revision("", desired), limit).canaries
