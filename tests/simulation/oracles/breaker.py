"""When a breaker may be open, seen from outside: the API has served nobody for a while, though it was asked.

An upper bound: the ten seconds of silence that it takes besides are not asked for.
"""

from collections import Counter
from math import inf

from allocsync.model.api_answers import Snapshot, UpdateAnswer
from allocsync.model.ids import AllocationId
from allocsync.reconcile.scheduling.circuit_breaker import FAILURES, KEYS, PROBE_MOST_SECONDS
from allocsync.reconcile.scheduling.response_class import Result, result_of
from allocsync.reconcile.scheduling.scheduler import SPREAD_SECONDS

MARGIN_SECONDS = 5.0
RECOVERS_SECONDS = 30.0  # until a limit that was lowered has grown again


class Outage:
    """Of one kind of request; `until` is when the last of all will have gone again, should it be open."""

    def __init__(self) -> None:
        self.until = -inf
        self._failed: Counter[AllocationId] = Counter()
        self._shut = 0
        self._may_be_open = False
        self._failed_at = -inf

    def narrow(self, now: float) -> bool:
        """Whether there may be a single slot: nothing succeeds since something failed, or not for long."""
        return bool(self._failed) or now < self._failed_at + RECOVERS_SECONDS

    def hears(self, key: AllocationId, answer: Snapshot | UpdateAnswer, now: float, *, declared: int) -> bool:
        """A request was answered, while so many allocations are declared; returns whether it was served."""
        result = result_of(answer)
        if result is Result.SERVED:
            self._failed.clear()
            self._shut, self._may_be_open = 0, False
            self.until = min(self.until, now + SPREAD_SECONDS + MARGIN_SECONDS)
        elif result is not None:
            self._failed[key] += 1
            self._failed_at = now
            self._shut += result is Result.SHUT
            enough = min(KEYS, declared)
            nobody = self._failed.total() >= FAILURES or self._shut >= FAILURES * enough / KEYS
            self._may_be_open |= nobody and len(self._failed) >= enough
            if self._may_be_open:
                self.until = now + PROBE_MOST_SECONDS + SPREAD_SECONDS + MARGIN_SECONDS
        return result is Result.SERVED
