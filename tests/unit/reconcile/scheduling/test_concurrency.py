"""Concurrency limits: how they grow and shrink, which requests are slow, and what raises an error."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.model.times import NEVER, Monotonic
from allocsync.reconcile.operation import Operation
from allocsync.reconcile.scheduling.concurrency import (
    INITIAL_LIMIT,
    MAX_LIMIT,
    MIN_LIMIT,
    SLOW_INITIAL_SECONDS,
    SLOW_MAX_SECONDS,
    SLOW_MIN_SECONDS,
    ConcurrencyLimits,
)
from allocsync.reconcile.scheduling.response_class import ResponseClass

operations = st.sampled_from(Operation)


def new_limits(read: int = 64, write: int = 32) -> ConcurrencyLimits[str]:
    return ConcurrencyLimits({Operation.READ: read, Operation.WRITE: write})


class Load:
    """Fills all slots of one operation and answers all requests together, one round trip at a time."""

    def __init__(self, operation: Operation = Operation.READ) -> None:
        self.concurrency = new_limits()
        self.operation = operation
        self.now = Monotonic(0.0)
        self.sent = 0

    @property
    def limit(self) -> int:
        return int(self.concurrency.limits[self.operation].limit)

    def round_trip(self, failure_share: float = 0.0, *, seconds: float = 0.02) -> int:
        """One round trip in which this share of requests fails; returns how many were sent."""
        keys = []
        while self.concurrency.admit(self.operation, str(self.sent), self.now) is None:
            keys.append(str(self.sent))
            self.sent += 1
        begun, self.now = self.now, self.now + seconds
        for number, key in enumerate(keys):
            response_class = (
                ResponseClass.OVERLOADED if number < failure_share * len(keys) else ResponseClass.SERVED
            )
            self.concurrency.record_response(
                self.operation,
                self.operation,
                key,
                response_class,
                begun=begun,
                now=self.now,
                key_count=10_000,
            )
        for key in keys:
            self.concurrency.release(self.operation, key, self.now)
        return len(keys)


@pytest.mark.parametrize("operation", Operation)
def test_a_limit_doubles_each_round_trip_up_to_the_hard_maximum(operation: Operation) -> None:
    load = Load(operation)
    admitted = [load.round_trip() for _ in range(6)]
    initial, maximum = INITIAL_LIMIT[operation], MAX_LIMIT[operation]
    assert admitted == [min(initial * 2**n, maximum) for n in range(6)]


def test_after_the_first_decrease_it_grows_by_one_each_round_trip() -> None:
    load = Load()
    for _ in range(4):
        load.round_trip()
    load.now += 1
    load.round_trip(0.5)
    load.now += 1  # the next result ends the window
    load.concurrency.record_response(
        Operation.READ,
        Operation.READ,
        "a",
        ResponseClass.OVERLOADED,
        begun=Monotonic(0.0),
        now=load.now,
        key_count=9,
    )
    shrunk = load.limit
    assert shrunk == pytest.approx(48, abs=2)  # by half of the half that failed
    assert [load.round_trip() for _ in range(4)] == pytest.approx([shrunk + n for n in range(4)], abs=1)


def test_a_limit_tolerates_a_tenth_of_failures_and_shrinks_once_a_window_for_more() -> None:
    idle = new_limits()
    for number in range(2000):  # no slot is in use, so the limit cannot grow either
        response_class = ResponseClass.SERVED if number % 12 else ResponseClass.OVERLOADED
        now = number / 100
        idle.record_response(
            Operation.READ,
            Operation.READ,
            str(number),
            response_class,
            begun=Monotonic(now),
            now=Monotonic(now),
            key_count=9,
        )
    assert idle.limits[Operation.READ].limit == INITIAL_LIMIT[Operation.READ]
    load = Load()
    for _ in range(4):
        load.round_trip()
    assert load.limit == 64
    limits = []
    for _ in range(24):  # about half a second
        load.round_trip(0.5)
        limits.append(load.limit)
    assert sum(after < before for before, after in itertools.pairwise(limits)) == 1


@pytest.mark.parametrize("operation", Operation)
def test_while_any_request_succeeds_a_limit_keeps_its_minimum(operation: Operation) -> None:
    load = Load(operation)
    for _ in range(100):
        load.round_trip(0.75, seconds=1.0)
    assert load.limit == pytest.approx(MIN_LIMIT[operation], abs=2)
    assert load.limit >= MIN_LIMIT[operation]


def test_a_limit_that_is_not_in_use_does_not_grow() -> None:
    reads = new_limits()
    for number in range(200):
        assert reads.admit(Operation.READ, "a", Monotonic(number / 10)) is None
        reads.record_response(
            Operation.READ,
            Operation.READ,
            "a",
            ResponseClass.SERVED,
            begun=Monotonic(number / 10),
            now=Monotonic(number / 10 + 0.02),
            key_count=9,
        )
        reads.release(Operation.READ, "a", Monotonic(number / 10))
    assert reads.limits[Operation.READ].limit == INITIAL_LIMIT[Operation.READ]


def test_slow_successes_stop_growth_and_slower_ones_shrink_the_limit() -> None:
    load = Load()
    load.round_trip(seconds=0.02)
    grown = load.limit
    for _ in range(50):
        load.round_trip(seconds=0.08)
    assert load.limit == grown
    for _ in range(50):
        load.round_trip(seconds=0.5)
    assert load.limit < grown / 2


def test_the_smallest_latency_is_forgotten_slowly() -> None:
    load = Load()
    load.round_trip(seconds=0.02)
    for _ in range(8000):
        load.round_trip(seconds=0.2)
    assert load.limit == 64


def test_a_slow_request_frees_its_slot_but_counts_against_the_hard_maximum() -> None:
    reads = new_limits(read=12)
    names = iter(map(str, range(100)))
    for _ in range(INITIAL_LIMIT[Operation.READ]):
        assert reads.admit(Operation.READ, next(names), Monotonic(0.0)) is None
    assert reads.admit(Operation.READ, next(names), Monotonic(1.9)) == NEVER
    assert reads.next_admission_at(Monotonic(1.9)) == Monotonic(SLOW_INITIAL_SECONDS)
    admitted = sum(reads.admit(Operation.READ, next(names), Monotonic(2.0)) is None for _ in range(20))
    assert admitted == 12 - INITIAL_LIMIT[Operation.READ]
    assert len(reads.limits[Operation.READ].slow) == INITIAL_LIMIT[Operation.READ]
    reads.release(Operation.READ, "0", Monotonic(2.0))
    assert reads.admit(Operation.READ, next(names), Monotonic(2.0)) is None


@pytest.mark.parametrize(
    ("usual_seconds", "slow_after_seconds"),
    [(0.001, SLOW_MIN_SECONDS), (0.3, 3.0), (0.8, SLOW_MAX_SECONDS), (4.0, SLOW_MAX_SECONDS)],
)
def test_when_a_request_is_slow_depends_on_the_usual_latency(
    usual_seconds: float, slow_after_seconds: float
) -> None:
    load = Load()
    load.round_trip(seconds=usual_seconds)
    assert load.concurrency.admit(Operation.READ, "hangs", load.now) is None
    assert load.concurrency.next_admission_at(load.now) == pytest.approx(load.now + slow_after_seconds)


def test_full_write_slots_do_not_delay_reads() -> None:
    both = new_limits(1, 1)
    assert both.admit(Operation.WRITE, "a", Monotonic(0.0)) is None
    assert both.admit(Operation.WRITE, "b", Monotonic(0.0)) == NEVER
    assert both.admit(Operation.READ, "b", Monotonic(0.0)) is None


def test_failing_gets_in_write_slots_shrink_both_limits_and_open_the_breaker_of_reads_only() -> None:
    load = Load(Operation.WRITE)
    load.round_trip()
    both = load.concurrency
    assert load.limit > MIN_LIMIT[Operation.WRITE]
    for number in range(40):
        now = 1 + number / 2
        both.record_response(
            Operation.READ,
            Operation.WRITE,
            str(number),
            ResponseClass.OVERLOADED,
            begun=Monotonic(now),
            now=Monotonic(now + 0.1),
            key_count=100,
        )
    assert both.limits[Operation.READ].breaker.open
    assert not both.limits[Operation.WRITE].breaker.open
    assert both.limits[Operation.WRITE].limit == MIN_LIMIT[Operation.WRITE]
    assert both.is_probing(Operation.WRITE)  # an update begins with a GET


def test_a_blocked_operation_admits_nothing_before_the_given_time() -> None:
    both = new_limits(1, 1)
    both.block_until(Operation.WRITE, Monotonic(30.0))
    both.block_until(Operation.WRITE, Monotonic(20.0))
    assert both.admit(Operation.WRITE, "a", Monotonic(29.9)) == Monotonic(30.0)
    assert both.next_admission_at(Monotonic(29.9)) == Monotonic(30.0)
    assert both.limits[Operation.WRITE].in_flight == 0
    assert both.admit(Operation.READ, "b", Monotonic(29.9)) is None
    assert both.admit(Operation.WRITE, "a", Monotonic(30.0)) is None


@given(st.integers(1, 100), operations)
def test_the_initial_limit_is_at_most_the_hard_maximum(maximum: int, operation: Operation) -> None:
    both = new_limits(maximum, maximum)
    admitted = sum(both.admit(operation, str(number), Monotonic(0.0)) is None for number in range(200))
    assert admitted == min(maximum, INITIAL_LIMIT[operation])


def test_a_maximum_below_one_and_slots_released_or_taken_twice_are_errors() -> None:
    with pytest.raises(ValueError, match="below one"):
        new_limits(0, 1)
    with pytest.raises(KeyError):
        new_limits().release(Operation.READ, "a", Monotonic(0.0))
    twice = new_limits()
    twice.admit(Operation.READ, "a", Monotonic(0.0))
    with pytest.raises(ValueError, match="already"):
        twice.admit(Operation.READ, "a", Monotonic(0.0))
