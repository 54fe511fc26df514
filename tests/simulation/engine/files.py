"""The declaration files of a run, as people edit them."""

from collections.abc import Mapping

from allocsync.model.desired_state import Desired, Revision
from allocsync.model.ids import AllocationId
from tests.simulation.engine.schedule import Allocation, Edit
from tests.simulation.engine.server import id_of


class Files:
    """The desired state. `declared` has what the files declare now."""

    def __init__(self, allocations: tuple[Allocation, ...]) -> None:
        self.declared: dict[AllocationId, Desired] = {
            id_of(each.key): Desired(id_of(each.key), each.declared, each.mode)
            for each in allocations
            if each.is_declared_at_first
        }
        self._edits = 0

    def edit(self, edit: Edit) -> None:
        """Change the entry of one allocation, or remove it."""
        key = id_of(edit.key)
        if edit.fields:
            self.declared[key] = Desired(key, edit.fields, edit.mode)
        else:
            self.declared.pop(key, None)
        self._edits += 1

    def replace(self, declared: Mapping[AllocationId, Desired]) -> None:
        """Declare this and nothing else."""
        self.declared = dict(declared)
        self._edits += 1

    def revision(self) -> Revision:
        """The revision that a process loads now."""
        return Revision(f"generation-{self._edits}", dict(self.declared))
