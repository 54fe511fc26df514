"""The circuit breaker: while no request succeeds, it lets one probe through per interval. Pure.

The rules: the breaker opens when the API serves no allocation, never because some allocations fail. It opens
when nothing has succeeded for 10 seconds and there were 10 failures of 5 allocations. The seconds count from
the start of the first request that failed. If usually more than one failure comes between two successes, 10
times that number is needed. It opens without the wait when that many failures were of class UNAVAILABLE. Any
success closes it.

Once there are that many failures, a failing allocation waits until the ten seconds are over or something
succeeds, because another try before then shows nothing new.

Failures between the latest success before it opened and the success that closes it are faults of the API and
not of the allocation: they are returned, to be forgiven. A probe by an allocation that kept failing before
says little, so it does not lengthen the next interval. A probe that ends without a request of this kind,
because its read failed or found no difference, says nothing: the next probe may go one second later.

Left out: which allocation sends the probe (`work_queue`), and how far the limit shrinks (`concurrency`).
"""

from collections.abc import Collection, Hashable, Mapping
from typing import Generic, TypeVar

from allocsync.model.times import LONG_AGO, Monotonic
from allocsync.reconcile.scheduling.response_class import ResponseClass

Key = TypeVar("Key", bound=Hashable)

SILENT_SECONDS = 10.0  # it opens after so long without a success ...
MIN_FAILURES = 10  # ... with so many failures ...
MIN_KEYS = 5  # ... of so many allocations, or of all if there are fewer
USUAL_SUCCESSES = 8  # over which the usual number of failures between successes is averaged
PROBE_FIRST_SECONDS = 1.0  # until the first probe, and until the second; then the interval doubles
PROBE_MAX_SECONDS = 8.0
PROBE_JITTER = 0.2  # an interval is shortened by up to this share, never lengthened
KEEPS_FAILING = 3  # failures in a row after which an allocation counts as failing by itself


class CircuitBreaker(Generic[Key]):
    """Open or closed, for one operation. All times are monotonic seconds.

    Attributes:
        open: whether only probes may go.
        opened_at: when it opened last.
        probes: how many probes were sent since then.
    """

    def __init__(self) -> None:
        self.open = False
        self.opened_at = LONG_AGO
        self.probes = 0
        self._probe_at = LONG_AGO
        self._interval_seconds = PROBE_FIRST_SECONDS
        # The latest probe until it has a response, and the interval before it.
        self._pending_probe: tuple[Key, float] | None = None
        self._failed: dict[Key, int] = {}  # failures since the latest success
        self._failures = self._unavailable = 0
        self._usual_failures = 0.0  # between two successes
        self._succeeded_at = self._silent_since = LONG_AGO

    def blocked_until(self, now: Monotonic) -> Monotonic | None:
        """When the next probe may go; None if a request may go now."""
        return self._probe_at if self.open and now < self._probe_at else None

    def is_silent(self, now: Monotonic) -> bool:
        """Whether requests failed and none has succeeded for `SILENT_SECONDS`."""
        return bool(self._failed) and now - self._silent_since >= SILENT_SECONDS

    def failures_of(self, key: Key) -> int:
        """How often this allocation has failed since the latest success of any."""
        return self._failed.get(key, 0)

    def record_probe(self, key: Key, now: Monotonic, *, failures: int, chance: float) -> None:
        """A probe is sent now: set when the next one may go.

        The interval doubles, except after the first probe and after one by an allocation that keeps failing:
        `failures` is how often it failed in a row. `chance` is a random number from 0 to 1, for the jitter.
        """
        self.probes += 1
        self._pending_probe = key, self._interval_seconds
        if failures < KEEPS_FAILING and self.probes > 1:
            self._interval_seconds = min(2 * self._interval_seconds, PROBE_MAX_SECONDS)
        self._probe_at = now + self._interval_seconds * (1 - PROBE_JITTER * chance)

    def record_release(self, key: Key, now: Monotonic) -> None:
        """The key gave its slot back; if its probe has no response, the next may go one second later."""
        if self._pending_probe is not None and self._pending_probe[0] == key:
            _, self._interval_seconds = self._pending_probe
            self._pending_probe = None
            self._probe_at = min(self._probe_at, now + PROBE_FIRST_SECONDS)

    def record_success(self, now: Monotonic) -> bool:
        """A request succeeded; returns whether that closed the breaker."""
        closed, self.open, self._pending_probe = self.open, False, None
        self._succeeded_at = now
        if not closed:
            # The count of each allocation is limited, or a few that always fail would hide an outage.
            failures = min(self._failures, MIN_FAILURES * len(self._failed))
            self._usual_failures += (failures - self._usual_failures) / USUAL_SUCCESSES
        self._failed.clear()
        self._failures = self._unavailable = 0
        return closed

    def record_failure(
        self, key: Key, response_class: ResponseClass, *, begun: Monotonic, now: Monotonic, key_count: int
    ) -> Mapping[Key, int]:
        """A request failed that began at `begun`, of one of `key_count` allocations.

        Returns how many failures to forgive, by key; empty while the breaker is closed.
        """
        if self._pending_probe is not None and self._pending_probe[0] == key:
            self._pending_probe = None
        if not self._failed:
            self._silent_since = max(begun, self._succeeded_at)
        self._failed[key] = self._failed.get(key, 0) + 1
        self._failures += 1
        self._unavailable += response_class is ResponseClass.UNAVAILABLE
        if self.open:
            return {key: 1}
        if not self._must_open(now, min(MIN_KEYS, key_count)):
            return {}
        self.open, self.opened_at, self.probes = True, now, 0
        self._interval_seconds = PROBE_FIRST_SECONDS
        self._probe_at = now + PROBE_FIRST_SECONDS
        return dict(self._failed)

    def keys_delayed(self, *, key_count: int) -> Collection[Key]:
        """The failing keys that wait because the breaker is about to open; empty if it is not, or is open."""
        is_delaying = not self.open and self._has_enough_failures(min(MIN_KEYS, key_count))
        return self._failed.keys() if is_delaying else ()

    def opening_due_at(self, *, key_count: int) -> Monotonic:
        """When the breaker opens unless a request succeeds; `LONG_AGO` if open or few have failed."""
        return self._silent_since + SILENT_SECONDS if self.keys_delayed(key_count=key_count) else LONG_AGO

    def _must_open(self, now: Monotonic, min_keys: int) -> bool:
        needed = max(1.0, self._usual_failures) * MIN_FAILURES * min_keys / MIN_KEYS
        is_unavailable = len(self._failed) >= min_keys and self._unavailable >= needed
        return is_unavailable or (self._has_enough_failures(min_keys) and self.is_silent(now))

    def _has_enough_failures(self, min_keys: int) -> bool:
        needed = max(1.0, self._usual_failures) * MIN_FAILURES
        return len(self._failed) >= min_keys and self._failures >= needed
