"""The limiter in any order of events: slots are conserved, no limit is exceeded, and it is never stuck."""

from math import inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from allocsync.reconcile.operation import Slot
from allocsync.reconcile.scheduling.circuit_breaker import (
    PROBE_FIRST_SECONDS,
    PROBE_JITTER,
    PROBE_MOST_SECONDS,
)
from allocsync.reconcile.scheduling.concurrency import SLOW_LEAST_SECONDS, Limiter
from allocsync.reconcile.scheduling.response_class import Result

KEYS = tuple("abcdefghijkl")
slots = st.sampled_from(Slot)
WISH_MOST_SECONDS = 20


class LimiterMachine(RuleBasedStateMachine):
    """A model that knows who holds what since when, and when each breaker last let a probe through."""

    def __init__(self) -> None:
        super().__init__()
        self.most = {Slot.READ: 3, Slot.WRITE: 2}
        self.limiter: Limiter[str] = Limiter(self.most)
        self.now = 0.0
        self.held: dict[str, tuple[Slot, float]] = {}
        self.probed_at = dict.fromkeys(Slot, -inf)

    def fresh(self, slot: Slot) -> int:
        """How many count; whoever does not is old enough."""
        slow = self.limiter.slots[slot].slow
        assert all(self.now - self.held[key][1] >= SLOW_LEAST_SECONDS for key in slow)
        return sum(held is slot for held, _ in self.held.values()) - len(slow)

    def shut(self, slot: Slot) -> list[Slot]:
        asked = [Slot.READ] if slot is Slot.READ else list(Slot)
        return [each for each in asked if self.limiter.slots[each].breaker.open]

    @rule(slot=slots, key=st.sampled_from(KEYS), failures=st.integers(0, 4), chance=st.floats(0, 1))
    def admit(self, slot: Slot, key: str, failures: int, chance: float) -> None:
        if key in self.held:
            return
        shut = self.shut(slot)
        until = self.limiter.admit(slot, key, self.now, failures=failures, chance=chance)
        if until is not None:
            assert until > self.now
            return
        self.held[key] = (slot, self.now)
        if not shut:
            assert self.fresh(slot) <= self.limiter.slots[slot].limit
        for each in shut:
            assert self.now - self.probed_at[each] >= PROBE_FIRST_SECONDS * (1 - PROBE_JITTER)
            self.probed_at[each] = self.now

    @precondition(lambda self: any(slot is Slot.READ for slot, _ in self.held.values()))
    @rule(data=st.data())
    def promote(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(k for k, (s, _) in self.held.items() if s is Slot.READ)))
        probing = self.limiter.probing(Slot.WRITE)
        if self.limiter.promote(key, self.now):
            assert not probing
            self.held[key] = (Slot.WRITE, self.now)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), result=st.sampled_from(Result), ends=st.booleans())
    def hear(self, data: st.DataObject, result: Result, *, ends: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        held, began = self.held[key]
        asked = data.draw(st.sampled_from([Slot.READ, held]))
        was_open = self.limiter.slots[asked].breaker.open
        heard = self.limiter.hear(asked, held, key, result, begun=began, now=self.now, keys=len(KEYS))
        breaker = self.limiter.slots[asked].breaker
        assert heard.turned is (breaker.open is not was_open)
        assert not (result is Result.SERVED and breaker.open)
        if breaker.open and not was_open:
            self.probed_at[asked] = self.now
        if ends:
            self.limiter.release(held, key, self.now)
            del self.held[key]

    @rule(slot=slots, seconds=st.integers(0, WISH_MOST_SECONDS))
    def close(self, slot: Slot, seconds: int) -> None:
        self.limiter.close(slot, self.now + seconds)

    @rule(seconds=st.one_of(st.floats(0, 1), st.integers(1, 40)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def slots_are_conserved_and_the_hard_maximum_holds(self) -> None:
        for slot, most in self.most.items():
            model = sum(held is slot for held, _ in self.held.values())
            assert self.limiter.slots[slot].in_flight == model <= most
            assert 1 <= self.limiter.slots[slot].limit <= most

    @invariant()
    def the_next_time_lies_ahead(self) -> None:
        assert self.limiter.opens_at(self.now) > self.now

    def teardown(self) -> None:
        """Whatever happened: give everything back, and a minute of an API that works opens all again."""
        for key, (slot, _) in self.held.items():
            self.limiter.release(slot, key, self.now)
        for slot in Slot:
            self.now += max(PROBE_MOST_SECONDS, WISH_MOST_SECONDS)
            assert self.limiter.admit(slot, "a", self.now) is None
            for asked in self.shut(slot) or [slot]:
                self.limiter.hear(asked, slot, "a", Result.SERVED, begun=self.now, now=self.now, keys=12)
            self.limiter.release(slot, "a", self.now)
        for slot in Slot:
            assert not self.limiter.probing(slot)
            assert self.limiter.admit(slot, slot, self.now) is None


TestLimiter = LimiterMachine.TestCase
TestLimiter.settings = settings(max_examples=300, stateful_step_count=60)
