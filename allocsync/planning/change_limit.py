"""The rail: how much a new generation may change at once, against the last one that is known to be good.

The rule: what counts is every allocation that the new generation declares otherwise (its mode included), for
the first time, or not any more, against the *baseline* and never against the edit before. Beyond the limit it
is held: what is the same in both goes on, what is changed or new is not written at all, what is removed stays
in force. Taking the edit back opens it. Without a baseline there is nothing to compare with, so a first start
is not held; drift is not seen here at all. Pure.

*Canaries* are the few of a held generation that are written all the same, where the limit says so. Which ones
follows from the baseline and the generation alone, so that a restart picks the same: the first by id, those
that are changed before those that are new, and never more than the rail would let through, or else they would
be no rail. What is not enforced, or only owns less than before, cannot show anything and is none; nor has a
generation any that would be held for what no canary can show alone, such as what it removes.

Left out: what becomes a baseline and where it is kept (`reconcile.rails`), and when canaries have shown that
the rest may follow (`reconcile.canaries`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeAlias

from allocsync.model.desired_state import Desired, Generation, Mode
from allocsync.model.ids import AllocationId

Baseline: TypeAlias = Mapping[AllocationId, Desired]

SETTING = "ALLOCSYNC_MAX_CHANGES_PERCENT"
CANARY_SETTING = "ALLOCSYNC_CANARY"
EVERYTHING_PERCENT = 100.0
DIGITS = 8  # of a generation's digest, wherever it is shown
NOT_DECLARED = "not declared any more; in force until that is approved"


@dataclass(frozen=True, slots=True)
class Limit:
    """So many percent may change, in a set of at least so many; 100 percent hold nothing.

    Of what is held, the first `canary` allocations are written all the same, but no more than `percent` and
    at least one.
    """

    percent: float = 30.0
    least: int = 10
    canary: int = 0


NO_LIMIT = Limit(percent=EVERYTHING_PERCENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What a generation would change, and whether it is held for it. `total` is of both sets together.

    `progress` says to people how far its canaries are.
    """

    generation: str
    changed: frozenset[AllocationId] = frozenset()
    added: frozenset[AllocationId] = frozenset()
    removed: frozenset[AllocationId] = frozenset()
    total: int = 0
    limit_percent: float = EVERYTHING_PERCENT
    empty: bool = False
    held: bool = False
    canaries: frozenset[AllocationId] = frozenset()
    progress: str = ""

    @property
    def changes(self) -> int:
        """How many allocations are declared otherwise than in the baseline."""
        return len(self.changed) + len(self.added) + len(self.removed)

    @property
    def withheld(self) -> frozenset[AllocationId]:
        """What must not be written."""
        return (self.changed | self.added) - self.canaries if self.held else frozenset()

    @property
    def reason(self) -> str:
        """Which rail holds it, its numbers, its setting and what lifts it; empty where nothing is held."""
        if not self.held:
            return ""
        name = self.generation[:DIGITS]
        share = EVERYTHING_PERCENT * self.changes / self.total
        parts = ((self.changed, "changed"), (self.added, "new"), (self.removed, "removed"))
        what = ", ".join(f"{len(ids):,} {word}" for ids, word in parts if ids)
        rail = (
            f"it declares nothing any more ({what}), which {SETTING} below 100 does not allow"
            if self.empty
            else f"it changes {self.changes:,} of {self.total:,} allocations ({share:.3g} %: {what}), "
            f"and {SETTING} allows {self.limit_percent:g} %"
        )
        lifts = f"`allocsync approve {name}` lets it through"
        if self.canaries:
            so_far = f" ({self.progress})" if self.progress else ""
            rail += (
                f"; {CANARY_SETTING} lets {len(self.canaries):,} go first, and the rest follows when a GET "
                f"has shown each of these in sync{so_far}"
            )
            lifts += " at once"
        return f"revision {name} awaits approval: {rail}; {lifts}"


def rule(baseline: Baseline, generation: Generation, limit: Limit) -> Ruling:
    """Compare a generation with the baseline.

    An allocation in quarantine is neither changed nor removed: its last good version stays in force.
    """
    wanted = generation.allocations
    # Most are the very same object, since a file that has not changed is not parsed again.
    changed = {
        key
        for key, desired in wanted.items()
        if (before := baseline.get(key, desired)) is not desired and before != desired
    }
    added = wanted.keys() - baseline.keys()
    removed = baseline.keys() - wanted.keys() - generation.quarantined.keys()
    total = len(baseline) + len(added)
    touched = len(changed) + len(added) + len(removed)
    empty = not wanted and not generation.quarantined
    over = total >= limit.least and EVERYTHING_PERCENT * touched > limit.percent * total
    emptied = empty and limit.percent < EVERYTHING_PERCENT
    held = bool(baseline) and (over or emptied)
    able = [
        key for ids in (changed, added) for key in sorted(ids) if _can_show(baseline.get(key), wanted[key])
    ]
    most = max(1, int(limit.percent * total / EVERYTHING_PERCENT))  # more would be no rail any more
    unshown = EVERYTHING_PERCENT * (touched - len(able)) > limit.percent * total
    return Ruling(
        generation=generation.digest,
        changed=frozenset(changed),
        added=frozenset(added),
        removed=frozenset(removed),
        total=total,
        limit_percent=limit.percent,
        empty=empty,
        held=held,
        canaries=frozenset(islice(able, min(limit.canary, most) if held and not unshown else 0)),
    )


def _can_show(before: Desired | None, wanted: Desired) -> bool:
    """Whether being in sync can show that the API takes what is new here: it may lead to an update."""
    if wanted.mode is not Mode.ENFORCE:
        return False
    return before is None or before.mode is not Mode.ENFORCE or not {*wanted.leaves} <= {*before.leaves}


def in_force(
    generation: Generation, ruling: Ruling, stood: Mapping[AllocationId, Desired | None]
) -> Mapping[AllocationId, Desired]:
    """What is declared as things stand: the generation, and of one that is held also what it removed.

    That is as it `stood` before, which need not be what it is compared with; None: it was not declared.
    """
    if not ruling.held or not ruling.removed:
        return generation.allocations
    kept = {key: replace(was, source=NOT_DECLARED) for key in ruling.removed if (was := stood[key])}
    return {**generation.allocations, **kept}


def settled_on(baseline: Baseline, generation: Generation) -> Baseline:
    """The baseline that this generation makes: itself, and what it was of those in quarantine."""
    known = {key: baseline[key] for key in generation.quarantined if key in baseline}
    return {**known, **generation.allocations}
