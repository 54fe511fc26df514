"""The active declarations that differ from the baseline, stored for the next process.

The rule: an edit within the change limit is active at once, but becomes the baseline only minutes later. If a
process starts in between with files that await approval, it must not fall back on the baseline: it would
write values that no file declares any longer, even of released allocations. So for each allocation that
differs from the baseline, either its active declaration is stored, or the fact that it has none.

Left out: the baseline (`change_review`), and how a declaration becomes active (`rollout`).
"""

from collections.abc import Iterable, Mapping

from allocsync.model.desired_state import Desired
from allocsync.model.ids import AllocationId
from allocsync.reconcile.checkpoint import Checkpoint
from allocsync.reconcile.checkpoint_codecs import decode_declaration, encode_declaration

ACTIVE = "in_force/"  # prefix of the stored key of each allocation


class ActiveDeclarations:
    """Keeps the active declarations that differ from the baseline.

    `stored` has them by id, None for an allocation that is not declared; it is read-only for others.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self.stored: Mapping[AllocationId, Desired | None] = {
            AllocationId(key): decode_declaration(key, value)
            for key, value in checkpoint.stored(ACTIVE).items()
        }

    def get(self, key: AllocationId, baseline: Mapping[AllocationId, Desired]) -> Desired | None:
        """Return the declaration stored as active, or else the baseline's; None if it was not declared."""
        return self.stored[key] if key in self.stored else baseline.get(key)

    def save(
        self, differing: Mapping[AllocationId, Desired | None], *, unchanged: Iterable[AllocationId] = ()
    ) -> None:
        """Store these active declarations, which differ from the baseline, in place of the stored ones.

        The stored declarations of the allocations in `unchanged` stay.
        """
        before = self.stored
        self.stored = {**{key: before[key] for key in sorted(unchanged) if key in before}, **differing}
        for key in sorted(before.keys() - self.stored.keys()):
            self._checkpoint.save_value(ACTIVE + key, None)
        for key, desired in self.stored.items():
            if key not in before or before[key] != desired:
                self._checkpoint.save_value(ACTIVE + key, encode_declaration(desired))
