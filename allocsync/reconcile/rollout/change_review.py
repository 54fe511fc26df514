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

from allocsync.model.desired_state import Desired, Generation
from allocsync.model.ids import AllocationId
from allocsync.planning.change_limit import NO_LIMIT, Baseline, Limit, Ruling, next_baseline, review_changes
from allocsync.reconcile.checkpoint import Keeper
from allocsync.reconcile.checkpoint_codecs import decode_declaration, encode_declaration
from allocsync.reconcile.gates.write_gate import Stops
from allocsync.reconcile.parameters import Rules

BASELINE = "baseline/"  # begins the key of each allocation in it


class Rails:
    """Judges generations. `ruling` is of the newest one, `held_since` (wall clock) while it is held."""

    def __init__(self, *, keeper: Keeper, limit: Limit, rules: Rules, stops: Stops) -> None:
        self._keeper = keeper
        self._limit = limit
        self._rules = rules
        self._stops = stops
        self.baseline = baseline_from(keeper.recalled(BASELINE))
        self.ruling: Ruling | None = None
        self._current: tuple[float, Generation] | None = None  # in force, and not yet the baseline
        self._waiting: tuple[float, Generation] | None = None  # came into force first of those that are not

    def judge(self, generation: Generation, now: float, *, approved: bool, whole: bool = True) -> Ruling:
        """Take in the newest generation; `approved` by a person, perhaps a part of the whole set only."""
        if not whole:
            if self.baseline:
                self._settle({**self.baseline, **generation.allocations})
        elif approved or not self.baseline:
            self._settle(next_baseline(self.baseline, generation))
        ruling = review_changes(self.baseline, generation, self._limit if whole else NO_LIMIT)
        in_force = whole and ruling.changes and not ruling.held
        self._current = (now, generation) if in_force else None
        self._waiting = (self._waiting or self._current) if in_force else None
        self.ruling = ruling
        self._stops.held, self._stops.held_reason = ruling.withheld, ruling.reason
        self._stops.canaries = ruling.canaries
        return ruling

    def progressed(self, ruling: Ruling, text: str) -> None:
        """The canaries of the generation that is held are as far as this text says."""
        self.ruling = replace(ruling, progress=text)
        self._stops.held_reason = self.ruling.reason

    def tend(self, now: float, *, settled: bool, least_seconds: float | None = None) -> None:
        """Move the baseline if it is time; `settled`: nothing of what is in force is still to be done."""
        if self._current is None or self._waiting is None or self._stops.everything is not None:
            return  # what nothing is sent of shows nothing
        settled = settled and not self._stops.pauses
        since, current = self._current
        first_since, first = self._waiting
        least = self._rules.rail_settled_seconds if least_seconds is None else least_seconds
        if settled and now - since >= least:
            self._move(current, current)
        elif now - first_since >= self._rules.rail_age_seconds:
            # What is in force now must not be held after a restart: then its own turn is waited for.
            if not review_changes(next_baseline(self.baseline, first), current, self._limit).held:
                self._move(first, current)
            self._waiting = self._current

    def _move(self, to: Generation, current: Generation) -> None:
        self._settle(next_baseline(self.baseline, to))
        self.ruling = review_changes(self.baseline, current, NO_LIMIT)
        if not self.ruling.changes:
            self._current = self._waiting = None

    def _settle(self, baseline: Baseline) -> None:
        for key in self.baseline.keys() - baseline.keys():
            self._keeper.keep_value(BASELINE + key, None)
        for key, desired in baseline.items():
            if self.baseline.get(key) != desired:
                self._keeper.keep_value(BASELINE + key, encode_declaration(desired))
        self.baseline = dict(baseline)


def baseline_from(kept: Mapping[str, Any]) -> dict[AllocationId, Desired]:
    """The baseline as the journal has it, by the rest of each key."""
    found = {AllocationId(key): decode_declaration(key, each) for key, each in kept.items()}
    return {key: desired for key, desired in found.items() if desired is not None}
