"""When the next request for one allocation is due, what that follows from, and who may be before it."""

from bisect import bisect
from dataclasses import dataclass, field
from math import inf

from allocsync.reconcile.scheduling.work_queue import RESYNC_TURN
from tests.simulation.faults.request_faults import GET_TIMEOUT_SECONDS

FEWEST_SLOTS, SLOW_SECONDS = 4, 6.0  # so many updates can fill the slots, until they count as slow


@dataclass(slots=True)
class Due:
    """What is known of the next request for one allocation."""

    by: float = inf
    promise: str = ""
    why: str = ""
    writes: bool = False  # it needs a slot for writes
    read_failures: int = 0
    write_failures: int = 0
    # Forgiven at that time, which a process that dies before it is on the disk has not kept.
    forgiven: int = 0
    forgiven_at: float = -inf
    forgiven_until: float = -inf
    held_until: float = -inf  # the server's own wish
    backoff_until: float = -inf
    accepted_at: float = -inf
    under_way: bool = False
    looked: bool = False
    edited: bool = False

    def forgive(self, at: float) -> None:
        """Updates have not failed any more since then; infinity: nobody knows when that is on the disk."""
        if self.write_failures:
            self.forgiven, self.forgiven_at = max(self.forgiven, self.write_failures), at
            self.forgiven_until = max(self.forgiven_until, self.backoff_until)
        self.write_failures = 0


@dataclass(slots=True)
class Turns:
    """When requests left: as long as others do, one that waits in a crowd may be behind them all."""

    taken: list[float] = field(default_factory=list)

    def until(self, since: float, *, of: int) -> float:
        """Until when one that has been due since then can wait, among more than there are slots.

        Of ten turns one is for the least urgent, so after ten for each of all it had its own. Where nobody
        has a turn, it waits for an answer at the most.
        """
        number = len(self.taken) - bisect(self.taken, since)
        may_wait = of > FEWEST_SLOTS + 1 and 0 < number < RESYNC_TURN * of
        return self.taken[-1] + GET_TIMEOUT_SECONDS if may_wait else -inf
