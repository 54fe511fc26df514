"""The four interfaces through which the controller reaches everything outside it.

The rule: the controller knows these interfaces and no implementation. A simulation replaces them with virtual
time, a model of the server, and crashes. They are declared here because this package uses them.

Left out: the implementations (`api`, `journal`, `desired`, `runtime`).
"""

from collections.abc import AsyncIterator
from typing import Protocol

from allocsync.model.api_answers import Live, Snapshot, UpdateAnswer
from allocsync.model.cloud import Cloud
from allocsync.model.desired_state import Revision
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import IntentRecord
from allocsync.model.times import Monotonic, WallTime


class Api(Protocol):
    """The Allocation API. Faults of the server or the network are returned, not raised, except by `list`.

    Cancellation passes through.
    """

    async def snapshot(self, allocation_id: AllocationId) -> Snapshot:
        """Read one allocation, once, within the deadline."""

    async def update(self, allocation_id: AllocationId, body: Cloud) -> UpdateAnswer:
        """Send one update, once: without a retry, and without following a redirect."""

    def list(self) -> AsyncIterator[Live]:
        """Yield every cloud that the server lists, one at a time, all with the same age.

        Raises:
            BulkUnavailable: the list cannot be read or used; it may be raised after some clouds.
        """


class Clock(Protocol):
    """Time and random numbers."""

    def now(self) -> Monotonic:
        """Monotonic seconds; the clock never jumps."""

    def wall(self) -> WallTime:
        """Wall-clock seconds since the epoch, for people and stored records only."""

    def uniform(self, low: float, high: float) -> float:
        """A random number in [low, high]."""


class Journal(Protocol):
    """The durable record of updates: an intent is on disk before its update is sent (P6)."""

    @property
    def commit_seconds(self) -> float:
        """How many seconds it took to put the latest intent on disk."""

    async def intent(self, allocation: AllocationId, record: IntentRecord) -> int:
        """Put the intent to update on disk; returns its sequence number, to record the outcome under.

        Raises:
            JournalUnavailable: the intent could not be written, so the update must not be sent.
        """

    def outcome(self, allocation: AllocationId, intent: int, outcome: str, reason: str) -> None:
        """Queue the outcome of the update with this intent number; it is on disk before any later intent.

        Returns at once, before the outcome is on disk.
        """

    def remember(self, key: str, value: object | None) -> None:
        """Store a JSON value across restarts, in place of the earlier value of the key; None deletes it."""


class DesiredSource(Protocol):
    """Where revisions come from."""

    async def next(self) -> Revision:
        """Wait for the next revision that loads.

        Files that do not load are reported by the source and change nothing.
        """
