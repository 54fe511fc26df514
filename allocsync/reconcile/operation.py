"""The queue entry of an allocation: read or write, how urgent, and from when on. Pure.

Left out: how an allocation computes its entry (`allocation.managed_allocation`), and which entry goes next
(`scheduling`).
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from allocsync.model.times import Monotonic


class Operation(StrEnum):
    """The kind of a slot for requests in flight: for reads, or for updates."""

    READ = "read"
    WRITE = "write"


class Priority(IntEnum):
    """How urgent a queue entry is; smaller numbers go first."""

    READ_BACK = 0
    EDIT = 1
    DRIFT = 2
    RETRY = 3
    RESYNC = 4


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """When a key is due (monotonic seconds; `NEVER` if never), for which operation, and how urgently."""

    at: Monotonic
    operation: Operation
    priority: Priority
