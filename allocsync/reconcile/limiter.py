"""How many requests may be in flight: two kinds of slot, reads and writes, a limit each. Pure.

The rule: admission is one synchronous call that says go, or until when to wait; nothing waits inside it. An
update holds one write slot from its snapshot to its answer. A server that answers 429 closes the write slots
for as long as it asks.

Left out for now: limits that adapt, and the breaker that is their bottom.
"""

from collections.abc import Mapping
from enum import StrEnum
from math import inf


class Slot(StrEnum):
    """What a place among the requests in flight is for."""

    READ = "read"
    WRITE = "write"


class Limiter:
    """Counts what is in flight against the limits. Times are seconds on the caller's clock."""

    def __init__(self, limits: Mapping[Slot, int]) -> None:
        if any(limits[slot] < 1 for slot in Slot):
            raise ValueError("a limit below one would never let anything through")
        self.limits = dict(limits)
        self.in_flight = dict.fromkeys(Slot, 0)
        self._closed_until = dict.fromkeys(Slot, -inf)

    def admit(self, slot: Slot, now: float) -> float | None:
        """Take a place and return None, or return when to ask again (infinity: when one is given back)."""
        if now < self._closed_until[slot]:
            return self._closed_until[slot]
        if self.in_flight[slot] >= self.limits[slot]:
            return inf
        self.in_flight[slot] += 1
        return None

    def opens_at(self, now: float) -> float:
        """When the first closed kind of slot opens again (infinity: none is closed)."""
        return min((until for until in self._closed_until.values() if until > now), default=inf)

    def release(self, slot: Slot) -> None:
        """Give a place back."""
        if not self.in_flight[slot]:
            raise ValueError(f"no {slot} slot is taken")
        self.in_flight[slot] -= 1

    def close(self, slot: Slot, until: float) -> None:
        """Admit nothing to these slots before `until`; never shortens an earlier wish."""
        self._closed_until[slot] = max(self._closed_until[slot], until)
