"""Whether most of what is asked fails, and who failed meanwhile: for when that is over. Pure.

The rules: a storm begins when half of the latest twenty results are failures, and is over when no more than
a tenth of them are. Who failed in between and has not succeeded since has a backoff that the storm made
long; it is told at the end, so that it can be tried again soon. Its failures still count, and until it
succeeds it is not told again: one that fails by itself gets this one try, and is as slow as before.

Left out: when the try is made (`admission`), and an API that serves nobody at all (`breaker`).
"""

from collections import deque
from collections.abc import Collection
from typing import Generic

from allocsync.reconcile.breaker import Key

LATEST = 20  # results
BEGINS, OVER = 10, 2  # failures among them


class Storm(Generic[Key]):
    """See the module."""

    def __init__(self) -> None:
        self._latest: deque[bool] = deque(maxlen=LATEST)  # whether each was served
        self._rages = False
        self._failed: dict[Key, None] = {}  # in this storm
        self._told: dict[Key, None] = {}  # at the end of an earlier one, and has not succeeded since

    def hear(self, key: Key, *, served: bool) -> Collection[Key]:
        """A request of the key was served or not; returns who may try again, because that ends a storm."""
        self._latest.append(served)
        failures = self._latest.count(False)
        self._rages |= failures >= BEGINS
        if served:
            self._failed.pop(key, None)
            self._told.pop(key, None)
        elif self._rages and key not in self._told:
            self._failed[key] = None
        if not self._rages or failures > OVER:
            return ()
        again, self._failed, self._rages = self._failed, {}, False
        self._told |= again
        return again
