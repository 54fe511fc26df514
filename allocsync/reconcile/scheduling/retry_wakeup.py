"""Who waits because its requests fail, and who of them goes at once as another one got through. Pure.

The rule: an allocation that failed and is served now calls the one that has waited longest, whatever backoff
that has. While most fail a call dies out after a step or two, so it adds next to nothing. Once all is well
each call leads to the next, as many go at once as are served, and no backoff outlasts what it came from. One
that was called and has nothing to ask any more passes its call on.

A success of one that had not failed calls nobody: beside healthy ones it says nothing of those that fail by
themselves. Failures keep counting: one that was called too early is as slow afterwards as it would have been.

Left out: how many may be in flight (`limiter`), and an API that serves nobody at all (`breaker`).
"""

from collections.abc import Collection
from itertools import islice
from typing import Generic

from allocsync.reconcile.scheduling.circuit_breaker import Key

CALLS = 1  # by each that is served


class RetryWakeup(Generic[Key]):
    """See the module. A key is known from its first failure until it is served or done."""

    def __init__(self) -> None:
        self._waiting: dict[Key, None] = {}  # the one that failed longest ago first
        self._called: set[Key] = set()

    def failed(self, key: Key) -> None:
        """A request of the key failed: it waits behind all others."""
        self._forget(key)
        self._waiting[key] = None

    def served(self, key: Key) -> Collection[Key]:
        """A request of the key was served; returns whom it calls."""
        return self._call(CALLS if self._forget(key) else 0)

    def done(self, key: Key) -> Collection[Key]:
        """There is nothing to ask for the key any more; returns whom it calls in its place."""
        called = key in self._called
        self._forget(key)
        return self._call(1 if called else 0)

    def _forget(self, key: Key) -> bool:
        """Returns whether it was known."""
        known = key in self._waiting or key in self._called
        self._waiting.pop(key, None)
        self._called.discard(key)
        return known

    def _call(self, most: int) -> Collection[Key]:
        called = tuple(islice(self._waiting, most))
        for key in called:
            del self._waiting[key]
        self._called.update(called)
        return called
