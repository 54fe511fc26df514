"""What is wanted: puts generations in force, as far as the rail lets them, and tells the lanes.

The rules: the newest generation counts at once, whatever is under way; what it does not name any more is
disowned. Of one that the rail holds, what it would change is looked at and not written, its canaries aside;
once these are verified it is let through as if somebody had approved it.

Left out: when a generation is held (`planning.guard`, `rails`) and what a lane makes of a wish (`lane`).
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet

from allocsync.errors import NotAwaitingApprovalError
from allocsync.model.desired_state import Desired, Generation
from allocsync.model.ids import AllocationId
from allocsync.planning.change_limit import DIGITS, Ruling, active_declarations
from allocsync.reconcile.allocation.managed_allocation import Lane
from allocsync.reconcile.allocation.updates import State
from allocsync.reconcile.checkpoint import Keeper
from allocsync.reconcile.events import (
    Observer,
    RevisionActivated,
    RevisionApproved,
    RevisionAwaitingApproval,
)
from allocsync.reconcile.ports import Clock
from allocsync.reconcile.rollout.canaries import Canaries
from allocsync.reconcile.rollout.change_review import Rails
from allocsync.reconcile.rollout.declarations import Standing
from allocsync.reconcile.scheduling.scheduler import Admission
from allocsync.reconcile.status.report import Shown

BY_CANARY = "canary"  # stands where an approval names a person


class Adoption:
    """Puts revisions in force.

    `generation` is the newest one. `active` is the newest one that does not await approval; `active_since`
    and `held_since` are wall times.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        emit: Observer,
        keeper: Keeper,
        rails: Rails,
        lanes: dict[AllocationId, Lane],
        shown: Mapping[AllocationId, Shown],
        admission: Admission,
        first_look_at: Callable[[float], float],
        place: Callable[[Lane], None],
        wake: Callable[[], None],
    ) -> None:
        """`lanes` are the loop's; `place` puts one where it belongs in the queue, `wake` has that read."""
        self._clock = clock
        self._emit = emit
        self._keeper = keeper
        self._rails = rails
        self._lanes = lanes
        self._admission = admission
        self._first_look_at = first_look_at
        self._place = place
        self._wake = wake
        self.canaries = Canaries(lanes=lanes, shown=shown, place=place)
        self._standing = Standing(keeper)
        self._stood: dict[AllocationId, Desired | None] = {}  # what held of each before the rail held it
        self.generation: Generation | None = None
        self.active: str | None = None
        self.active_since: float | None = None
        self.held_since: float | None = None

    @property
    def digest(self) -> str:
        """Of the newest generation; empty before the first."""
        return self.generation.digest if self.generation else ""

    @property
    def ruling(self) -> Ruling | None:
        """What the rail says of it."""
        return self._rails.ruling

    def expect(self) -> None:
        """The files may have changed, and are being read."""
        self._admission.make_way(self._clock.now())

    def adopt(self, generation: Generation, *, approved: bool = False, whole: bool = True) -> None:
        """Put a generation in force at once; see `Rails.judge`."""
        now = self._clock.now()
        before = self.ruling
        ruling = self._rails.judge(generation, now, approved=approved, whole=whole)
        self.canaries.watch(ruling.canaries)
        withheld = before.withheld if before else frozenset()
        held = ruling.withheld | ruling.removed if ruling.held else frozenset[AllocationId]()
        self._remember(held)
        freed, ruled = withheld - ruling.withheld, withheld | ruling.withheld
        wanted = active_declarations(generation, ruling, self._stood)
        known = self.generation.allocations if self.generation else {}
        # Most are the very same object, since a file that has not changed is not parsed again.
        new = [key for key, desired in wanted.items() if known.get(key) is not desired or key in ruled]
        changed = removed = 0
        for key in [*new, *generation.quarantined]:
            lane, desired = self._lanes.get(key), wanted.get(key)
            if lane is not None and key not in ruled and _is_untouched(lane, desired):
                lane.desired = desired  # it may stand in another place now
                continue
            if lane is None:
                lane = self._lanes[key] = self._keeper.lane(key)
            if key in freed and lane.state is State.IDLE and lane.changes:
                lane.look_at = min(lane.look_at, lane.restraint.allowed_at(now))
            changed += self._want(lane, desired, generation, now, freed=key in freed)
        for key in [key for key in self._lanes if key not in wanted]:
            if key not in generation.quarantined:
                removed += self._want(self._lanes[key], None, generation, now, freed=False)
        still = held | generation.quarantined.keys()
        self._stood = {key: stood for key, stood in self._stood.items() if key in still}
        anew = self.digest != generation.digest
        self.generation = generation
        self._keep_standing(generation, ruling, whole=whole)
        self._wake()
        if ruling.held:
            self._held(ruling, anew=anew)
            return
        if self.active != generation.digest:
            self.active, self.active_since = generation.digest, self._clock.wall()
        self.held_since = None
        if anew or (before is not None and before.held):
            self._emit(
                RevisionActivated(
                    revision=generation.digest,
                    allocations=len(generation.allocations),
                    changed=changed,
                    removed=removed,
                    quarantined=len(generation.quarantined),
                    files=generation.files,
                )
            )

    def _remember(self, held: AbstractSet[AllocationId]) -> None:
        """What is in force of those that are held from now on; before this process as it was kept."""
        for key in held - self._stood.keys():
            lane = self._lanes.get(key)
            unknown = lane is not None and lane.desired is None and lane.problems
            if self.generation is None or unknown:
                self._stood[key] = self._standing.of(key, self._rails.baseline)
            else:
                self._stood[key] = None if lane is None else lane.desired

    def _keep_standing(self, generation: Generation, ruling: Ruling, *, whole: bool = True) -> None:
        """Have it kept what is in force where the baseline has something else."""
        if not whole:  # what is named is the baseline now, and nothing is said of the rest
            self._standing.keep({}, unclear=self._standing.kept.keys() - generation.allocations.keys())
            return
        wanted, stood, baseline = generation.allocations, self._stood, self._rails.baseline
        differs = sorted(ruling.changed | ruling.added | ruling.removed)
        beside = {key: stood[key] if key in stood else wanted.get(key) for key in differs}
        # Of what is in quarantine the last good version is in force, if this process has seen one.
        last = {key: self._lanes[key].desired for key in generation.quarantined if key in self._lanes}
        beside |= {key: good for key, good in last.items() if good is not None and good != baseline.get(key)}
        self._standing.keep(beside, unclear=[key for key in generation.quarantined if last.get(key) is None])

    def _held(self, ruling: Ruling, *, anew: bool) -> None:
        if not anew:
            return
        self.held_since = self._clock.wall()
        self._emit(
            RevisionAwaitingApproval(
                revision=ruling.generation,
                reason=ruling.reason,
                changed=len(ruling.changed),
                added=len(ruling.added),
                removed=len(ruling.removed),
                allocations=ruling.total,
                limit_percent=ruling.limit_percent,
            )
        )

    def _want(
        self, lane: Lane, desired: Desired | None, generation: Generation, now: float, *, freed: bool
    ) -> bool:
        problems = generation.quarantined.get(lane.id, ())
        if problems and lane.desired is not None:
            if not freed:
                return False  # its last good version stays in force
            desired = self._stood[lane.id]  # what the rail held never was in force
        differs = lane.desired != desired
        lane.want(desired, now=now, problems=problems)
        if differs and lane.compared is None and not lane.missing and lane.intent is None:
            lane.look_at = max(self._first_look_at(now), lane.restraint.allowed_at(now))
        self._place(lane)
        return differs

    def approve(self, digest: str, by: str = "") -> int:
        """Let the generation that is held through, named by its digest or the beginning; how much it changes.

        Raises:
            NotAwaitingApprovalError: no such generation is held.
        """
        generation, ruling = self.generation, self.ruling
        if generation is None or ruling is None or not ruling.held:
            raise NotAwaitingApprovalError("no revision awaits approval: there is nothing to approve")
        name = generation.digest[:DIGITS]
        if len(digest) < DIGITS or not generation.digest.startswith(digest):
            raise NotAwaitingApprovalError(
                f"the revision that awaits approval is {name}, not {digest}: the files have changed since, "
                f"or it is a slip. Read `allocsync plan`, then `allocsync approve {name}`"
            )
        self._let_through(generation, ruling, by)
        return ruling.changes

    def _let_through(self, generation: Generation, ruling: Ruling, by: str) -> None:
        self._emit(RevisionApproved(revision=generation.digest, changes=ruling.changes, by=by))
        self.adopt(generation, approved=True)

    def tend(self, *, settled: bool, least_seconds: float | None = None) -> None:
        """Let the rest follow the canaries, and move the baseline, if it is time; see `Rails.tend`."""
        progress = self.canaries.tend(self._clock.now())
        if progress is not None and self.generation is not None and self.ruling is not None:
            if progress.done:
                self._let_through(self.generation, self.ruling, BY_CANARY)
            else:
                self._rails.progressed(self.ruling, progress.text)
        before = self.ruling
        self._rails.tend(self._clock.now(), settled=settled, least_seconds=least_seconds)
        if self.generation is not None and self.ruling is not None and self.ruling is not before:
            self._keep_standing(self.generation, self.ruling)


def _is_untouched(lane: Lane, desired: Desired | None) -> bool:
    """Whether the files say the same of it as before: of a hundred thousand few cost anything."""
    same = lane.desired is desired or lane.desired == desired
    return same and desired is not None and lane.compared is not None and not lane.problems
