"""What is wanted: puts generations in force, as far as the rail lets them, and tells the lanes.

The rules: the newest generation counts at once, whatever is under way; what it does not name any more is
disowned. Of one that the rail holds, what it would change is looked at and not written, its canaries aside;
once these are verified it is let through as if somebody had approved it.

Left out: when a generation is held (`planning.guard`, `rails`) and what a lane makes of a wish (`lane`).
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet

from allocsync.errors import NotAwaitingApprovalError
from allocsync.model.desired_state import Desired, Revision
from allocsync.model.ids import AllocationId
from allocsync.planning.change_limit import DIGITS, ChangeReview, active_declarations
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.updates import State
from allocsync.reconcile.checkpoint import Checkpoint
from allocsync.reconcile.events import (
    Observer,
    RevisionActivated,
    RevisionApproved,
    RevisionAwaitingApproval,
)
from allocsync.reconcile.ports import Clock
from allocsync.reconcile.rollout.canaries import Canaries
from allocsync.reconcile.rollout.change_review import ChangeReviewer
from allocsync.reconcile.rollout.declarations import ActiveDeclarations
from allocsync.reconcile.scheduling.scheduler import Scheduler
from allocsync.reconcile.status.report import ReportedCondition

BY_CANARY = "canary"  # stands where an approval names a person


class Rollout:
    """Puts revisions in force.

    `generation` is the newest one. `active` is the newest one that does not await approval; `active_since`
    and `held_since` are wall times.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        emit: Observer,
        checkpoint: Checkpoint,
        reviewer: ChangeReviewer,
        allocations: dict[AllocationId, ManagedAllocation],
        reported: Mapping[AllocationId, ReportedCondition],
        admission: Scheduler,
        first_read_at: Callable[[float], float],
        requeue: Callable[[ManagedAllocation], None],
        wake: Callable[[], None],
    ) -> None:
        """`lanes` are the loop's; `place` puts one where it belongs in the queue, `wake` has that read."""
        self._clock = clock
        self._emit = emit
        self._checkpoint = checkpoint
        self._reviewer = reviewer
        self._allocations = allocations
        self._scheduler = admission
        self._first_read_at = first_read_at
        self._requeue = requeue
        self._wake = wake
        self.canaries = Canaries(allocations=allocations, reported=reported, requeue=requeue)
        self._declarations = ActiveDeclarations(checkpoint)
        self._active_before: dict[
            AllocationId, Desired | None
        ] = {}  # what held of each before the rail held it
        self.revision: Revision | None = None
        self.active: str | None = None
        self.active_since: float | None = None
        self.awaiting_since: float | None = None

    @property
    def revision_id(self) -> str:
        """Of the newest generation; empty before the first."""
        return self.revision.id if self.revision else ""

    @property
    def review(self) -> ChangeReview | None:
        """What the rail says of it."""
        return self._reviewer.review

    def expect(self) -> None:
        """The files may have changed, and are being read."""
        self._scheduler.prefer_edits(self._clock.now())

    def activate(self, revision: Revision, *, approved: bool = False, whole: bool = True) -> None:
        """Put a generation in force at once; see `Rails.judge`."""
        now = self._clock.now()
        before = self.review
        review = self._reviewer.judge(revision, now, approved=approved, whole=whole)
        self.canaries.watch(review.canaries)
        withheld = before.withheld if before else frozenset()
        awaiting = review.withheld | review.removed if review.awaits_approval else frozenset[AllocationId]()
        self._remember(awaiting)
        freed, ruled = withheld - review.withheld, withheld | review.withheld
        wanted = active_declarations(revision, review, self._active_before)
        known = self.revision.allocations if self.revision else {}
        # Most are the very same object, since a file that has not changed is not parsed again.
        new = [key for key, desired in wanted.items() if known.get(key) is not desired or key in ruled]
        changed = removed = 0
        for key in [*new, *revision.quarantined]:
            allocation, desired = self._allocations.get(key), wanted.get(key)
            if allocation is not None and key not in ruled and _is_untouched(allocation, desired):
                allocation.update_source(desired)
                continue
            if allocation is None:
                allocation = self._allocations[key] = self._checkpoint.create_allocation(key)
            if key in freed and allocation.state is State.IDLE and allocation.changes:
                allocation.read_no_later_than(now)
            changed += self._set_desired(allocation, desired, revision, now, freed=key in freed)
        for key in [key for key in self._allocations if key not in wanted]:
            if key not in revision.quarantined:
                removed += self._set_desired(self._allocations[key], None, revision, now, freed=False)
        still = awaiting | revision.quarantined.keys()
        self._active_before = {
            key: active_before for key, active_before in self._active_before.items() if key in still
        }
        anew = self.revision_id != revision.id
        self.revision = revision
        self._save_active(revision, review, whole=whole)
        self._wake()
        if review.awaits_approval:
            self._await_approval(review, anew=anew)
            return
        if self.active != revision.id:
            self.active, self.active_since = revision.id, self._clock.wall()
        self.awaiting_since = None
        if anew or (before is not None and before.awaits_approval):
            self._emit(
                RevisionActivated(
                    revision=revision.id,
                    allocations=len(revision.allocations),
                    changed=changed,
                    removed=removed,
                    quarantined=len(revision.quarantined),
                    files=revision.files,
                )
            )

    def _remember(self, awaiting: AbstractSet[AllocationId]) -> None:
        """What is in force of those that are held from now on; before this process as it was kept."""
        for key in awaiting - self._active_before.keys():
            allocation = self._allocations.get(key)
            unknown = allocation is not None and allocation.desired is None and allocation.problems
            if self.revision is None or unknown:
                self._active_before[key] = self._declarations.of(key, self._reviewer.baseline)
            else:
                self._active_before[key] = None if allocation is None else allocation.desired

    def _save_active(self, revision: Revision, review: ChangeReview, *, whole: bool = True) -> None:
        """Have it kept what is in force where the baseline has something else."""
        if not whole:  # what is named is the baseline now, and nothing is said of the rest
            self._declarations.save({}, unclear=self._declarations.kept.keys() - revision.allocations.keys())
            return
        wanted, active_before, baseline = revision.allocations, self._active_before, self._reviewer.baseline
        differs = sorted(review.changed | review.added | review.removed)
        beside = {key: active_before[key] if key in active_before else wanted.get(key) for key in differs}
        # Of what is in quarantine the last good version is in force, if this process has seen one.
        last = {
            key: self._allocations[key].desired for key in revision.quarantined if key in self._allocations
        }
        beside |= {key: good for key, good in last.items() if good is not None and good != baseline.get(key)}
        self._declarations.save(
            beside, unclear=[key for key in revision.quarantined if last.get(key) is None]
        )

    def _await_approval(self, review: ChangeReview, *, anew: bool) -> None:
        if not anew:
            return
        self.awaiting_since = self._clock.wall()
        self._emit(
            RevisionAwaitingApproval(
                revision=review.revision,
                reason=review.reason,
                changed=len(review.changed),
                added=len(review.added),
                removed=len(review.removed),
                allocations=review.total,
                limit_percent=review.limit_percent,
            )
        )

    def _set_desired(
        self,
        allocation: ManagedAllocation,
        desired: Desired | None,
        revision: Revision,
        now: float,
        *,
        freed: bool,
    ) -> bool:
        problems = revision.quarantined.get(allocation.id, ())
        if problems and allocation.desired is not None:
            if not freed:
                return False  # its last good version stays in force
            desired = self._active_before[allocation.id]  # what the rail held never was in force
        differs = allocation.desired != desired
        allocation.set_desired(desired, now=now, problems=problems)
        if differs and allocation.compared is None and not allocation.missing and allocation.intent is None:
            allocation.schedule_first_read(self._first_read_at(now), now)
        self._requeue(allocation)
        return differs

    def approve(self, prefix: str, by: str = "") -> int:
        """Let the generation that is held through, named by its prefix or the beginning; how much it changes.

        Raises:
            NotAwaitingApprovalError: no such generation is held.
        """
        revision, review = self.revision, self.review
        if revision is None or review is None or not review.awaits_approval:
            raise NotAwaitingApprovalError("no revision awaits approval: there is nothing to approve")
        name = revision.id[:DIGITS]
        if len(prefix) < DIGITS or not revision.id.startswith(prefix):
            raise NotAwaitingApprovalError(
                f"the revision that awaits approval is {name}, not {prefix}: the files have changed since, "
                f"or it is a slip. Read `allocsync plan`, then `allocsync approve {name}`"
            )
        self._let_through(revision, review, by)
        return review.changes

    def _let_through(self, revision: Revision, review: ChangeReview, by: str) -> None:
        self._emit(RevisionApproved(revision=revision.id, changes=review.changes, by=by))
        self.activate(revision, approved=True)

    def tick(self, *, settled: bool, least_seconds: float | None = None) -> None:
        """Let the rest follow the canaries, and move the baseline, if it is time; see `Rails.tend`."""
        progress = self.canaries.tick(self._clock.now())
        if progress is not None and self.revision is not None and self.review is not None:
            if progress.done:
                self._let_through(self.revision, self.review, BY_CANARY)
            else:
                self._reviewer.progressed(self.review, progress.text)
        before = self.review
        self._reviewer.tick(self._clock.now(), settled=settled, least_seconds=least_seconds)
        if self.revision is not None and self.review is not None and self.review is not before:
            self._save_active(self.revision, self.review)


def _is_untouched(allocation: ManagedAllocation, desired: Desired | None) -> bool:
    """Whether the files say the same of it as before: of a hundred thousand few cost anything."""
    same = allocation.desired is desired or allocation.desired == desired
    return same and desired is not None and allocation.compared is not None and not allocation.problems
