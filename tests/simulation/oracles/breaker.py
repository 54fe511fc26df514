"""When a circuit breaker may be open, by the requests alone: several failed and none succeeded since.

An upper bound: the breaker also waits for ten seconds without a success, which is not required here.
"""

from collections import Counter
from math import inf

from allocsync.model.api_answers import Snapshot, UpdateAnswer
from allocsync.model.ids import AllocationId
from allocsync.reconcile.scheduling.circuit_breaker import MIN_FAILURES, MIN_KEYS, PROBE_MAX_SECONDS
from allocsync.reconcile.scheduling.response_class import ResponseClass, classify_response
from allocsync.reconcile.scheduling.scheduler import SPREAD_SECONDS

MARGIN_SECONDS = 5.0
RECOVERS_SECONDS = 30.0  # until a lowered concurrency limit has grown again


class BreakerOracle:
    """The breaker of one kind of request, reads or updates. Times are virtual seconds.

    `until` is when every waiting request has been sent again at the latest, if the breaker was open.
    """

    def __init__(self) -> None:
        self.until = -inf
        self._failed: Counter[AllocationId] = Counter()
        self._unreachable = 0
        self._may_be_open = False
        self._failed_at = -inf

    def is_limit_lowered(self, now: float) -> bool:
        """Whether there may be only one slot: a request failed lately, or none succeeded since."""
        return bool(self._failed) or now < self._failed_at + RECOVERS_SECONDS

    def request_answered(
        self, key: AllocationId, answer: Snapshot | UpdateAnswer, now: float, *, declared: int
    ) -> bool:
        """A request was answered, with so many allocations declared. Return whether it succeeded."""
        result = classify_response(answer)
        if result is ResponseClass.SERVED:
            self._failed.clear()
            self._unreachable, self._may_be_open = 0, False
            self.until = min(self.until, now + SPREAD_SECONDS + MARGIN_SECONDS)
        elif result is not None:
            self._failed[key] += 1
            self._failed_at = now
            self._unreachable += result is ResponseClass.UNAVAILABLE
            needed_keys = min(MIN_KEYS, declared)
            has_enough_failures = (
                self._failed.total() >= MIN_FAILURES
                or self._unreachable >= MIN_FAILURES * needed_keys / MIN_KEYS
            )
            self._may_be_open |= has_enough_failures and len(self._failed) >= needed_keys
            if self._may_be_open:
                self.until = now + PROBE_MAX_SECONDS + SPREAD_SECONDS + MARGIN_SECONDS
        return result is ResponseClass.SERVED
