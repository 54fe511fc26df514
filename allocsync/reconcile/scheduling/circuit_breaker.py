"""The bottom of the limiter: while nothing succeeds, one probe an interval goes and nothing else. Pure.

The rules: it opens when the API serves nobody, never because some allocations fail. That is so when nothing
succeeded for 10 seconds and 10 failures came from 5 allocations, or when as many could not connect, were not
known (401, 403, 404) or were sent elsewhere (3xx): then there is nothing to wait for. Any success closes it.

Once so many have failed, whoever fails waits for the end of the ten seconds, or the first success: asking
again shows nothing new.
What failed meanwhile is the API's fault and not the allocation's: it is told, to be forgiven. A probe by an
allocation that had kept failing before proves little, so it does not make the next one wait longer. One that
ended without a request of this kind, as its look failed or found nothing to do, proves nothing: the next may
go a second later.

Left out: who is the probe (`queue`), and how far the limit falls (`limiter`).
"""

from collections.abc import Collection, Hashable, Mapping
from math import inf
from typing import Generic, TypeVar

from allocsync.reconcile.scheduling.response_class import ResponseClass

Key = TypeVar("Key", bound=Hashable)

SILENT_SECONDS = 10.0  # nothing succeeded for so long ...
FAILURES = 10  # ... while so many failed
USUAL_OF = 8  # successes
KEYS = 5  # of so many allocations, or of all where there are fewer
PROBE_FIRST_SECONDS = 1.0  # until the first probe; doubles
PROBE_MOST_SECONDS = 8.0
PROBE_JITTER = 0.2  # shorter by up to this share, never longer
KEEPS_FAILING = 3  # failures in a row of one allocation


class CircuitBreaker(Generic[Key]):
    """Open or closed; `opened_at` and `probes` are of the latest opening. Times are the caller's seconds."""

    def __init__(self) -> None:
        self.open = False
        self.opened_at = -inf
        self.probes = 0
        self._probe_at = -inf
        self._interval_seconds = PROBE_FIRST_SECONDS
        self._unheard: tuple[Key, float] | None = None  # the latest probe, and the interval before it
        self._failed: dict[Key, int] = {}  # since something succeeded
        self._failures = self._shut = 0
        self._usual = 0.0  # failures between two successes
        self._served_at = self._silent_since = -inf

    def wait(self, now: float) -> float | None:
        """None: something may go; else until when not."""
        return self._probe_at if self.open and now < self._probe_at else None

    def silent(self, now: float) -> bool:
        """Whether nothing has succeeded for so long, though it was tried."""
        return bool(self._failed) and now - self._silent_since >= SILENT_SECONDS

    def failures(self, key: Key) -> int:
        """How often this allocation has failed since anything succeeded."""
        return self._failed.get(key, 0)

    def probe(self, key: Key, now: float, *, failures: int, chance: float) -> None:
        """A probe goes, by an allocation that had failed so often before; `chance` is from 0 to 1."""
        self.probes += 1
        self._unheard = key, self._interval_seconds
        if failures < KEEPS_FAILING and self.probes > 1:
            self._interval_seconds = min(2 * self._interval_seconds, PROBE_MOST_SECONDS)
        self._probe_at = now + self._interval_seconds * (1 - PROBE_JITTER * chance)

    def ended(self, key: Key, now: float) -> None:
        """What the key was admitted for has ended: a probe that was not heard of was none."""
        if self._unheard is not None and self._unheard[0] == key:
            _, self._interval_seconds = self._unheard
            self._unheard = None
            self._probe_at = min(self._probe_at, now + PROBE_FIRST_SECONDS)

    def served(self, now: float) -> bool:
        """Something succeeded; returns whether that closed it."""
        closed, self.open, self._unheard = self.open, False, None
        self._served_at = now
        if not closed:
            # Of each allocation so many at most, or a few that always fail would hide an outage.
            self._usual += (min(self._failures, FAILURES * len(self._failed)) - self._usual) / USUAL_OF
        self._failed.clear()
        self._failures = self._shut = 0
        return closed

    def failed(
        self, key: Key, result: ResponseClass, *, begun: float, now: float, keys: int
    ) -> Mapping[Key, int]:
        """A request of one of so many allocations failed; returns how many failures of whom to forgive."""
        if self._unheard is not None and self._unheard[0] == key:
            self._unheard = None
        if not self._failed:
            self._silent_since = max(begun, self._served_at)
        self._failed[key] = self._failed.get(key, 0) + 1
        self._failures += 1
        self._shut += result is ResponseClass.SHUT
        if self.open:
            return {key: 1}
        if not self._serves_nobody(now, min(KEYS, keys)):
            return {}
        self.open, self.opened_at, self.probes = True, now, 0
        self._interval_seconds = PROBE_FIRST_SECONDS
        self._probe_at = now + PROBE_FIRST_SECONDS
        return dict(self._failed)

    def suspects(self, *, keys: int) -> Collection[Key]:
        """Who failed, while it looks as if the API served nobody and it has not opened."""
        return () if self.open or not self._failed_enough(min(KEYS, keys)) else self._failed.keys()

    def decides_at(self, *, keys: int) -> float:
        """When it will open if nothing succeeds by then; minus infinity: it looks well, or is open."""
        return self._silent_since + SILENT_SECONDS if self.suspects(keys=keys) else -inf

    def _serves_nobody(self, now: float, enough: int) -> bool:
        shut = self._shut >= max(1.0, self._usual) * FAILURES * enough / KEYS
        return len(self._failed) >= enough and (shut or (self._failed_enough(enough) and self.silent(now)))

    def _failed_enough(self, enough: int) -> bool:
        return len(self._failed) >= enough and self._failures >= max(1.0, self._usual) * FAILURES
