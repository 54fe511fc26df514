"""The limiter: how limits grow and shrink, what is slow, and what is an error."""

import itertools
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.reconcile.operation import Operation
from allocsync.reconcile.scheduling.concurrency import (
    FLOOR,
    MOST,
    SLOW_AT_FIRST_SECONDS,
    SLOW_LEAST_SECONDS,
    SLOW_SECONDS,
    START,
    ConcurrencyLimits,
)
from allocsync.reconcile.scheduling.response_class import ResponseClass

limits = st.sampled_from(Operation)


def limiter(read: int = 64, write: int = 32) -> ConcurrencyLimits[str]:
    return ConcurrencyLimits({Operation.READ: read, Operation.WRITE: write})


class Load:
    """Keeps one kind of slot full and answers all of it together, a round trip at a time."""

    def __init__(self, operation: Operation = Operation.READ) -> None:
        self.limiter = limiter()
        self.operation = operation
        self.now = 0.0
        self.sent = 0

    @property
    def limit(self) -> int:
        return int(self.limiter.limits[self.operation].limit)

    def round_trip(self, failing: float = 0.0, *, seconds: float = 0.02) -> int:
        """Returns how many went; the first of them fail, as many as this share says."""
        keys = []
        while self.limiter.admit(self.operation, str(self.sent), self.now) is None:
            keys.append(str(self.sent))
            self.sent += 1
        begun, self.now = self.now, self.now + seconds
        for number, key in enumerate(keys):
            result = ResponseClass.OVERLOADED if number < failing * len(keys) else ResponseClass.SERVED
            self.limiter.record_response(
                self.operation, self.operation, key, result, begun=begun, now=self.now, keys=10_000
            )
        for key in keys:
            self.limiter.release(self.operation, key, self.now)
        return len(keys)


@pytest.mark.parametrize("operation", Operation)
def test_a_limit_doubles_each_round_trip_up_to_the_hard_maximum(operation: Operation) -> None:
    load = Load(operation)
    went = [load.round_trip() for _ in range(6)]
    start, most = START[operation], MOST[operation]
    assert went == [min(start * 2**n, most) for n in range(6)]


def test_after_the_first_decrease_it_grows_by_one_each_round_trip() -> None:
    load = Load()
    for _ in range(4):
        load.round_trip()
    load.now += 1
    load.round_trip(0.5)
    load.now += 1  # the window is over with the next result
    load.limiter.record_response(
        Operation.READ, Operation.READ, "a", ResponseClass.OVERLOADED, begun=0.0, now=load.now, keys=9
    )
    shrunk = load.limit
    assert shrunk == pytest.approx(48, abs=2)  # by half of the half that failed
    assert [load.round_trip() for _ in range(4)] == pytest.approx([shrunk + n for n in range(4)], abs=1)


def test_a_tenth_that_fails_does_not_shrink_it_and_more_does_once_a_window() -> None:
    idle = limiter()
    for number in range(2000):  # not in use: it cannot grow either
        result = ResponseClass.SERVED if number % 12 else ResponseClass.OVERLOADED
        now = number / 100
        idle.record_response(Operation.READ, Operation.READ, str(number), result, begun=now, now=now, keys=9)
    assert idle.limits[Operation.READ].limit == START[Operation.READ]
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
def test_while_anything_succeeds_it_stays_above_its_floor(operation: Operation) -> None:
    load = Load(operation)
    for _ in range(100):
        load.round_trip(0.75, seconds=1.0)
    assert load.limit == pytest.approx(FLOOR[operation], abs=2)
    assert load.limit >= FLOOR[operation]


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    reads = limiter()
    for number in range(200):
        assert reads.admit(Operation.READ, "a", number / 10) is None
        reads.record_response(
            Operation.READ,
            Operation.READ,
            "a",
            ResponseClass.SERVED,
            begun=number / 10,
            now=number / 10 + 0.02,
            keys=9,
        )
        reads.release(Operation.READ, "a", number / 10)
    assert reads.limits[Operation.READ].limit == START[Operation.READ]


def test_slow_successes_stop_growth_and_slower_ones_shrink_it() -> None:
    load = Load()
    load.round_trip(seconds=0.02)
    grown = load.limit
    for _ in range(50):
        load.round_trip(seconds=0.08)
    assert load.limit == grown
    for _ in range(50):
        load.round_trip(seconds=0.5)
    assert load.limit < grown / 2


def test_what_is_the_quickest_is_forgotten_slowly() -> None:
    load = Load()
    load.round_trip(seconds=0.02)
    for _ in range(8000):
        load.round_trip(seconds=0.2)
    assert load.limit == 64


def test_a_slow_request_frees_its_place_but_not_below_the_hard_maximum() -> None:
    reads = limiter(read=12)
    names = iter(map(str, range(100)))
    for _ in range(START[Operation.READ]):
        assert reads.admit(Operation.READ, next(names), 0.0) is None
    assert reads.admit(Operation.READ, next(names), 1.9) == inf
    assert reads.opens_at(1.9) == SLOW_AT_FIRST_SECONDS
    went = sum(reads.admit(Operation.READ, next(names), 2.0) is None for _ in range(20))
    assert went == 12 - START[Operation.READ]
    assert len(reads.limits[Operation.READ].slow) == START[Operation.READ]
    reads.release(Operation.READ, "0", 2.0)
    assert reads.admit(Operation.READ, next(names), 2.0) is None


@pytest.mark.parametrize(
    ("usual", "slow"), [(0.001, SLOW_LEAST_SECONDS), (0.3, 3.0), (0.8, SLOW_SECONDS), (4.0, SLOW_SECONDS)]
)
def test_what_is_slow_depends_on_what_is_usual(usual: float, slow: float) -> None:
    load = Load()
    load.round_trip(seconds=usual)
    assert load.limiter.admit(Operation.READ, "hangs", load.now) is None
    assert load.limiter.opens_at(load.now) == pytest.approx(load.now + slow)


def test_a_full_kind_of_slot_does_not_hold_the_other_up() -> None:
    both = limiter(1, 1)
    assert both.admit(Operation.WRITE, "a", 0.0) is None
    assert both.admit(Operation.WRITE, "b", 0.0) == inf
    assert both.admit(Operation.READ, "b", 0.0) is None


def test_gets_that_fail_in_write_slots_shrink_both_limits_and_shut_the_reads_only() -> None:
    load = Load(Operation.WRITE)
    load.round_trip()
    both = load.limiter
    assert load.limit > FLOOR[Operation.WRITE]
    for number in range(40):
        now = 1 + number / 2
        both.record_response(
            Operation.READ,
            Operation.WRITE,
            str(number),
            ResponseClass.OVERLOADED,
            begun=now,
            now=now + 0.1,
            keys=100,
        )
    assert both.limits[Operation.READ].breaker.open
    assert not both.limits[Operation.WRITE].breaker.open
    assert both.limits[Operation.WRITE].limit == FLOOR[Operation.WRITE]
    assert both.probing(Operation.WRITE)  # an update begins with a GET


def test_closed_slots_admit_nothing_before_their_time() -> None:
    both = limiter(1, 1)
    both.close(Operation.WRITE, 30.0)
    both.close(Operation.WRITE, 20.0)
    assert both.admit(Operation.WRITE, "a", 29.9) == 30.0
    assert both.opens_at(29.9) == 30.0
    assert both.limits[Operation.WRITE].in_flight == 0
    assert both.admit(Operation.READ, "b", 29.9) is None
    assert both.admit(Operation.WRITE, "a", 30.0) is None


@given(st.integers(1, 100), limits)
def test_the_setting_is_the_hard_maximum_of_the_start_too(most: int, operation: Operation) -> None:
    both = limiter(most, most)
    went = sum(both.admit(operation, str(number), 0.0) is None for number in range(200))
    assert went == min(most, START[operation])


def test_a_limit_below_one_a_slot_never_taken_and_one_taken_twice_are_errors() -> None:
    with pytest.raises(ValueError, match="below one"):
        limiter(0, 1)
    with pytest.raises(KeyError):
        limiter().release(Operation.READ, "a", 0.0)
    twice = limiter()
    twice.admit(Operation.READ, "a", 0.0)
    with pytest.raises(ValueError, match="already"):
        twice.admit(Operation.READ, "a", 0.0)
