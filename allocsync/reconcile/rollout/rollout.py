"""The rollout: activates and approves revisions, and gives each allocation its declaration.

The rules: the newest revision counts at once, whatever is in flight. An allocation that it no longer names is
released: allocsync never writes to it again. While a revision awaits approval, the allocations that it
changes are read but not written, except its canaries; when all canaries are verified, the revision is
approved.

Left out: when a revision awaits approval (`planning.change_limit`, `change_review`), and what an allocation
does with a new declaration (`allocation.managed_allocation`).
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet

from allocsync.errors import NotAwaitingApprovalError
from allocsync.model.desired_state import Desired, Revision
from allocsync.model.ids import AllocationId
from allocsync.model.times import Monotonic, WallTime
from allocsync.planning.change_limit import DIGITS, ChangeReview, active_declarations
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.updates import State
from allocsync.reconcile.events import (
    Observer,
    RevisionActivated,
    RevisionApproved,
    RevisionAwaitingApproval,
)
from allocsync.reconcile.ports import Clock
from allocsync.reconcile.rollout.canaries import Canaries
from allocsync.reconcile.rollout.change_review import ChangeReviewer
from allocsync.reconcile.rollout.declarations import Declarations
from allocsync.reconcile.scheduling.scheduler import Scheduler
from allocsync.reconcile.status.report import ReportedCondition

BY_CANARY = "canary"  # the approver of a revision whose canaries are all verified


class Rollout:
    """Activates revisions.

    `revision` is the newest one. `active` is the id of the newest one that needed no approval or has it,
    since this process began. `active_since` and `awaiting_since` are in Unix seconds; None if there is
    no such revision.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        emit: Observer,
        declarations: Declarations,
        reviewer: ChangeReviewer,
        allocations: Mapping[AllocationId, ManagedAllocation],
        manage: Callable[[AllocationId], ManagedAllocation],
        reported: Mapping[AllocationId, ReportedCondition],
        scheduler: Scheduler,
        first_read_at: Callable[[Monotonic], Monotonic],
        requeue: Callable[[ManagedAllocation], None],
        wake_dispatcher: Callable[[], None],
    ) -> None:
        """`allocations` has every managed allocation; `manage` adds a new one to it and returns that.

        `requeue` queues an allocation anew, or releases it; `wake_dispatcher` runs the dispatcher.
        `first_read_at(now)` returns when (monotonic) a new allocation is read by itself.
        """
        self._clock = clock
        self._emit = emit
        self._reviewer = reviewer
        self._allocations = allocations
        self._manage = manage
        self._scheduler = scheduler
        self._first_read_at = first_read_at
        self._requeue = requeue
        self._wake_dispatcher = wake_dispatcher
        self.canaries = Canaries(allocations=allocations, reported=reported, requeue=requeue)
        self._declarations = declarations
        self.revision: Revision | None = None
        self.active: str | None = None
        self.active_since: WallTime | None = None
        self.awaiting_since: WallTime | None = None

    @property
    def revision_id(self) -> str:
        """The id of the newest revision; empty before the first."""
        return self.revision.id if self.revision else ""

    @property
    def review(self) -> ChangeReview | None:
        """The change review of the newest revision; None before the first."""
        return self._reviewer.review

    def expect_edits(self) -> None:
        """Prefer edits for a moment: the files may have changed and are being read."""
        self._scheduler.prefer_edits(self._clock.now())

    def activate(self, revision: Revision, *, approved: bool = False, whole: bool = True) -> None:
        """Activate a revision at once, except the changes that await approval.

        Emit `RevisionActivated` or `RevisionAwaitingApproval`; nothing if revision and approval are not new.
        `approved` and `whole` are as in `ChangeReviewer.judge`.
        """
        now = self._clock.now()
        before = self.review
        review = self._reviewer.judge(revision, now, approved=approved, whole=whole)
        self.canaries.watch(review.canaries)
        withheld = before.withheld if before else frozenset()
        awaiting = review.withheld | review.removed if review.awaits_approval else frozenset[AllocationId]()
        self._remember_active(awaiting)
        unblocked, affected = withheld - review.withheld, withheld | review.withheld
        wanted = active_declarations(revision, review, self._declarations.last_active)
        previous = self.revision.allocations if self.revision else {}
        # Identity first: most are the same object, because an unchanged file is not parsed again.
        edited = [
            key for key, desired in wanted.items() if previous.get(key) is not desired or key in affected
        ]
        changed = removed = 0
        for key in [*edited, *revision.quarantined]:
            allocation, desired = self._allocations.get(key), wanted.get(key)
            if allocation is not None and key not in affected and _is_untouched(allocation, desired):
                allocation.update_source(desired)
                continue
            if allocation is None:
                allocation = self._manage(key)
            if key in unblocked and allocation.state is State.IDLE and allocation.changes:
                allocation.read_no_later_than(now)
            changed += self._set_desired(allocation, desired, revision, now, unblocked=key in unblocked)
        for key in [key for key in self._allocations if key not in wanted]:
            if key not in revision.quarantined:
                removed += self._set_desired(self._allocations[key], None, revision, now, unblocked=False)
        self._declarations.forget_active_except(awaiting | revision.quarantined.keys())
        is_new = self.revision_id != revision.id
        self.revision = revision
        self._save_active(revision, review, whole=whole)
        self._wake_dispatcher()
        if review.awaits_approval:
            self._await_approval(review, is_new=is_new)
            return
        if self.active != revision.id:
            self.active, self.active_since = revision.id, self._clock.wall()
        self.awaiting_since = None
        if is_new or (before is not None and before.awaits_approval):
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

    def _remember_active(self, awaiting: AbstractSet[AllocationId]) -> None:
        """Remember what is active of the allocations that await approval, or was in the previous process."""
        for key in awaiting - self._declarations.last_active.keys():
            allocation = self._allocations.get(key)
            is_unknown = allocation is not None and allocation.desired is None and allocation.problems
            if self.revision is None or is_unknown:
                active = self._declarations.stored_active(key)
            else:
                active = None if allocation is None else allocation.desired
            self._declarations.remember_active(key, active)

    def _save_active(self, revision: Revision, review: ChangeReview, *, whole: bool = True) -> None:
        """Store the active declarations that differ from the baseline."""
        declarations, wanted = self._declarations, revision.allocations
        if not whole:  # the named allocations are in the baseline now, and the others stay as they were
            declarations.set_differing({}, unchanged=declarations.differing.keys() - wanted.keys())
            return
        last_active, baseline = declarations.last_active, declarations.baseline
        differs = sorted(review.changed | review.added | review.removed)
        differing = {key: last_active[key] if key in last_active else wanted.get(key) for key in differs}
        # While an entry has errors, its last declaration without errors is active, if this process has one.
        last_good = {
            key: self._allocations[key].desired for key in revision.quarantined if key in self._allocations
        }
        differing |= {
            key: good for key, good in last_good.items() if good is not None and good != baseline.get(key)
        }
        declarations.set_differing(
            differing, unchanged=[key for key in revision.quarantined if last_good.get(key) is None]
        )

    def _await_approval(self, review: ChangeReview, *, is_new: bool) -> None:
        if not is_new:
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
        now: Monotonic,
        *,
        unblocked: bool,
    ) -> bool:
        problems = revision.quarantined.get(allocation.id, ())
        if problems and allocation.desired is not None:
            if not unblocked:
                allocation.keep_desired(problems)  # its last declaration without errors stays active
                self._requeue(allocation)
                return False
            desired = self._declarations.last_active[
                allocation.id
            ]  # the withheld declaration was never active
        differs = allocation.desired != desired
        allocation.set_desired(desired, now=now, problems=problems)
        if differs and allocation.compared is None and not allocation.missing and allocation.intent is None:
            allocation.schedule_first_read(self._first_read_at(now), now)
        self._requeue(allocation)
        return differs

    def approve(self, prefix: str, by: str = "") -> int:
        """Approve and activate the revision that awaits approval; return how many allocations it changes.

        `prefix` is its id or the beginning of it, at least DIGITS digits; `by` is the approver.

        Raises:
            NotAwaitingApprovalError: no revision, or another one, awaits approval.
        """
        revision, review = self.revision, self.review
        if revision is None or review is None or not review.awaits_approval:
            raise NotAwaitingApprovalError("no revision awaits approval: there is nothing to approve")
        name = revision.id[:DIGITS]
        if len(prefix) < DIGITS or not revision.id.startswith(prefix):
            raise NotAwaitingApprovalError(
                f"the revision that awaits approval is {name}, not {prefix}: the files have changed since "
                f"then, or it is mistyped. Read `allocsync plan`, then run `allocsync approve {name}`"
            )
        self._approve(revision, review, by)
        return review.changes

    def _approve(self, revision: Revision, review: ChangeReview, by: str) -> None:
        self._emit(RevisionApproved(revision=revision.id, changes=review.changes, by=by))
        self.activate(revision, approved=True)

    def tick(self, *, settled: bool, least_seconds: float | None = None) -> None:
        """Approve the revision if its canaries are verified, and advance the baseline if it is time.

        `settled` and `least_seconds` are as in `ChangeReviewer.tick`.
        """
        progress = self.canaries.tick(self._clock.now())
        if progress is not None and self.revision is not None and self.review is not None:
            if progress.done:
                self._approve(self.revision, self.review, BY_CANARY)
            else:
                self._reviewer.record_progress(self.review, progress.text)
        before = self.review
        self._reviewer.tick(self._clock.now(), settled=settled, least_seconds=least_seconds)
        if self.revision is not None and self.review is not None and self.review is not before:
            self._save_active(self.revision, self.review)


def _is_untouched(allocation: ManagedAllocation, desired: Desired | None) -> bool:
    """Whether an edit needs nothing here, so that its cost depends on what it changes and not on all."""
    same = allocation.desired is desired or allocation.desired == desired
    return same and desired is not None and allocation.compared is not None and not allocation.problems
