"""The change limit: how much a new revision may change at once, compared with the last good one. Pure.

The rules:

- A revision is compared with the *baseline*, the last revision known to be good, and not with the previous
  edit. It counts how many allocations are changed (mode included), added or removed.
- Above the limit the revision awaits approval. Unchanged allocations are kept in sync; changed and new ones
  are not written; removed ones keep their old declaration. Reverting the edit ends it.
- Without a baseline nothing can be compared, so the first revision never awaits approval. Drift is not
  counted.

*Canaries* are a few changed or new allocations that are updated while their revision awaits approval, if the
setting asks for some. The baseline and the revision alone decide which, so that a restart selects the same
ones: the first by id, changed ones before new ones, and no more than the limit allows. An allocation that is
not enforced, or only declares fewer fields than before, leads to no update and cannot be a canary. If the
changes that no canary can test exceed the limit by themselves, there are no canaries.

Left out: how a revision becomes the baseline (`reconcile.rollout.change_review`), and when the canaries have
shown that the rest may follow (`reconcile.rollout.canaries`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeAlias

from allocsync.model.desired_state import Desired, Mode, Revision
from allocsync.model.ids import AllocationId

Baseline: TypeAlias = Mapping[AllocationId, Desired]

SETTING = "ALLOCSYNC_MAX_CHANGES_PERCENT"
CANARY_SETTING = "ALLOCSYNC_CANARY"
EVERYTHING_PERCENT = 100.0
DIGITS = 8  # how many digits of a revision are shown
NOT_DECLARED = "removed from the files; its last declaration stays active until the removal is approved"


@dataclass(frozen=True, slots=True)
class ChangeLimit:
    """The limit: at most `percent` of the allocations may change; 100 turns it off.

    It applies to sets of at least `least` allocations; below 100, a revision that declares none awaits
    approval in any case. `canary` is the number of canaries wanted, 0 for none. No more than `percent` of the
    allocations become canaries, but one always may.
    """

    percent: float = 30.0
    least: int = 10
    canary: int = 0


NO_LIMIT = ChangeLimit(percent=EVERYTHING_PERCENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeReview:
    """What a revision changes against the baseline, and whether it awaits approval.

    `total` is the number of allocations in either set. `progress` is a text for people about its canaries.
    """

    revision: str
    changed: frozenset[AllocationId] = frozenset()
    added: frozenset[AllocationId] = frozenset()
    removed: frozenset[AllocationId] = frozenset()
    total: int = 0
    limit_percent: float = EVERYTHING_PERCENT
    empty: bool = False
    awaits_approval: bool = False
    canaries: frozenset[AllocationId] = frozenset()
    progress: str = ""

    @property
    def changes(self) -> int:
        """How many allocations are changed, added or removed."""
        return len(self.changed) + len(self.added) + len(self.removed)

    @property
    def withheld(self) -> frozenset[AllocationId]:
        """The allocations that must not be written while the revision awaits approval."""
        return (self.changed | self.added) - self.canaries if self.awaits_approval else frozenset()

    @property
    def reason(self) -> str:
        """Why it awaits approval: numbers, setting and the command to approve it; empty if it does not."""
        if not self.awaits_approval:
            return ""
        name = self.revision[:DIGITS]
        share = EVERYTHING_PERCENT * self.changes / self.total
        parts = ((self.changed, "changed"), (self.added, "new"), (self.removed, "removed"))
        what = ", ".join(f"{len(ids):,} {word}" for ids, word in parts if ids)
        exceeded = (
            f"it declares no allocations ({what}), which {SETTING} below 100 does not allow"
            if self.empty
            else f"it changes {self.changes:,} of {self.total:,} allocations ({share:.3g} %: {what}), "
            f"and {SETTING} allows {self.limit_percent:g} %"
        )
        approval = f"`allocsync approve {name}` activates it"
        if self.canaries:
            so_far = f" ({self.progress})" if self.progress else ""
            exceeded += (
                f"; {CANARY_SETTING} updates {len(self.canaries):,} first, and the rest follows when a read "
                f"has shown each of these in sync{so_far}"
            )
            approval += " at once"
        return f"revision {name} awaits approval: {exceeded}; {approval}"


def review_changes(baseline: Baseline, revision: Revision, limit: ChangeLimit) -> ChangeReview:
    """Compare a revision with the baseline.

    An allocation whose entry has errors counts as neither changed nor removed: its last declaration without
    errors stays active.
    """
    wanted = revision.allocations
    # Identity first: most are the same object, because an unchanged file is not parsed again.
    changed = {
        key
        for key, desired in wanted.items()
        if (before := baseline.get(key, desired)) is not desired and before != desired
    }
    added = wanted.keys() - baseline.keys()
    removed = baseline.keys() - wanted.keys() - revision.quarantined.keys()
    total = len(baseline) + len(added)
    touched = len(changed) + len(added) + len(removed)
    empty = not wanted and not revision.quarantined
    over = total >= limit.least and EVERYTHING_PERCENT * touched > limit.percent * total
    emptied = empty and limit.percent < EVERYTHING_PERCENT
    awaits_approval = bool(baseline) and (over or emptied)
    testable = [
        key for ids in (changed, added) for key in sorted(ids) if _may_update(baseline.get(key), wanted[key])
    ]
    most = max(1, int(limit.percent * total / EVERYTHING_PERCENT))  # more would defeat the limit
    untestable = EVERYTHING_PERCENT * (touched - len(testable)) > limit.percent * total
    return ChangeReview(
        revision=revision.id,
        changed=frozenset(changed),
        added=frozenset(added),
        removed=frozenset(removed),
        total=total,
        limit_percent=limit.percent,
        empty=empty,
        awaits_approval=awaits_approval,
        canaries=frozenset(
            islice(testable, min(limit.canary, most) if awaits_approval and not untestable else 0)
        ),
    )


def _may_update(before: Desired | None, wanted: Desired) -> bool:
    """Whether the change can lead to an update, so that being in sync shows that the API accepts it."""
    if wanted.mode is not Mode.ENFORCE:
        return False
    return before is None or before.mode is not Mode.ENFORCE or not {*wanted.fields} <= {*before.fields}


def active_declarations(
    revision: Revision, review: ChangeReview, previous: Mapping[AllocationId, Desired | None]
) -> Mapping[AllocationId, Desired]:
    """The declarations of the revision and, while it awaits approval, those of the allocations it removes.

    `previous` has what was active of each removed allocation before this revision, which may differ from the
    baseline; None if it was not declared.
    """
    if not review.awaits_approval or not review.removed:
        return revision.allocations
    kept = {key: replace(was, source=NOT_DECLARED) for key in review.removed if (was := previous[key])}
    return {**revision.allocations, **kept}


def next_baseline(baseline: Baseline, revision: Revision) -> Baseline:
    """The baseline that this revision becomes: its allocations, and the old ones whose entry has errors."""
    kept = {key: baseline[key] for key in revision.quarantined if key in baseline}
    return {**kept, **revision.allocations}
