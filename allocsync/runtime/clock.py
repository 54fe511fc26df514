"""Time and chance as the daemon meets them; everything that decides gets them as arguments.

Durations are measured on the event loop's own clock, so that one clock rules waiting and judging; the wall
clock is for people and records only.
"""

import asyncio
import random
import time


class SystemClock:
    """The loop's monotonic clock, the wall clock, and a source of chance of its own."""

    def __init__(self, seed: int | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._random = random.Random(seed)  # noqa: S311 - jitter, not a secret

    def now(self) -> float:
        """Seconds on a clock that never jumps."""
        return self._loop.time()

    def wall(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def uniform(self, low: float, high: float) -> float:
        """A random number in [low, high]."""
        return self._random.uniform(low, high)
