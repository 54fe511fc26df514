"""Who forbids updates from outside: a rail that holds a generation. Shared by all lanes. Pure.

The rule: a stop forbids updates and never looks, so that what is open is still read back and what differs is
still said. It is asked for when an update is planned and again just before it is sent.

Left out: what the API's answers forbid (`restraint`), and who sets a stop (`rails`).
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import inf

from allocsync.planning.model import AllocationId


@dataclass(slots=True)
class Stops:
    """`held` are the allocations that a rail holds, for the one reason `held_reason`."""

    held: AbstractSet[AllocationId] = frozenset()
    held_reason: str = ""

    def until(self, key: AllocationId) -> float:
        """Until when this allocation may not be updated; infinity: until that is lifted."""
        return inf if key in self.held else -inf

    def why(self, key: AllocationId) -> str:
        """Why it may not be updated; empty where it may."""
        return self.held_reason if key in self.held else ""
