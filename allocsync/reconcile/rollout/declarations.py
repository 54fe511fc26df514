"""What is in force where the baseline has something else, kept for the next process.

The rule: an edit within the rail's limit is in force at once, and becomes the baseline minutes later. A
process that starts with files that are held meanwhile must not fall back on the baseline: it would write
values that no file declares any more, even of what has been let go. So of each allocation that differs from
the baseline it is kept what is in force of it; also that it is not declared.

Left out: the baseline (`rails`), and what becomes of what stands (`adoption`).
"""

from collections.abc import Iterable, Mapping

from allocsync.model.desired_state import Desired
from allocsync.model.ids import AllocationId
from allocsync.reconcile.checkpoint import Checkpoint
from allocsync.reconcile.checkpoint_codecs import decode_declaration, encode_declaration

IN_FORCE = "in_force/"  # begins the key of each allocation


class ActiveDeclarations:
    """See the module. `kept` is for reading."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self.kept: Mapping[AllocationId, Desired | None] = {
            AllocationId(key): decode_declaration(key, value)
            for key, value in checkpoint.stored(IN_FORCE).items()
        }

    def of(self, key: AllocationId, baseline: Mapping[AllocationId, Desired]) -> Desired | None:
        """What is in force of it, as far as it is known without a generation; None: it is not declared."""
        return self.kept[key] if key in self.kept else baseline.get(key)

    def save(
        self, beside: Mapping[AllocationId, Desired | None], *, unclear: Iterable[AllocationId] = ()
    ) -> None:
        """These differ from the baseline, and so much is in force; of what is `unclear` it stays."""
        known = self.kept
        self.kept = {**{key: known[key] for key in sorted(unclear) if key in known}, **beside}
        for key in sorted(known.keys() - self.kept.keys()):
            self._checkpoint.save_value(IN_FORCE + key, None)
        for key, desired in self.kept.items():
            if key not in known or known[key] != desired:
                self._checkpoint.save_value(IN_FORCE + key, encode_declaration(desired))
