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

from allocsync.reconcile.operation import Slot
from allocsync.reconcile.scheduling.circuit_breaker import Breaker, Key
from allocsync.reconcile.scheduling.response_class import Result
from allocsync.reconcile.scheduling.retry_wakeup import Recovery

MOST: Mapping[Slot, int] = {Slot.READ: 64, Slot.WRITE: 32}
START: Mapping[Slot, int] = {Slot.READ: 8, Slot.WRITE: 4}
FLOOR: Mapping[Slot, int] = {Slot.READ: 1, Slot.WRITE: 4}  # while anything succeeds
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


class Slots(Generic[Key]):
    """One kind of slot: what is in flight in it, its limit and its breaker."""

    def __init__(self, *, start: int, most: int, floor: int) -> None:
        self.most = most
        self.limit = float(min(start, most))
        self.breaker: Breaker[Key] = Breaker()
        self.recovery: Recovery[Key] = Recovery()
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
class Heard(Generic[Key]):
    """What an answer changed: the breaker opened or closed, and how many failures of whom to forgive.

    Where that is none, the key may try again soon all the same. The key that failed waits until `wait_until`.
    """

    turned: bool = False
    forgiven: Mapping[Key, int] = field(default_factory=dict)
    wait_until: float = -inf


class Limiter(Generic[Key]):
    """Both kinds of slot. Times are seconds on the caller's clock; `most` are the hard maxima."""

    def __init__(self, most: Mapping[Slot, int]) -> None:
        if any(most[slot] < 1 for slot in Slot):
            raise ValueError("a limit below one would never let anything through")
        self.slots: dict[Slot, Slots[Key]] = {
            slot: Slots(start=START[slot], most=most[slot], floor=FLOOR[slot]) for slot in Slot
        }

    def waits(self, slot: Slot, now: float) -> float | None:
        """None: one may go; else until when not (infinity: until one is given back)."""
        shut = [until for each in self._asked(slot) if (until := each.shut(now)) is not None]
        if shut:
            return max(shut)
        return inf if self.slots[slot].full(now) else None

    def probing(self, slot: Slot) -> bool:
        """Whether what goes next in such a slot goes as a probe."""
        return any(each.breaker.open for each in self._asked(slot))

    def admit(
        self, slot: Slot, key: Key, now: float, *, failures: int = 0, chance: float = 0.0
    ) -> float | None:
        """Give the key a slot and return None, or return what `waits` says.

        `failures` are those of this key in a row before, `chance` is from 0 to 1: they say when the next
        probe may go, should this be one.
        """
        until = self.waits(slot, now)
        if until is None:
            self.slots[slot].take(key, now)
            for each in self._asked(slot):
                if each.breaker.open:
                    each.breaker.probe(key, now, failures=failures, chance=chance)
        return until

    def promote(self, key: Key, now: float) -> bool:
        """Have a write slot take the place of the key's read slot; never as a probe, which is chosen."""
        if self.probing(Slot.WRITE) or self.admit(Slot.WRITE, key, now) is not None:
            return False
        self.release(Slot.READ, key, now)
        return True

    def hear(
        self, asked: Slot, held: Slot, key: Key, result: Result, *, begun: float, now: float, keys: int
    ) -> Heard[Key]:
        """A request of one of so many keys ended: a GET asks as a read does, whatever slot it holds."""
        slots = self.slots[asked]
        if result is Result.SERVED:
            again = dict.fromkeys((*slots.recovery.served(key), *slots.breaker.suspects(keys=keys)), 0)
            return Heard(slots.served(now - begun, now), again)
        slots.recovery.failed(key)
        if result is Result.OVERLOADED:
            for each in {asked, held}:
                self.slots[each].overloaded(now)
        open_before = slots.breaker.open
        forgiven = slots.breaker.failed(key, result, begun=begun, now=now, keys=keys)
        turned = slots.breaker.open and not open_before
        if turned:
            slots.collapse()
        return Heard(turned, forgiven, slots.breaker.decides_at(keys=keys))

    def release(self, slot: Slot, key: Key, now: float) -> None:
        """Give the key's slot back.

        Raises:
            KeyError: it has none.
        """
        self.slots[slot].release(key)
        for each in self._asked(slot):
            each.breaker.ended(key, now)

    def failures(self, slot: Slot, key: Key) -> int:
        """How often the key has failed where `slot` asks since anything succeeded there."""
        return sum(each.breaker.failures(key) for each in self._asked(slot))

    def done(self, slot: Slot, key: Key) -> Collection[Key]:
        """There is nothing to ask in such a slot for the key any more; returns who may try again instead."""
        return self.slots[slot].recovery.done(key)

    def opens_at(self, now: float) -> float:
        """When more may be admitted by the passing of time alone (infinity: never)."""
        return min(slots.opens_at(now) for slots in self.slots.values())

    def close(self, slot: Slot, until: float) -> None:
        """Admit nothing to these slots before `until`; never shortens an earlier wish."""
        self.slots[slot].shut_until(until)

    def _asked(self, slot: Slot) -> tuple[Slots[Key], ...]:
        """Whose requests are made in such a slot: an update begins with a GET."""
        reads, writes = self.slots[Slot.READ], self.slots[Slot.WRITE]
        return (reads,) if slot is Slot.READ else (reads, writes)
