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
    # Forgiven by an edit, which a process that dies before that is on the disk has not kept.
    forgiven: int = 0
    forgiven_until: float = -inf
    held_until: float = -inf  # the server's own wish
    backoff_until: float = -inf
    accepted_at: float = -inf
    under_way: bool = False
    looked: bool = False
    edited: bool = False
