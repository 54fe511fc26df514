"""Concurrency limits in any order of events: slots are conserved, limits hold, and admission goes on."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from allocsync.model.times import LONG_AGO, Monotonic
from allocsync.reconcile.operation import Operation
from allocsync.reconcile.scheduling.circuit_breaker import (
    PROBE_FIRST_SECONDS,
    PROBE_JITTER,
    PROBE_MAX_SECONDS,
)
from allocsync.reconcile.scheduling.concurrency import SLOW_MIN_SECONDS, ConcurrencyLimits
from allocsync.reconcile.scheduling.response_class import ResponseClass
from tests.support.tier import part_of

KEYS = tuple("abcdefghijkl")
operations = st.sampled_from(Operation)
RETRY_AFTER_MAX_SECONDS = 20


class ConcurrencyMachine(RuleBasedStateMachine):
    """A model of which key has which slot since when, and of the time of each breaker's latest probe."""

    def __init__(self) -> None:
        super().__init__()
        self.maximums = {Operation.READ: 3, Operation.WRITE: 2}
        self.concurrency: ConcurrencyLimits[str] = ConcurrencyLimits(self.maximums)
        self.now = Monotonic(0.0)
        self.slots: dict[str, tuple[Operation, Monotonic]] = {}
        self.probed_at = dict.fromkeys(Operation, LONG_AGO)

    def counted(self, operation: Operation) -> int:
        """How many requests count against the limit; the others have been in flight for long enough."""
        slow = self.concurrency.limits[operation].slow
        assert all(self.now - self.slots[key][1] >= SLOW_MIN_SECONDS for key in slow)
        return sum(taken is operation for taken, _ in self.slots.values()) - len(slow)

    def open_breakers(self, operation: Operation) -> list[Operation]:
        requested = [Operation.READ] if operation is Operation.READ else list(Operation)
        return [each for each in requested if self.concurrency.limits[each].breaker.open]

    @rule(operation=operations, key=st.sampled_from(KEYS), failures=st.integers(0, 4), chance=st.floats(0, 1))
    def admit(self, operation: Operation, key: str, failures: int, chance: float) -> None:
        if key in self.slots:
            return
        probed = self.open_breakers(operation)
        until = self.concurrency.admit(operation, key, self.now, failures=failures, chance=chance)
        if until is not None:
            assert until > self.now
            return
        self.slots[key] = (operation, self.now)
        if not probed:
            assert self.counted(operation) <= self.concurrency.limits[operation].limit
        for each in probed:
            assert self.now - self.probed_at[each] >= PROBE_FIRST_SECONDS * (1 - PROBE_JITTER)
            self.probed_at[each] = self.now

    @precondition(lambda self: any(operation is Operation.READ for operation, _ in self.slots.values()))
    @rule(data=st.data())
    def promote(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(k for k, (s, _) in self.slots.items() if s is Operation.READ)))
        is_probing = self.concurrency.is_probing(Operation.WRITE)
        if self.concurrency.promote(key, self.now):
            assert not is_probing
            self.slots[key] = (Operation.WRITE, self.now)

    @precondition(lambda self: self.slots)
    @rule(data=st.data(), response_class=st.sampled_from(ResponseClass), ends=st.booleans())
    def record_response(self, data: st.DataObject, response_class: ResponseClass, *, ends: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.slots)))
        admitted_for, began = self.slots[key]
        requested = data.draw(st.sampled_from([Operation.READ, admitted_for]))
        was_open = self.concurrency.limits[requested].breaker.open
        effect = self.concurrency.record_response(
            requested, admitted_for, key, response_class, begun=began, now=self.now, key_count=len(KEYS)
        )
        breaker = self.concurrency.limits[requested].breaker
        assert effect.breaker_changed is (breaker.open is not was_open)
        assert not (response_class is ResponseClass.SERVED and breaker.open)
        if breaker.open and not was_open:
            self.probed_at[requested] = self.now
        if ends:
            self.concurrency.release(admitted_for, key, self.now)
            del self.slots[key]

    @rule(operation=operations, seconds=st.integers(0, RETRY_AFTER_MAX_SECONDS))
    def block(self, operation: Operation, seconds: int) -> None:
        self.concurrency.block_until(operation, self.now + seconds)

    @rule(seconds=st.one_of(st.floats(0, 1), st.integers(1, 40)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def slots_are_conserved_and_the_hard_maximum_holds(self) -> None:
        for operation, maximum in self.maximums.items():
            model = sum(taken is operation for taken, _ in self.slots.values())
            assert self.concurrency.limits[operation].in_flight == model <= maximum
            assert 1 <= self.concurrency.limits[operation].limit <= maximum

    @invariant()
    def the_next_time_lies_ahead(self) -> None:
        assert self.concurrency.next_admission_at(self.now) > self.now

    def teardown(self) -> None:
        """Release all slots: within a minute of a working API, everything is admitted again."""
        for key, (operation, _) in self.slots.items():
            self.concurrency.release(operation, key, self.now)
        for operation in Operation:
            self.now += max(PROBE_MAX_SECONDS, RETRY_AFTER_MAX_SECONDS)
            assert self.concurrency.admit(operation, "a", self.now) is None
            for requested in self.open_breakers(operation) or [operation]:
                self.concurrency.record_response(
                    requested,
                    operation,
                    "a",
                    ResponseClass.SERVED,
                    begun=self.now,
                    now=self.now,
                    key_count=12,
                )
            self.concurrency.release(operation, "a", self.now)
        for operation in Operation:
            assert not self.concurrency.is_probing(operation)
            assert self.concurrency.admit(operation, operation, self.now) is None


TestConcurrencyLimits = ConcurrencyMachine.TestCase
TestConcurrencyLimits.settings = settings(max_examples=part_of(300), stateful_step_count=60)
