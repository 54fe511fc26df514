"""When the next request for one allocation is due, and what that follows from."""

from dataclasses import dataclass
from math import inf


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
