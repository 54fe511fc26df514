"""When the next request for one allocation is due and why, and how long others may delay it.

Left out: which event makes a request due (`liveness`).
"""

from bisect import bisect
from dataclasses import dataclass, field
from math import inf

from allocsync.reconcile.scheduling.work_queue import RESYNC_EVERY
from tests.simulation.faults.request_faults import GET_TIMEOUT_SECONDS

FEWEST_SLOTS, SLOW_SECONDS = 4, 6.0  # so many updates can take all slots, until they count as slow


@dataclass(slots=True)
class Due:
    """The next request for one allocation. Times are virtual seconds."""

    by: float = inf
    promise: str = ""
    why: str = ""
    writes: bool = False  # whether it needs a write slot
    without_gates: float = inf  # when it would be due if no gate were closed; infinity if none is
    read_failures: int = 0
    write_failures: int = 0
    # Failures cleared at `forgiven_at`. A process that ends before that is on the disk still counts them.
    forgiven: int = 0
    forgiven_at: float = -inf
    forgiven_until: float = -inf
    held_until: float = -inf  # the server's Retry-After
    backoff_until: float = -inf
    accepted_at: float = -inf  # later by what the wall clock was moved back since
    restored_at: float = -inf  # the same for a process to which that time is in the future
    under_way: bool = False
    was_read: bool = False
    asked: tuple[str, str] | None = None  # promise and reason, if an edit or a retry came under way
    retried_at: float = -inf  # when a retry ended the wait for the value accepted at `accepted_before_retry`
    accepted_before_retry: float = -inf
    retried: bool = False  # a person asked for a try, and no update has been answered since

    def forgive(self, at: float) -> None:
        """Clear the failed updates at time `at`; infinity if it is unknown when that is on the disk."""
        if self.write_failures:
            self.forgiven, self.forgiven_at = max(self.forgiven, self.write_failures), at
            self.forgiven_until = max(self.forgiven_until, self.backoff_until)
        self.write_failures = 0


@dataclass(slots=True)
class SentRequests:
    """When requests were sent. While others are sent, one waiting allocation may come after all of them."""

    sent_at: list[float] = field(default_factory=list)

    def crowd_until(self, since: float, *, of: int, narrow: bool) -> float:
        """Until when other requests may delay one that is due since `since`; -inf if they may not any more.

        `of` is the number of allocations. Every tenth request is the least urgent one that waits. So a
        request is sent after at most ten requests per allocation. With only one slot (`narrow`), heartbeats
        may let each of a few allocations go twice before it. While no other request is sent, it waits for
        the answer to one request at most.
        """
        number = len(self.sent_at) - bisect(self.sent_at, since)
        most = RESYNC_EVERY * of if of > FEWEST_SLOTS + 1 else 2 * of if narrow else 0
        may_wait = 0 < number < most
        return self.sent_at[-1] + GET_TIMEOUT_SECONDS if may_wait else -inf
