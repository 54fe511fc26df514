"""The rail at work: the baseline that a new generation is compared with, and how it moves and is kept.

The rules: the first generation is the baseline at once. A later one becomes it when it is approved, when it
has been in force for `rail_settled_seconds` and all that it wants is settled, or when it came into force more
than `rail_age_seconds` ago; one that is held never does by itself. The baseline is in the journal, so that an
edit and a restart do not pass the rail by.

Left out: the comparison itself (`planning.guard`), what canaries show (`canaries`), and what becomes of the
lanes (`adoption`).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from allocsync.model.desired_state import Desired, Revision
from allocsync.model.ids import AllocationId
from allocsync.planning.change_limit import (
    NO_LIMIT,
    Baseline,
    ChangeLimit,
    ChangeReview,
    next_baseline,
    review_changes,
)
from allocsync.reconcile.checkpoint import Checkpoint
from allocsync.reconcile.checkpoint_codecs import decode_declaration, encode_declaration
from allocsync.reconcile.gates.write_gate import WriteGate
from allocsync.reconcile.parameters import Parameters

BASELINE = "baseline/"  # begins the key of each allocation in it


class ChangeReviewer:
    """Judges generations. `ruling` is of the newest one, `held_since` (wall clock) while it is held."""

    def __init__(
        self, *, checkpoint: Checkpoint, limit: ChangeLimit, rules: Parameters, write_gate: WriteGate
    ) -> None:
        self._checkpoint = checkpoint
        self._limit = limit
        self._rules = rules
        self._write_gate = write_gate
        self.baseline = baseline_from(checkpoint.stored(BASELINE))
        self.review: ChangeReview | None = None
        self._current: tuple[float, Revision] | None = None  # in force, and not yet the baseline
        self._waiting: tuple[float, Revision] | None = None  # came into force first of those that are not

    def judge(self, revision: Revision, now: float, *, approved: bool, whole: bool = True) -> ChangeReview:
        """Take in the newest generation; `approved` by a person, perhaps a part of the whole set only."""
        if not whole:
            if self.baseline:
                self._settle({**self.baseline, **revision.allocations})
        elif approved or not self.baseline:
            self._settle(next_baseline(self.baseline, revision))
        review = review_changes(self.baseline, revision, self._limit if whole else NO_LIMIT)
        in_force = whole and review.changes and not review.awaits_approval
        self._current = (now, revision) if in_force else None
        self._waiting = (self._waiting or self._current) if in_force else None
        self.review = review
        self._write_gate.require_approval(review.withheld, reason=review.reason, canaries=review.canaries)
        return review

    def progressed(self, review: ChangeReview, text: str) -> None:
        """The canaries of the generation that is held are as far as this text says."""
        self.review = replace(review, progress=text)
        self._write_gate.update_awaiting_reason(self.review.reason)

    def tick(self, now: float, *, settled: bool, least_seconds: float | None = None) -> None:
        """Move the baseline if it is time; `settled`: nothing of what is in force is still to be done."""
        if self._current is None or self._waiting is None or self._write_gate.everything is not None:
            return  # what nothing is sent of shows nothing
        settled = settled and not self._write_gate.pauses
        since, current = self._current
        first_since, first = self._waiting
        least = self._rules.baseline_settled_seconds if least_seconds is None else least_seconds
        if settled and now - since >= least:
            self._move(current, current)
        elif now - first_since >= self._rules.baseline_age_seconds:
            # What is in force now must not be held after a restart: then its own turn is waited for.
            if not review_changes(next_baseline(self.baseline, first), current, self._limit).awaits_approval:
                self._move(first, current)
            self._waiting = self._current

    def _move(self, to: Revision, current: Revision) -> None:
        self._settle(next_baseline(self.baseline, to))
        self.review = review_changes(self.baseline, current, NO_LIMIT)
        if not self.review.changes:
            self._current = self._waiting = None

    def _settle(self, baseline: Baseline) -> None:
        for key in self.baseline.keys() - baseline.keys():
            self._checkpoint.save_value(BASELINE + key, None)
        for key, desired in baseline.items():
            if self.baseline.get(key) != desired:
                self._checkpoint.save_value(BASELINE + key, encode_declaration(desired))
        self.baseline = dict(baseline)


def baseline_from(kept: Mapping[str, Any]) -> dict[AllocationId, Desired]:
    """The baseline as the journal has it, by the rest of each key."""
    found = {AllocationId(key): decode_declaration(key, each) for key, each in kept.items()}
    return {key: desired for key, desired in found.items() if desired is not None}
