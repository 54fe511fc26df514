"""Which allocations a command is about: all that are declared, or those named on the command line.

An id may be shortened to a prefix that only one declared id has.
"""

from collections.abc import Sequence
from dataclasses import replace

from allocsync.errors import UsageError
from allocsync.model.desired_state import Generation
from allocsync.model.ids import AllocationId


def select(generation: Generation, names: Sequence[str]) -> Generation:
    """The generation cut down to these names; the whole of it where none is given.

    Raises:
        UsageError: a name fits no declared allocation, or several.
    """
    if not names:
        return generation
    declared = sorted({*generation.allocations, *generation.quarantined})
    chosen = {_one(name, declared) for name in names}
    return replace(
        generation,
        allocations={key: value for key, value in generation.allocations.items() if key in chosen},
        quarantined={key: value for key, value in generation.quarantined.items() if key in chosen},
    )


def _one(name: str, declared: Sequence[AllocationId]) -> AllocationId:
    if name in declared:
        return AllocationId(name)
    fitting = [key for key in declared if key.startswith(name)]
    if not fitting:
        raise UsageError(f"{name}: no such allocation is declared; `allocsync plan` lists those that are")
    if len(fitting) > 1:
        raise UsageError(f"{name} fits {len(fitting)} declared allocations; give more of the id")
    return fitting[0]
