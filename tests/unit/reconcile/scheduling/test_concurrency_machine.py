"""The limiter in any order of events: slots are conserved, no limit is exceeded, and it is never stuck."""

from math import inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from allocsync.reconcile.operation import Operation
from allocsync.reconcile.scheduling.circuit_breaker import (
    PROBE_FIRST_SECONDS,
    PROBE_JITTER,
    PROBE_MOST_SECONDS,
)
from allocsync.reconcile.scheduling.concurrency import SLOW_LEAST_SECONDS, ConcurrencyLimits
from allocsync.reconcile.scheduling.response_class import ResponseClass
from tests.support.tier import part_of

KEYS = tuple("abcdefghijkl")
limits = st.sampled_from(Operation)
WISH_MOST_SECONDS = 20


class LimiterMachine(RuleBasedStateMachine):
    """A model that knows who holds what since when, and when each breaker last let a probe through."""

    def __init__(self) -> None:
        super().__init__()
        self.most = {Operation.READ: 3, Operation.WRITE: 2}
        self.limiter: ConcurrencyLimits[str] = ConcurrencyLimits(self.most)
        self.now = 0.0
        self.held: dict[str, tuple[Operation, float]] = {}
        self.probed_at = dict.fromkeys(Operation, -inf)

    def fresh(self, operation: Operation) -> int:
        """How many count; whoever does not is old enough."""
        slow = self.limiter.limits[operation].slow
        assert all(self.now - self.held[key][1] >= SLOW_LEAST_SECONDS for key in slow)
        return sum(held is operation for held, _ in self.held.values()) - len(slow)

    def shut(self, operation: Operation) -> list[Operation]:
        asked = [Operation.READ] if operation is Operation.READ else list(Operation)
        return [each for each in asked if self.limiter.limits[each].breaker.open]

    @rule(operation=limits, key=st.sampled_from(KEYS), failures=st.integers(0, 4), chance=st.floats(0, 1))
    def admit(self, operation: Operation, key: str, failures: int, chance: float) -> None:
        if key in self.held:
            return
        shut = self.shut(operation)
        until = self.limiter.admit(operation, key, self.now, failures=failures, chance=chance)
        if until is not None:
            assert until > self.now
            return
        self.held[key] = (operation, self.now)
        if not shut:
            assert self.fresh(operation) <= self.limiter.limits[operation].limit
        for each in shut:
            assert self.now - self.probed_at[each] >= PROBE_FIRST_SECONDS * (1 - PROBE_JITTER)
            self.probed_at[each] = self.now

    @precondition(lambda self: any(operation is Operation.READ for operation, _ in self.held.values()))
    @rule(data=st.data())
    def promote(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(k for k, (s, _) in self.held.items() if s is Operation.READ)))
        probing = self.limiter.probing(Operation.WRITE)
        if self.limiter.promote(key, self.now):
            assert not probing
            self.held[key] = (Operation.WRITE, self.now)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), result=st.sampled_from(ResponseClass), ends=st.booleans())
    def record_response(self, data: st.DataObject, result: ResponseClass, *, ends: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        held, began = self.held[key]
        asked = data.draw(st.sampled_from([Operation.READ, held]))
        was_open = self.limiter.limits[asked].breaker.open
        heard = self.limiter.record_response(
            asked, held, key, result, begun=began, now=self.now, keys=len(KEYS)
        )
        breaker = self.limiter.limits[asked].breaker
        assert heard.turned is (breaker.open is not was_open)
        assert not (result is ResponseClass.SERVED and breaker.open)
        if breaker.open and not was_open:
            self.probed_at[asked] = self.now
        if ends:
            self.limiter.release(held, key, self.now)
            del self.held[key]

    @rule(operation=limits, seconds=st.integers(0, WISH_MOST_SECONDS))
    def close(self, operation: Operation, seconds: int) -> None:
        self.limiter.close(operation, self.now + seconds)

    @rule(seconds=st.one_of(st.floats(0, 1), st.integers(1, 40)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def slots_are_conserved_and_the_hard_maximum_holds(self) -> None:
        for operation, most in self.most.items():
            model = sum(held is operation for held, _ in self.held.values())
            assert self.limiter.limits[operation].in_flight == model <= most
            assert 1 <= self.limiter.limits[operation].limit <= most

    @invariant()
    def the_next_time_lies_ahead(self) -> None:
        assert self.limiter.opens_at(self.now) > self.now

    def teardown(self) -> None:
        """Whatever happened: give everything back, and a minute of an API that works opens all again."""
        for key, (operation, _) in self.held.items():
            self.limiter.release(operation, key, self.now)
        for operation in Operation:
            self.now += max(PROBE_MOST_SECONDS, WISH_MOST_SECONDS)
            assert self.limiter.admit(operation, "a", self.now) is None
            for asked in self.shut(operation) or [operation]:
                self.limiter.record_response(
                    asked, operation, "a", ResponseClass.SERVED, begun=self.now, now=self.now, keys=12
                )
            self.limiter.release(operation, "a", self.now)
        for operation in Operation:
            assert not self.limiter.probing(operation)
            assert self.limiter.admit(operation, operation, self.now) is None


TestLimiter = LimiterMachine.TestCase
TestLimiter.settings = settings(max_examples=part_of(300), stateful_step_count=60)
