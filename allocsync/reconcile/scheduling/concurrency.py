"""How many requests may be in flight: reads and writes have slots of their own, and limits that adapt. Pure.

The rules: admission is one synchronous step that says go, or until when to wait; nothing waits inside it. An
update holds one write slot from its snapshot to its answer. GETs judge the reads and POSTs the writes: dead
POSTs do not make healthy GETs wait; but an update begins with a GET, so it waits where reads are shut.

A limit doubles with each round trip until it first shrinks, then grows by one with each; only when it is in
use, and while successes are about as quick as the quickest. Once a window it shrinks by half the share that
failed, and by a tenth when most successes were slow. A request that takes long stops counting, so that a few
that hang hold nobody up; the hard maximum counts it. A server that answers 429 shuts its kind of slot for as
long as it asks. The breaker is the bottom: it opens when nothing at all succeeds.

Chance and time are arguments. Left out: which allocation goes (`queue`).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Generic

from allocsync.reconcile.operation import Operation
from allocsync.reconcile.scheduling.circuit_breaker import CircuitBreaker, Key
from allocsync.reconcile.scheduling.response_class import ResponseClass
from allocsync.reconcile.scheduling.retry_wakeup import RetryWakeup

MOST: Mapping[Operation, int] = {Operation.READ: 64, Operation.WRITE: 32}
START: Mapping[Operation, int] = {Operation.READ: 8, Operation.WRITE: 4}
FLOOR: Mapping[Operation, int] = {Operation.READ: 1, Operation.WRITE: 4}  # while anything succeeds
WINDOW_SECONDS, WINDOW_RESULTS = 0.5, 4  # a window lasts for both, from its first result
SHARE = 0.1  # so many may fail without the limit shrinking
CALM, PRESSED, EASED = 3.0, 5.0, 0.9  # times the smallest: grows up to, shrinks above, to this
SMALLEST_SECONDS = 0.01  # below this slowness says more of this process than of the API
FORGETS = 1.001  # what is the smallest rises so much a window: the way to the API may have become longer
SLOW_SECONDS, SLOW_LEAST_SECONDS = 5.0, 1.0  # older ones do not count against the limit: within these ...
SLOW = 10.0  # ... so many times the smallest, and while that is not known:
SLOW_AT_FIRST_SECONDS = 2.0


def shrinks_to(share: float) -> float:
    """What is left of a limit when so large a share of a window failed."""
    return 1 - share / 2 if share > SHARE else 1.0


class ConcurrencyLimit(Generic[Key]):
    """One kind of slot: what is in flight in it, its limit and its breaker."""

    def __init__(self, *, start: int, most: int, floor: int) -> None:
        self.most = most
        self.limit = float(min(start, most))
        self.breaker: CircuitBreaker[Key] = CircuitBreaker()
        self.retry_wakeup: RetryWakeup[Key] = RetryWakeup()
        self.slow: set[Key] = set()
        self._floor = min(floor, most)
        self._fresh: dict[Key, float] = {}  # when each began, the oldest first
        self._shut_until = -inf
        self._doubles = True
        self._smallest_seconds = inf
        self._window_began = -inf
        self._served = self._failed = self._pressed = 0

    @property
    def in_flight(self) -> int:
        """How many there are, slow ones included."""
        return len(self._fresh) + len(self.slow)

    def shut(self, now: float) -> float | None:
        """Until when nothing may be asked, however many slots are free; None: it may."""
        return self._shut_until if now < self._shut_until else self.breaker.wait(now)

    def full(self, now: float) -> bool:
        """Whether there is no slot; a probe needs none but a place below the hard maximum."""
        self._age(now)
        within = self.breaker.open or len(self._fresh) < int(self.limit)
        return not within or self.in_flight >= self.most

    def take(self, key: Key, now: float) -> None:
        """The key takes a place."""
        if key in self._fresh or key in self.slow:
            raise ValueError(f"{key} has a slot already")
        self._fresh[key] = now

    def release(self, key: Key) -> None:
        """Give the key's place back."""
        if key in self.slow:
            self.slow.remove(key)
        else:
            del self._fresh[key]

    def shut_until(self, until: float) -> None:
        """Nothing is asked before then; never shortens an earlier wish."""
        self._shut_until = max(self._shut_until, until)

    def opens_at(self, now: float) -> float:
        """The next time at which more may be admitted, by the passing of time alone."""
        self._age(now)
        oldest = next(iter(self._fresh.values()), inf)
        until = self.shut(now)
        return min(oldest + self._slow_seconds(), inf if until is None else until)

    def served(self, seconds: float, now: float) -> bool:
        """A request succeeded; returns whether that closed the breaker."""
        closed = self.breaker.served(now)
        self._smallest_seconds = min(self._smallest_seconds, max(seconds, SMALLEST_SECONDS))
        self._count(now, served=1)
        self._pressed += seconds > PRESSED * self._smallest_seconds
        if seconds <= CALM * self._smallest_seconds and 2 * len(self._fresh) >= self.limit:
            self.limit = min(self.limit + (1.0 if self._doubles else 1 / self.limit), float(self.most))
        self.limit = max(self.limit, float(self._floor))
        self._judge(now)
        return closed

    def overloaded(self, now: float) -> None:
        """A request failed as on a server that has too much to do."""
        self._count(now, failed=1)
        self._judge(now)

    def collapse(self) -> None:
        """The breaker has opened: begin at the bottom again."""
        self.limit, self._doubles = 1.0, False

    def _count(self, now: float, *, served: int = 0, failed: int = 0) -> None:
        """A window begins with its first result."""
        if not self._served + self._failed:
            self._window_began = now
        self._served += served
        self._failed += failed

    def _judge(self, now: float) -> None:
        """Close the window when it is over, and shrink the limit by what it showed."""
        results = self._served + self._failed
        if results < WINDOW_RESULTS or now - self._window_began < WINDOW_SECONDS:
            return
        share = self._failed / results
        factor = shrinks_to(share)
        factor *= EASED if 2 * self._pressed > self._served else 1.0
        if factor < 1:
            floor = 1 if self.breaker.silent(now) else self._floor
            self.limit, self._doubles = min(self.limit, max(self.limit * factor, floor)), False
        self._smallest_seconds *= FORGETS
        self._served = self._failed = self._pressed = 0

    def _slow_seconds(self) -> float:
        if self._smallest_seconds == inf:
            return SLOW_AT_FIRST_SECONDS
        return min(max(SLOW * self._smallest_seconds, SLOW_LEAST_SECONDS), SLOW_SECONDS)

    def _age(self, now: float) -> None:
        """Move those that have become slow among the slow."""
        while self._fresh:
            key, began = next(iter(self._fresh.items()))
            if now < began + self._slow_seconds():
                return
            del self._fresh[key]
            self.slow.add(key)


@dataclass(frozen=True, slots=True)
class ResponseEffect(Generic[Key]):
    """What an answer changed: the breaker opened or closed, and how many failures of whom to forgive.

    Where that is none, the key may try again soon all the same. The key that failed waits until `wait_until`.
    """

    turned: bool = False
    forgiven: Mapping[Key, int] = field(default_factory=dict)
    wait_until: float = -inf


class ConcurrencyLimits(Generic[Key]):
    """Both kinds of slot. Times are seconds on the caller's clock; `most` are the hard maxima."""

    def __init__(self, most: Mapping[Operation, int]) -> None:
        if any(most[operation] < 1 for operation in Operation):
            raise ValueError("a limit below one would never let anything through")
        self.limits: dict[Operation, ConcurrencyLimit[Key]] = {
            operation: ConcurrencyLimit(start=START[operation], most=most[operation], floor=FLOOR[operation])
            for operation in Operation
        }

    def waits(self, operation: Operation, now: float) -> float | None:
        """None: one may go; else until when not (infinity: until one is given back)."""
        shut = [until for each in self._asked(operation) if (until := each.shut(now)) is not None]
        if shut:
            return max(shut)
        return inf if self.limits[operation].full(now) else None

    def probing(self, operation: Operation) -> bool:
        """Whether what goes next in such a slot goes as a probe."""
        return any(each.breaker.open for each in self._asked(operation))

    def admit(
        self, operation: Operation, key: Key, now: float, *, failures: int = 0, chance: float = 0.0
    ) -> float | None:
        """Give the key a slot and return None, or return what `waits` says.

        `failures` are those of this key in a row before, `chance` is from 0 to 1: they say when the next
        probe may go, should this be one.
        """
        until = self.waits(operation, now)
        if until is None:
            self.limits[operation].take(key, now)
            for each in self._asked(operation):
                if each.breaker.open:
                    each.breaker.probe(key, now, failures=failures, chance=chance)
        return until

    def promote(self, key: Key, now: float) -> bool:
        """Have a write slot take the place of the key's read slot; never as a probe, which is chosen."""
        if self.probing(Operation.WRITE) or self.admit(Operation.WRITE, key, now) is not None:
            return False
        self.release(Operation.READ, key, now)
        return True

    def record_response(
        self,
        asked: Operation,
        admitted_for: Operation,
        key: Key,
        result: ResponseClass,
        *,
        begun: float,
        now: float,
        keys: int,
    ) -> ResponseEffect[Key]:
        """A request of one of so many keys ended: a GET asks as a read does, whatever slot it holds."""
        limits = self.limits[asked]
        if result is ResponseClass.SERVED:
            again = dict.fromkeys((*limits.retry_wakeup.served(key), *limits.breaker.suspects(keys=keys)), 0)
            return ResponseEffect(limits.served(now - begun, now), again)
        limits.retry_wakeup.failed(key)
        if result is ResponseClass.OVERLOADED:
            for each in {asked, admitted_for}:
                self.limits[each].overloaded(now)
        open_before = limits.breaker.open
        forgiven = limits.breaker.failed(key, result, begun=begun, now=now, keys=keys)
        turned = limits.breaker.open and not open_before
        if turned:
            limits.collapse()
        return ResponseEffect(turned, forgiven, limits.breaker.decides_at(keys=keys))

    def release(self, operation: Operation, key: Key, now: float) -> None:
        """Give the key's slot back.

        Raises:
            KeyError: it has none.
        """
        self.limits[operation].release(key)
        for each in self._asked(operation):
            each.breaker.ended(key, now)

    def failures(self, operation: Operation, key: Key) -> int:
        """How often the key has failed where `slot` asks since anything succeeded there."""
        return sum(each.breaker.failures(key) for each in self._asked(operation))

    def done(self, operation: Operation, key: Key) -> Collection[Key]:
        """There is nothing to ask in such a slot for the key any more; returns who may try again instead."""
        return self.limits[operation].retry_wakeup.done(key)

    def opens_at(self, now: float) -> float:
        """When more may be admitted by the passing of time alone (infinity: never)."""
        return min(limits.opens_at(now) for limits in self.limits.values())

    def close(self, operation: Operation, until: float) -> None:
        """Admit nothing to these slots before `until`; never shortens an earlier wish."""
        self.limits[operation].shut_until(until)

    def _asked(self, operation: Operation) -> tuple[ConcurrencyLimit[Key], ...]:
        """Whose requests are made in such a slot: an update begins with a GET."""
        reads, writes = self.limits[Operation.READ], self.limits[Operation.WRITE]
        return (reads,) if operation is Operation.READ else (reads, writes)
