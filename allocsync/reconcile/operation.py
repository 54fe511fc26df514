"""What an allocation asks the scheduler for: a read or a write, how urgent it is, and from when on. Pure.

Left out: which allocation asks for what (`allocation.managed_allocation`) and who goes next (`scheduling`).
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Operation(StrEnum):
    """What a place among the requests in flight is for."""

    READ = "read"
    WRITE = "write"


class Priority(IntEnum):
    """How urgent a look is; the smaller goes first."""

    READ_BACK = 0
    EDIT = 1
    DRIFT = 2
    RETRY = 3
    RESYNC = 4


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """When, in which kind of slot and how urgently a key wants to be looked at."""

    at: float
    operation: Operation
    priority: Priority
