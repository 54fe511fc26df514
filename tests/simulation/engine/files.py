"""What the files declare, as people edit them."""

from allocsync.model.desired_state import Desired, Generation
from allocsync.model.ids import AllocationId
from tests.simulation.engine.schedule import Allocation, Edit
from tests.simulation.engine.server import id_of


class Files:
    """The desired state. `wanted` is what it says now."""

    def __init__(self, allocations: tuple[Allocation, ...]) -> None:
        self.wanted: dict[AllocationId, Desired] = {
            id_of(each.key): Desired(id_of(each.key), each.declared, each.mode)
            for each in allocations
            if each.present
        }
        self._edits = 0

    def edit(self, edit: Edit) -> None:
        """Somebody edits one allocation's entry, or takes it out."""
        key = id_of(edit.key)
        if edit.leaves:
            self.wanted[key] = Desired(key, edit.leaves, edit.mode)
        else:
            self.wanted.pop(key, None)
        self._edits += 1

    def generation(self) -> Generation:
        """What a process is told when it reads them now."""
        return Generation(f"generation-{self._edits}", dict(self.wanted))
