"""What is written to the journal: values, written in the order in which they are queued.

Left out: how they are stored (`journal.database`).
"""

from dataclasses import dataclass
from typing import TypeAlias

from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import IntentRecord


@dataclass(frozen=True, slots=True)
class Intent:
    """A row: an update is about to be sent."""

    allocation: AllocationId
    record: IntentRecord


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row: the outcome of the update whose intent has the row number `intent`."""

    allocation: AllocationId
    intent: int
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True)
class CheckpointValue:
    """A JSON value that survives restarts until it is replaced; None deletes it."""

    key: str
    value: object | None


@dataclass(frozen=True, slots=True)
class Gap:
    """A row: earlier records are lost, and why."""

    reason: str


Entry: TypeAlias = Intent | Outcome | CheckpointValue | Gap
