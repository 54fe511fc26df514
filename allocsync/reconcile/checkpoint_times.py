"""Times that survive a restart: moved to the wall clock to be kept, and back again. Pure.

The rule: wall clocks jump, so a time that comes back is never believed to lie later than the rules could have
put it.
"""

from math import inf, isfinite


def kept(at: float, offset_seconds: float) -> float | None:
    """The time on the wall clock, to the millisecond; None for never."""
    return round(at + offset_seconds, 3) if isfinite(at) else None


def restored(at: float | None, offset_seconds: float, latest: float, never: float = -inf) -> float:
    """That time on the clock of now, and no later than `latest`."""
    return never if at is None else min(at - offset_seconds, latest)
