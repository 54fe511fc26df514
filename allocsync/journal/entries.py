"""What goes into the journal: plain values, written in the order in which they come."""

from dataclasses import dataclass
from typing import TypeAlias

from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import IntentRecord


@dataclass(frozen=True, slots=True)
class Intent:
    """To be written: an update is about to leave."""

    allocation: AllocationId
    record: IntentRecord


@dataclass(frozen=True, slots=True)
class Outcome:
    """To be written: how the update of the row `intent` ended."""

    allocation: AllocationId
    intent: int
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True)
class Memory:
    """To be kept until it is replaced: what has to survive a restart, as JSON; None forgets it."""

    key: str
    value: object | None


@dataclass(frozen=True, slots=True)
class Gap:
    """To be written: what was recorded before is lost, and why."""

    reason: str


Entry: TypeAlias = Intent | Outcome | Memory | Gap
