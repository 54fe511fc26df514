"""The outcome of a run: what happened, which promises were broken, and how much could have broken them."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from allocsync.model.ids import AllocationId

NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that happened: when, who did it, to which allocation."""

    at: float
    who: str
    key: AllocationId | None
    what: str
    fields: Mapping[str, Any]


@dataclass(slots=True)
class Outcome:
    """See the module. `on_breach` is called for each breach; `prefix` says whose outcome it is in notes."""

    seed: int
    on_breach: Callable[[], None] = lambda: None
    prefix: str = ""
    breaches: list[tuple[str, str]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    requests: int = 0
    updates: int = 0
    faults: int = 0
    crashes: int = 0
    disk_faults: int = 0
    virtual_seconds: float = 0.0
    fired: set[str] = field(default_factory=set)  # kinds of trouble that happened

    def of_second(self) -> "Outcome":
        """The outcome of the second allocsync, whose notes and breaches are among these."""
        return Outcome(self.seed, self.on_breach, "2 ", self.breaches, self.notes)

    def note(
        self, who: str, key: AllocationId | None, what: str, fields: Mapping[str, Any] = NOTHING
    ) -> None:
        """Note what happens now."""
        self.notes.append(Note(asyncio.get_running_loop().time(), self.prefix + who, key, what, fields))

    def report_breach(self, promise: str, what: str) -> None:
        """Note a broken promise."""
        whose = "the second allocsync: " if self.prefix else ""
        self.breaches.append((promise, whose + what))
        self.note("oracle", None, f"{promise} is broken: {what}")
        self.on_breach()
