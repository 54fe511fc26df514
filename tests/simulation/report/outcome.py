"""How a run went: what happened, which promises were broken, and what there was to break them."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from allocsync.model.ids import AllocationId

NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that happened, who did it, and to which allocation."""

    at: float
    who: str
    key: AllocationId | None
    what: str
    fields: Mapping[str, Any]


@dataclass(slots=True)
class Outcome:
    """See the module. `on_broken` is called with the first breach."""

    seed: int
    on_broken: Callable[[], None] = lambda: None
    broken: list[tuple[str, str]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    requests: int = 0
    updates: int = 0
    faults: int = 0
    crashes: int = 0
    disk_faults: int = 0
    virtual_seconds: float = 0.0

    def note(
        self, who: str, key: AllocationId | None, what: str, fields: Mapping[str, Any] = NOTHING
    ) -> None:
        """Something happened, now."""
        self.notes.append(Note(asyncio.get_running_loop().time(), who, key, what, fields))

    def broke(self, promise: str, what: str) -> None:
        """A promise was broken."""
        self.broken.append((promise, what))
        self.note("judge", None, f"{promise} is broken: {what}")
        self.on_broken()
