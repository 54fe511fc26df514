"""The clocks and random numbers of the daemon. Code that decides gets both as arguments.

The rule: durations are measured on the event loop's monotonic clock, the same that its timers use; the wall
clock is for people and records only.
"""

import asyncio
import random
import time

from allocsync.model.times import Monotonic, WallTime


class SystemClock:
    """The clock of the running event loop, the wall clock, and a random number generator.

    Must be created inside an event loop. The same `seed` gives the same random numbers.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._random = random.Random(seed)  # noqa: S311 - jitter, not a secret

    def now(self) -> Monotonic:
        """Return monotonic seconds."""
        return Monotonic(self._loop.time())

    def wall(self) -> WallTime:
        """Return seconds since the epoch (wall clock)."""
        return WallTime(time.time())

    def uniform(self, low: float, high: float) -> float:
        """Return a random number in [low, high]."""
        return self._random.uniform(low, high)
