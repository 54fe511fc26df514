"""The change review: decides whether a new revision awaits approval, and when the baseline advances.

It compares the revision with the baseline by the change limit.

The rules: the first revision is the baseline at once. A later one becomes the baseline when it is approved,
when it has been active for `baseline_settled_seconds` and all allocations are settled, or
`baseline_age_seconds` after it was activated. A revision that awaits approval becomes it only by approval.

Left out: where the baseline is kept (`declarations`), the comparison itself (`planning.change_limit`), what
canaries show (`canaries`), how a revision is approved, and what happens to the allocations
(`rollout.Rollout.approve`, `rollout.Rollout.activate`).
"""

from dataclasses import replace

from allocsync.model.desired_state import Revision
from allocsync.model.times import Monotonic
from allocsync.planning.change_limit import (
    NO_LIMIT,
    ChangeLimit,
    ChangeReview,
    next_baseline,
    review_changes,
)
from allocsync.reconcile.gates.write_gate import WriteGate
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.rollout.declarations import Declarations


class ChangeReviewer:
    """Reviews revisions: compares them with the baseline. `review` is that of the newest one."""

    def __init__(
        self, *, declarations: Declarations, limit: ChangeLimit, rules: Parameters, write_gate: WriteGate
    ) -> None:
        self._declarations = declarations
        self._limit = limit
        self._rules = rules
        self._write_gate = write_gate
        self.review: ChangeReview | None = None
        # When it was activated, and the revision: the active one, unless it is the baseline.
        self._newest: tuple[Monotonic, Revision] | None = None
        self._oldest: tuple[Monotonic, Revision] | None = None  # activated first of those after the baseline

    def judge(
        self, revision: Revision, now: Monotonic, *, approved: bool, whole: bool = True
    ) -> ChangeReview:
        """Review the newest revision at `now` (monotonic) and withhold the updates that await approval.

        `approved`: it is the baseline from now on. `whole` is False if the revision has only the allocations
        that a person named: these are approved, and the baseline keeps the others.
        """
        declarations = self._declarations
        if not whole:
            if declarations.baseline:
                declarations.set_baseline({**declarations.baseline, **revision.allocations})
        elif approved or not declarations.baseline:
            declarations.set_baseline(next_baseline(declarations.baseline, revision))
        review = review_changes(declarations.baseline, revision, self._limit if whole else NO_LIMIT)
        is_candidate = whole and review.changes and not review.awaits_approval
        self._newest = (now, revision) if is_candidate else None
        self._oldest = (self._oldest or self._newest) if is_candidate else None
        self.review = review
        self._write_gate.require_approval(review.withheld, reason=review.reason, canaries=review.canaries)
        return review

    def record_progress(self, review: ChangeReview, text: str) -> None:
        """Add the progress of the canaries, a text for people, to the reason of a review."""
        self.review = replace(review, progress=text)
        self._write_gate.update_awaiting_reason(self.review.reason)

    def tick(self, now: Monotonic, *, settled: bool, least_seconds: float | None = None) -> None:
        """Advance the baseline if its time has come; `now` is monotonic.

        `settled`: all allocations are settled. If they are, the revision must have been active for
        `least_seconds`, by default `baseline_settled_seconds`. During a pause of all the baseline stays, and
        during the pause of a single allocation nothing counts as settled: an update not sent proves nothing.
        """
        if self._newest is None or self._oldest is None or self._write_gate.everything is not None:
            return
        settled = settled and not self._write_gate.pauses
        newest_since, newest = self._newest
        oldest_since, oldest = self._oldest
        least = self._rules.baseline_settled_seconds if least_seconds is None else least_seconds
        if settled and now - newest_since >= least:
            self._advance(newest, newest)
        elif now - oldest_since >= self._rules.baseline_age_seconds:
            # With this baseline the active revision must not await approval after a restart; if it would,
            # the baseline stays until the active revision is old enough itself.
            baseline = next_baseline(self._declarations.baseline, oldest)
            if not review_changes(baseline, newest, self._limit).awaits_approval:
                self._advance(oldest, newest)
            self._oldest = self._newest

    def _advance(self, to: Revision, newest: Revision) -> None:
        self._declarations.set_baseline(next_baseline(self._declarations.baseline, to))
        self.review = review_changes(self._declarations.baseline, newest, NO_LIMIT)
        if not self.review.changes:
            self._newest = self._oldest = None
