"""Reports that a cache between allocsync and the API answers reads: at once, then once an hour at most.

The rule: one event tells the greatest age since the event before it.

Left out: how old an answer is (`api.evidence_time`), and what an old one may prove
(`allocation.managed_allocation`).
"""

from allocsync.model.times import LONG_AGO
from allocsync.reconcile.events import Observer, ReadsCached
from allocsync.reconcile.ports import Clock

REPORT_EVERY_SECONDS = 3600.0


class CachedReads:
    """The ages of the answers to all reads of one API."""

    def __init__(self, *, clock: Clock, emit: Observer) -> None:
        self._clock = clock
        self._emit = emit
        self._reported_at = LONG_AGO
        self._oldest_seconds = 0.0

    def observe(self, age_seconds: float) -> None:
        """An answer of this age arrived; 0 if it was made for this read."""
        self._oldest_seconds = max(self._oldest_seconds, age_seconds)
        now = self._clock.now()
        if self._oldest_seconds and now - self._reported_at >= REPORT_EVERY_SECONDS:
            self._emit(ReadsCached(age_seconds=self._oldest_seconds))
            self._reported_at, self._oldest_seconds = now, 0.0
