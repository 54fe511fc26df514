"""Early retries: when a request of a failing allocation succeeds, another failing allocation retries. Pure.

The rule: when a failing allocation succeeds, the longest-waiting failing one is retried at once, whatever its
backoff, but not before Retry-After ends. While most requests fail, a chain of such wake-ups ends after a step
or two, so it adds almost no load. Once the API works again, each success wakes the next allocation, so no
backoff outlasts its cause. An allocation that was woken and has no request to send passes its wake-up on.

A success of an allocation that had not failed wakes none: it says nothing about those that fail for a reason
of their own. Failures still count: an allocation that is woken too early keeps its full backoff afterwards.

Left out: how many requests may be in flight (`concurrency`), and an API where all requests fail
(`circuit_breaker`).
"""

from collections.abc import Collection
from itertools import islice
from typing import Generic

from allocsync.reconcile.scheduling.circuit_breaker import Key

WAKEUPS_PER_SUCCESS = 1


class RetryWakeup(Generic[Key]):
    """The failing keys. A key is tracked from its first failure until it succeeds or is withdrawn."""

    def __init__(self) -> None:
        self._waiting: dict[Key, None] = {}  # the longest-waiting first
        self._woken: set[Key] = set()

    def record_failure(self, key: Key) -> None:
        """A request of the key failed: the key waits behind all others."""
        self._remove(key)
        self._waiting[key] = None

    def record_success(self, key: Key) -> Collection[Key]:
        """A request of the key succeeded; returns the keys to retry at once."""
        return self._wake(WAKEUPS_PER_SUCCESS if self._remove(key) else 0)

    def withdraw(self, key: Key) -> Collection[Key]:
        """The key has no request to send any more; returns the key to retry in its place.

        The collection is empty unless the key had been woken.
        """
        was_woken = key in self._woken
        self._remove(key)
        return self._wake(1 if was_woken else 0)

    def _remove(self, key: Key) -> bool:
        """Stop tracking the key; returns whether it was tracked."""
        was_tracked = key in self._waiting or key in self._woken
        self._waiting.pop(key, None)
        self._woken.discard(key)
        return was_tracked

    def _wake(self, count: int) -> Collection[Key]:
        woken = tuple(islice(self._waiting, count))
        for key in woken:
            del self._waiting[key]
        self._woken.update(woken)
        return woken
