"""The record of updates that leave: an intent before, its outcome after (P6).

For now it lives in memory: it keeps the rule (an intent is recorded before its update is sent, and never two
open ones for one allocation) for as long as the process lives, and forgets everything with it.
"""

from collections.abc import Mapping

from allocsync.planning.model import AllocationId, Json


class MemoryJournal:
    """A journal that does not outlive the process; its open intents are what a stop leaves unknown."""

    def __init__(self) -> None:
        self._sequence = 0
        self._busy: set[AllocationId] = set()
        self.open: dict[int, AllocationId] = {}

    async def intent(self, allocation_id: AllocationId, leaves: Mapping[str, tuple[Json, str]]) -> int:
        """Record that an update is about to leave; returns its sequence number.

        Raises:
            ValueError: the allocation has an open intent, or the update changes nothing.
        """
        if not leaves:
            raise ValueError(f"{allocation_id}: an update that changes nothing must not be sent")
        if allocation_id in self._busy:
            raise ValueError(f"{allocation_id}: an intent is open already")
        self._sequence += 1
        self.open[self._sequence] = allocation_id
        self._busy.add(allocation_id)
        return self._sequence

    async def outcome(self, sequence: int, outcome: str, reason: str) -> None:  # noqa: ARG002 - kept for later readers
        """Record how that update ended.

        Raises:
            KeyError: no such intent is open.
        """
        self._busy.remove(self.open.pop(sequence))
