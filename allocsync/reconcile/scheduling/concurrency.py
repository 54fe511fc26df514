"""Concurrency limits: how many requests may be in flight, with slots for reads and slots for writes. Pure.

The rules: admission is one synchronous step that gives a slot or says until when to wait. An update holds one
write slot from its read to its response. Responses to GET set the limit of reads and responses to POST that
of writes, so failing POSTs do not delay healthy GETs. But an update begins with a GET, so it waits while
reads may not go, and an overloaded response to that GET counts for both limits.

A limit doubles each round trip until it first shrinks; after that it grows by one each round trip. It grows
only while it is in use and successes are about as quick as the quickest. Once in a window it shrinks by half
the share of requests that failed, and by a tenth when most successes were slow. A request that takes long no
longer counts against the limit, so that a few hanging requests delay no others; it still counts against the
hard maximum. A 429 response to a POST blocks writes, and one with Retry-After to a GET blocks reads:
`reconciler` then calls `block_until`. When no request succeeds at all, the circuit breaker opens.

Time and random numbers are arguments. Left out: which allocation goes next (`work_queue`).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Generic

from allocsync.model.times import LONG_AGO, NEVER, Monotonic
from allocsync.reconcile.operation import Operation
from allocsync.reconcile.scheduling.circuit_breaker import CircuitBreaker, Key
from allocsync.reconcile.scheduling.response_class import ResponseClass
from allocsync.reconcile.scheduling.retry_wakeup import RetryWakeup

MAX_LIMIT: Mapping[Operation, int] = {Operation.READ: 64, Operation.WRITE: 32}
INITIAL_LIMIT: Mapping[Operation, int] = {Operation.READ: 8, Operation.WRITE: 4}
MIN_LIMIT: Mapping[Operation, int] = {Operation.READ: 1, Operation.WRITE: 4}  # while any request succeeds
WINDOW_SECONDS, WINDOW_RESULTS = 0.5, 4  # a window ends when both are reached, from its first result
TOLERATED_FAILURE_SHARE = 0.1  # of a window, without the limit shrinking
GROWTH_LATENCY_RATIO = 3.0  # the limit grows while requests take at most so many times the smallest latency
SLOW_LATENCY_RATIO = 5.0  # a success that takes more than so many times the smallest latency was slow
SLOW_SHRINK_FACTOR = 0.9
MIN_LATENCY_SECONDS = 0.01  # below this, latency says more about this process than about the API
LATENCY_FORGET_FACTOR = 1.001  # the smallest latency rises so much each window: the network path may change
# A request counts as slow after so many times the smallest latency, within these bounds ...
SLOW_AGE_RATIO, SLOW_MIN_SECONDS, SLOW_MAX_SECONDS = 10.0, 1.0, 5.0
SLOW_INITIAL_SECONDS = 2.0  # ... and after this while no latency is known


def shrink_factor(failure_share: float) -> float:
    """Factor to multiply a limit by after a window in which this share (0 to 1) of requests failed."""
    return 1 - failure_share / 2 if failure_share > TOLERATED_FAILURE_SHARE else 1.0


class ConcurrencyLimit(Generic[Key]):
    """The slots of one operation: requests in flight, limit and circuit breaker. Times are monotonic seconds.

    Attributes:
        maximum: the hard maximum of requests in flight, slow ones included.
        limit: how many requests that are not slow may be in flight.
        slow: the keys whose request has been in flight for so long that it no longer counts against `limit`.
    """

    def __init__(self, *, initial: int, maximum: int, minimum: int) -> None:
        self.maximum = maximum
        self.limit = float(min(initial, maximum))
        self.breaker: CircuitBreaker[Key] = CircuitBreaker()
        self.retry_wakeup: RetryWakeup[Key] = RetryWakeup()
        self.slow: set[Key] = set()
        self._minimum = min(minimum, maximum)
        self._begun: dict[Key, Monotonic] = {}  # when each request that is not slow began, the oldest first
        self._blocked_until = LONG_AGO
        self._doubles = True
        self._smallest_seconds = inf
        self._window_began = LONG_AGO
        self._succeeded = self._failed = self._slow_successes = 0

    @property
    def in_flight(self) -> int:
        """How many requests are in flight, slow ones included."""
        return len(self._begun) + len(self.slow)

    def blocked_until(self, now: Monotonic) -> Monotonic | None:
        """Until when no request may go, however many slots are free; None if one may go now."""
        return self._blocked_until if now < self._blocked_until else self.breaker.blocked_until(now)

    def is_full(self, now: Monotonic) -> bool:
        """Whether no slot is free; a probe may exceed the limit, but not the hard maximum."""
        self._mark_slow(now)
        has_slot = self.breaker.open or len(self._begun) < int(self.limit)
        return not has_slot or self.in_flight >= self.maximum

    def take_slot(self, key: Key, now: Monotonic) -> None:
        """Give the key a slot. The caller checks first that one is free (`is_full`).

        Raises:
            ValueError: the key has a slot already.
        """
        if key in self._begun or key in self.slow:
            raise ValueError(f"{key} has a slot already")
        self._begun[key] = now

    def release_slot(self, key: Key) -> None:
        """Give the key's slot back.

        Raises:
            KeyError: the key has none.
        """
        if key in self.slow:
            self.slow.remove(key)
        else:
            del self._begun[key]

    def block_until(self, until: Monotonic) -> None:
        """Let no request go before `until`; never shortens an earlier call."""
        self._blocked_until = max(self._blocked_until, until)

    def next_admission_at(self, now: Monotonic) -> Monotonic:
        """When more requests may go because time passes; `NEVER` if time alone changes nothing."""
        self._mark_slow(now)
        oldest = next(iter(self._begun.values()), NEVER)
        until = self.blocked_until(now)
        return min(oldest + self._slow_after_seconds(), NEVER if until is None else until)

    def record_success(self, seconds: float, now: Monotonic) -> bool:
        """A request succeeded after so many seconds; returns whether that closed the breaker."""
        closed = self.breaker.record_success(now)
        self._smallest_seconds = min(self._smallest_seconds, max(seconds, MIN_LATENCY_SECONDS))
        self._count(now, succeeded=1)
        self._slow_successes += seconds > SLOW_LATENCY_RATIO * self._smallest_seconds
        is_quick = seconds <= GROWTH_LATENCY_RATIO * self._smallest_seconds
        if is_quick and 2 * len(self._begun) >= self.limit:
            self.limit = min(self.limit + (1.0 if self._doubles else 1 / self.limit), float(self.maximum))
        self.limit = max(self.limit, float(self._minimum))
        self._close_window(now)
        return closed

    def record_overload(self, now: Monotonic) -> None:
        """A request failed in the way of an overloaded server."""
        self._count(now, failed=1)
        self._close_window(now)

    def reset_to_one(self) -> None:
        """The breaker has opened: begin again with a limit of one, and without doubling."""
        self.limit, self._doubles = 1.0, False

    def _count(self, now: Monotonic, *, succeeded: int = 0, failed: int = 0) -> None:
        """Count a result; the first one begins a window."""
        if not self._succeeded + self._failed:
            self._window_began = now
        self._succeeded += succeeded
        self._failed += failed

    def _close_window(self, now: Monotonic) -> None:
        """If the window is over, shrink the limit according to its results, and begin another window."""
        results = self._succeeded + self._failed
        if results < WINDOW_RESULTS or now - self._window_began < WINDOW_SECONDS:
            return
        factor = shrink_factor(self._failed / results)
        factor *= SLOW_SHRINK_FACTOR if 2 * self._slow_successes > self._succeeded else 1.0
        if factor < 1:
            minimum = 1 if self.breaker.is_silent(now) else self._minimum
            self.limit, self._doubles = min(self.limit, max(self.limit * factor, minimum)), False
        self._smallest_seconds *= LATENCY_FORGET_FACTOR
        self._succeeded = self._failed = self._slow_successes = 0

    def _slow_after_seconds(self) -> float:
        if self._smallest_seconds == inf:
            return SLOW_INITIAL_SECONDS
        return min(max(SLOW_AGE_RATIO * self._smallest_seconds, SLOW_MIN_SECONDS), SLOW_MAX_SECONDS)

    def _mark_slow(self, now: Monotonic) -> None:
        """Move the requests that have become slow to `slow`."""
        while self._begun:
            key, began = next(iter(self._begun.items()))
            if now < began + self._slow_after_seconds():
                return
            del self._begun[key]
            self.slow.add(key)


@dataclass(frozen=True, slots=True)
class ResponseEffect(Generic[Key]):
    """What a response changed.

    Attributes:
        breaker_changed: whether the breaker opened or closed.
        forgiven: how many failures to forgive, by key; each of these keys may retry soon, even one with 0.
        wait_until: the key of the response waits at least until then; `LONG_AGO` if it need not.
    """

    breaker_changed: bool = False
    forgiven: Mapping[Key, int] = field(default_factory=dict)
    wait_until: Monotonic = LONG_AGO


class ConcurrencyLimits(Generic[Key]):
    """The limits of reads and of writes. Times are monotonic seconds."""

    def __init__(self, maximums: Mapping[Operation, int]) -> None:
        """`maximums` are the hard maximums by operation.

        Raises:
            ValueError: a maximum is below one.
        """
        if any(maximums[operation] < 1 for operation in Operation):
            raise ValueError("a limit below one would never let anything through")
        self.limits: dict[Operation, ConcurrencyLimit[Key]] = {
            operation: ConcurrencyLimit(
                initial=INITIAL_LIMIT[operation], maximum=maximums[operation], minimum=MIN_LIMIT[operation]
            )
            for operation in Operation
        }

    def wait_until(self, operation: Operation, now: Monotonic) -> Monotonic | None:
        """Until when no request may go (`NEVER`: until a slot is given back); None if one may go now."""
        limits = self._limits_for(operation)
        blocked = [until for limit in limits if (until := limit.blocked_until(now)) is not None]
        if blocked:
            return max(blocked)
        return NEVER if self.limits[operation].is_full(now) else None

    def is_probing(self, operation: Operation) -> bool:
        """Whether the next admission for this operation is a probe."""
        return any(limit.breaker.open for limit in self._limits_for(operation))

    def admit(
        self, operation: Operation, key: Key, now: Monotonic, *, failures: int = 0, chance: float = 0.0
    ) -> Monotonic | None:
        """Give the key a slot and return None, or return until when to wait, as `wait_until` does.

        If the admission is a probe, `failures` (of this key in a row) and `chance` (random, 0 to 1) determine
        when the next probe may go.

        Raises:
            ValueError: the key has a slot for this operation already.
        """
        until = self.wait_until(operation, now)
        if until is None:
            self.limits[operation].take_slot(key, now)
            for limit in self._limits_for(operation):
                if limit.breaker.open:
                    limit.breaker.record_probe(key, now, failures=failures, chance=chance)
        return until

    def promote(self, key: Key, now: Monotonic) -> bool:
        """Replace the key's read slot with a write slot, if one may be taken; returns whether it was.

        Never as a probe, because the scheduler chooses which allocation is the probe.
        """
        if self.is_probing(Operation.WRITE) or self.admit(Operation.WRITE, key, now) is not None:
            return False
        self.release(Operation.READ, key, now)
        return True

    def record_response(
        self,
        requested: Operation,
        admitted_for: Operation,
        key: Key,
        response_class: ResponseClass,
        *,
        begun: Monotonic,
        now: Monotonic,
        key_count: int,
    ) -> ResponseEffect[Key]:
        """A request that began at `begun` has a response, or failed.

        `requested` is READ for a GET and WRITE for a POST; `admitted_for` is the operation of the slot, so a
        GET of an update has READ and WRITE. `key_count` is the number of managed allocations.
        """
        limit = self.limits[requested]
        if response_class is ResponseClass.SERVED:
            woken = limit.retry_wakeup.record_success(key)
            delayed = limit.breaker.keys_delayed(key_count=key_count)
            retried = dict.fromkeys((*woken, *delayed), 0)
            return ResponseEffect(limit.record_success(now - begun, now), retried)
        limit.retry_wakeup.record_failure(key)
        if response_class is ResponseClass.OVERLOADED:
            for operation in {requested, admitted_for}:
                self.limits[operation].record_overload(now)
        was_open = limit.breaker.open
        forgiven = limit.breaker.record_failure(
            key, response_class, begun=begun, now=now, key_count=key_count
        )
        opened = limit.breaker.open and not was_open
        if opened:
            limit.reset_to_one()
        return ResponseEffect(opened, forgiven, limit.breaker.opening_due_at(key_count=key_count))

    def release(self, operation: Operation, key: Key, now: Monotonic) -> None:
        """Give the key's slot back.

        Raises:
            KeyError: the key has none.
        """
        self.limits[operation].release_slot(key)
        for limit in self._limits_for(operation):
            limit.breaker.record_release(key, now)

    def failures_of(self, operation: Operation, key: Key) -> int:
        """How often the key's requests for this operation have failed since the latest success of any key.

        For WRITE, failed GETs count too.
        """
        return sum(limit.breaker.failures_of(key) for limit in self._limits_for(operation))

    def withdraw(self, operation: Operation, key: Key) -> Collection[Key]:
        """The key has no request for this operation any more; returns the keys to retry in its place."""
        return self.limits[operation].retry_wakeup.withdraw(key)

    def next_admission_at(self, now: Monotonic) -> Monotonic:
        """When more requests may go because time passes; `NEVER` if time alone changes nothing."""
        return min(limit.next_admission_at(now) for limit in self.limits.values())

    def block_until(self, operation: Operation, until: Monotonic) -> None:
        """Admit nothing for this operation before `until`; never shortens an earlier call."""
        self.limits[operation].block_until(until)

    def _limits_for(self, operation: Operation) -> tuple[ConcurrencyLimit[Key], ...]:
        """The limits of the requests that this operation makes: an update begins with a GET."""
        reads, writes = self.limits[Operation.READ], self.limits[Operation.WRITE]
        return (reads,) if operation is Operation.READ else (reads, writes)
