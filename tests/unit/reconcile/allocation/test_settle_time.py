"""The settle time: what lengthens it, and what only resembles a late application."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.model.times import Monotonic
from allocsync.reconcile.allocation.settle_time import MIN_FIRST_OUTCOMES, SettleTime
from allocsync.reconcile.parameters import Parameters

RULES = Parameters()
FAR = 1e9


def learn_from_timeouts(
    settle_time: SettleTime, random_source: random.Random, number: int, lag_seconds: float
) -> int:
    """This many updates end with 504, and half of them are applied, `lag_seconds` later at most.

    Those that are not seen to be applied are retried. Returns how many retries it took until a lag was
    learned; 0 if none was.
    """

    def applied_after() -> float:
        return random_source.uniform(0.1, 1.0) * lag_seconds if random_source.random() < 0.5 else FAR

    first = [applied_after() for _ in range(number)]
    for at in first:
        settle_time.count_outcome(is_retry=False, applied=at <= 10)
    for count, at in enumerate([at for at in first if at > 10], start=1):
        applied = at <= 20 or applied_after() <= 10
        if applied:
            settle_time.learn_lag(20.0, certain=False)
        if settle_time.lag_seconds:
            return count
        settle_time.count_outcome(is_retry=True, applied=applied)
    return 0


@pytest.mark.parametrize("number", [300, 5000])
def test_retries_that_are_applied_at_once_rarely_lengthen_the_settle_time(number: int) -> None:
    learned = sum(
        learn_from_timeouts(SettleTime(RULES), random.Random(seed), number, 0.0) > 0 for seed in range(100)
    )
    assert learned <= 8, "timeouts without a late application lengthened the settle time"


@pytest.mark.parametrize("number", [300, 5000])
def test_late_applications_are_learned_after_a_few_retries(number: int) -> None:
    took = [learn_from_timeouts(SettleTime(RULES), random.Random(seed), number, 20.0) for seed in range(100)]
    assert all(took)
    assert sorted(took)[50] < 60


def test_while_few_outcomes_are_known_one_ambiguous_detection_counts() -> None:
    settle_time = SettleTime(RULES)
    for _ in range(MIN_FIRST_OUTCOMES - 1):
        settle_time.count_outcome(is_retry=False, applied=True)
    settle_time.learn_lag(20.0, certain=False)
    assert settle_time.seconds(Monotonic(0.0)) == 40.0


def test_a_certain_lag_always_counts_and_a_smaller_one_never_shortens_the_settle_time() -> None:
    settle_time = SettleTime(RULES)
    for _ in range(MIN_FIRST_OUTCOMES):
        settle_time.count_outcome(is_retry=False, applied=True)
    settle_time.learn_lag(20.0, certain=False)
    assert settle_time.seconds(Monotonic(0.0)) == RULES.settle_seconds
    settle_time.learn_lag(20.0, certain=True)
    settle_time.learn_lag(15.0, certain=True)
    settle_time.learn_lag(80.0, certain=False)
    assert settle_time.seconds(Monotonic(0.0)) == 40.0


@given(
    st.lists(st.tuples(st.booleans(), st.booleans())),
    st.lists(st.tuples(st.floats(0, 1e6), st.booleans())),
    st.lists(st.floats(0, 1e6)),
)
def test_the_settle_time_stays_within_its_limits_and_a_lag_never_shortens_it(
    tries: list[tuple[bool, bool]], lags: list[tuple[float, bool]], took: list[float]
) -> None:
    settle_time = SettleTime(RULES)
    for again, applied in tries:
        settle_time.count_outcome(is_retry=again, applied=applied)
    for seconds in took:
        settle_time.record_unknown(seconds, Monotonic(0.0))
    for seconds, certain in lags:
        before = settle_time.seconds(Monotonic(0.0))
        settle_time.learn_lag(seconds, certain=certain)
        assert before <= settle_time.seconds(Monotonic(0.0)) <= RULES.settle_max_seconds
