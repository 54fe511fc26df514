"""The four seams through which the loop sees the world.

Whoever replaces these four can run the loop in another world: a simulation with virtual time, a model server
and crashes. Declared here because they are used here; nothing in this folder knows who implements them.
"""

from collections.abc import AsyncIterator
from typing import Protocol

from allocsync.model.api_answers import Snapshot, UpdateAnswer
from allocsync.model.cloud import Cloud
from allocsync.model.desired_state import Revision
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import IntentRecord


class Api(Protocol):
    """The Allocation API. No method raises for what a server or a network does; cancellation passes."""

    async def snapshot(self, allocation_id: AllocationId) -> Snapshot:
        """One read of one allocation, within its deadline."""

    async def update(self, allocation_id: AllocationId, body: Cloud) -> UpdateAnswer:
        """Send one update, once: never retried here, never redirected."""

    def list(self) -> AsyncIterator[Cloud]:
        """Every cloud, one record at a time. Raises `errors.BulkUnavailable` where it cannot be used."""


class Clock(Protocol):
    """Time and chance."""

    def now(self) -> float:
        """Seconds on a clock that never jumps."""

    def wall(self) -> float:
        """Seconds since the epoch, for people and records only."""

    def uniform(self, low: float, high: float) -> float:
        """A random number in [low, high]."""


class Journal(Protocol):
    """The durable record of what leaves: an intent is on the disk before its update is sent (P6)."""

    @property
    def commit_seconds(self) -> float:
        """How long its last intent took until it was on the disk."""

    async def intent(self, allocation: AllocationId, record: IntentRecord) -> int:
        """Record durably that an update is about to leave; returns the row that its outcome belongs to.

        Raises:
            JournalUnavailable: it could not be written, so nothing may be sent.
        """

    def outcome(self, allocation: AllocationId, intent: int, outcome: str, reason: str) -> None:
        """Record what was found out about that update; on the disk before any later intent."""

    def remember(self, key: str, value: object | None) -> None:
        """Keep this over a restart, as JSON, in place of what was kept under the key; None forgets it."""


class DesiredSource(Protocol):
    """Where generations come from."""

    async def next(self) -> Revision:
        """Wait for the next generation that loads; files that do not load are reported and change nothing."""
