"""S, the settle time: what teaches it, and what only looks like a late landing."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.reconcile.allocation.settle_time import MIN_FIRST_OUTCOMES, SettleTime
from allocsync.reconcile.parameters import Parameters

RULES = Parameters()
FAR = 1e9


def storm(settle_time: SettleTime, chance: random.Random, number: int, lag_seconds: float) -> int:
    """So many updates end with 504, half of them carried out so late at the most; then those left, again.

    Returns how many second tries it took until a lag was learned, 0 for never.
    """

    def lands() -> float:
        return chance.uniform(0.1, 1.0) * lag_seconds if chance.random() < 0.5 else FAR

    first = [lands() for _ in range(number)]
    for at in first:
        settle_time.count_outcome(is_retry=False, applied=at <= 10)
    for count, at in enumerate([at for at in first if at > 10], start=1):
        applied = at <= 20 or lands() <= 10
        if applied:
            settle_time.learn_lag(20.0, certain=False)
        if settle_time.lag_seconds:
            return count
        settle_time.count_outcome(is_retry=True, applied=applied)
    return 0


@pytest.mark.parametrize("number", [300, 5000])
def test_second_tries_that_are_carried_out_at_once_rarely_look_late(number: int) -> None:
    learned = sum(storm(SettleTime(RULES), random.Random(seed), number, 0.0) > 0 for seed in range(100))
    assert learned <= 8, "a storm without a single late landing made everybody wait four times as long"


@pytest.mark.parametrize("number", [300, 5000])
def test_landings_that_are_late_are_learned_after_a_few(number: int) -> None:
    took = [storm(SettleTime(RULES), random.Random(seed), number, 20.0) for seed in range(100)]
    assert all(took)
    assert sorted(took)[50] < 60


def test_while_little_is_known_one_landing_is_enough() -> None:
    settle_time = SettleTime(RULES)
    for _ in range(MIN_FIRST_OUTCOMES - 1):
        settle_time.count_outcome(is_retry=False, applied=True)
    settle_time.learn_lag(20.0, certain=False)
    assert settle_time.seconds(0.0) == 40.0


def test_a_landing_that_can_be_nothing_else_is_always_believed_and_never_less_than_before() -> None:
    settle_time = SettleTime(RULES)
    for _ in range(MIN_FIRST_OUTCOMES):
        settle_time.count_outcome(is_retry=False, applied=True)
    settle_time.learn_lag(20.0, certain=False)
    assert settle_time.seconds(0.0) == RULES.settle_seconds
    settle_time.learn_lag(20.0, certain=True)
    settle_time.learn_lag(15.0, certain=True)
    settle_time.learn_lag(80.0, certain=False)
    assert settle_time.seconds(0.0) == 40.0


@given(
    st.lists(st.tuples(st.booleans(), st.booleans())),
    st.lists(st.tuples(st.floats(0, 1e6), st.booleans())),
    st.lists(st.floats(0, 1e6)),
)
def test_it_stays_within_its_bounds_whatever_is_seen(
    tries: list[tuple[bool, bool]], lags: list[tuple[float, bool]], took: list[float]
) -> None:
    settle_time = SettleTime(RULES)
    for again, applied in tries:
        settle_time.count_outcome(is_retry=again, applied=applied)
    for seconds in took:
        settle_time.record_unknown(seconds, 0.0)
    for seconds, certain in lags:
        before = settle_time.seconds(0.0)
        settle_time.learn_lag(seconds, certain=certain)
        assert before <= settle_time.seconds(0.0) <= RULES.settle_max_seconds
