"""The table of declarations: of each allocation its baseline, and what is active where that differs.

The baseline is what a new revision is compared with. Both are stored, so that a restart does not bypass the
change limit.

The rule: an edit within the change limit is active at once, but becomes the baseline only minutes later. If a
process starts in between with files that await approval, it must not fall back on the baseline: it would
write values that no file declares any longer, even of released allocations. So for each allocation that
differs from the baseline, either its active declaration is stored, or the fact that it has none.

Left out: when the baseline advances (`change_review`), and how a declaration becomes active (`rollout`).
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from allocsync.model.desired_state import Desired
from allocsync.model.ids import AllocationId
from allocsync.planning.change_limit import Baseline
from allocsync.reconcile.checkpoint import Checkpoint
from allocsync.reconcile.checkpoint_codecs import decode_declaration, encode_declaration

# Prefixes of the stored keys; an id follows.
BASELINE, ACTIVE = "baseline/", "in_force/"


class Declarations:
    """The table. Its attributes are read-only for others; a declaration of None means not declared.

    Attributes:
        baseline: what a new revision is compared with.
        differing: the active declarations that differ from the baseline.
        last_active: what is active of the allocations whose newest declaration is not, because it awaits
            approval or has errors. It is not stored: the next process reads it from the other two.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Restore the baseline and what differs from it."""
        self._checkpoint = checkpoint
        self.baseline: Baseline = decode_baseline(checkpoint.stored(BASELINE))
        self.differing: Mapping[AllocationId, Desired | None] = {
            AllocationId(key): decode_declaration(key, value)
            for key, value in checkpoint.stored(ACTIVE).items()
        }
        self.last_active: dict[AllocationId, Desired | None] = {}

    def stored_active(self, key: AllocationId) -> Desired | None:
        """The declaration that is stored as active, or else the baseline's; None if it was not declared."""
        return self.differing[key] if key in self.differing else self.baseline.get(key)

    def set_baseline(self, baseline: Baseline) -> None:
        """Store this baseline in place of the one before."""
        for key in self.baseline.keys() - baseline.keys():
            self._checkpoint.save_value(BASELINE + key, None)
        for key, desired in baseline.items():
            if self.baseline.get(key) != desired:
                self._checkpoint.save_value(BASELINE + key, encode_declaration(desired))
        self.baseline = dict(baseline)

    def set_differing(
        self, differing: Mapping[AllocationId, Desired | None], *, unchanged: Iterable[AllocationId] = ()
    ) -> None:
        """Store these active declarations, which differ from the baseline, in place of the stored ones.

        The stored declarations of the allocations in `unchanged` stay.
        """
        before = self.differing
        self.differing = {**{key: before[key] for key in sorted(unchanged) if key in before}, **differing}
        for key in sorted(before.keys() - self.differing.keys()):
            self._checkpoint.save_value(ACTIVE + key, None)
        for key, desired in self.differing.items():
            if key not in before or before[key] != desired:
                self._checkpoint.save_value(ACTIVE + key, encode_declaration(desired))

    def remember_active(self, key: AllocationId, desired: Desired | None) -> None:
        """Remember what is active of an allocation whose newest declaration is not."""
        self.last_active[key] = desired

    def forget_active_except(self, keys: AbstractSet[AllocationId]) -> None:
        """The newest declaration of all other allocations is active."""
        self.last_active = {key: desired for key, desired in self.last_active.items() if key in keys}


def decode_baseline(stored: Mapping[str, Any]) -> dict[AllocationId, Desired]:
    """Return the baseline from its stored values; their keys are ids, without the prefix BASELINE."""
    decoded = {AllocationId(key): decode_declaration(key, value) for key, value in stored.items()}
    return {key: desired for key, desired in decoded.items() if desired is not None}
