"""The breaker and what it hears: when the API serves nobody, who is forgiven, and how it is asked again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.model.api_answers import (
    Accepted,
    Failed,
    Live,
    Missing,
    NotSent,
    OutcomeUnknown,
    Rejected,
    Snapshot,
    UpdateAnswer,
)
from allocsync.reconcile.scheduling.circuit_breaker import (
    FAILURES,
    KEYS,
    PROBE_FIRST_SECONDS,
    PROBE_JITTER,
    PROBE_MOST_SECONDS,
    SILENT_SECONDS,
    CircuitBreaker,
)
from allocsync.reconcile.scheduling.response_class import ResponseClass, class_of


def opened(keys: int = 100) -> CircuitBreaker[int]:
    breaker: CircuitBreaker[int] = CircuitBreaker()
    for number in range(FAILURES):
        breaker.failed(number % keys, ResponseClass.SHUT, begun=0.0, now=0.0, keys=keys)
    assert breaker.open
    return breaker


def fail(breaker: CircuitBreaker[int], *, keys: int, every: float, many: int = 40) -> float | None:
    """One failure after another; returns when it opened."""
    for number in range(many):
        now = number * every
        breaker.failed(number % keys, ResponseClass.OVERLOADED, begun=now, now=now, keys=10_000)
        if breaker.open:
            return now
    return None


def test_it_opens_when_nothing_has_succeeded_for_long_and_many_failed() -> None:
    assert fail(CircuitBreaker(), keys=5, every=0.5) == SILENT_SECONDS
    assert fail(CircuitBreaker(), keys=5, every=2) == 2 * (FAILURES - 1)


def test_a_burst_and_a_few_that_keep_failing_do_not_open_it() -> None:
    assert fail(CircuitBreaker(), keys=100, every=0.01, many=900) is None
    assert fail(CircuitBreaker(), keys=KEYS - 1, every=10) is None


def test_one_success_now_and_then_keeps_it_closed() -> None:
    breaker: CircuitBreaker[int] = CircuitBreaker()
    for number in range(1000):
        breaker.failed(number, ResponseClass.OVERLOADED, begun=number / 10, now=number / 10, keys=10_000)
        if number % 90 == 0:
            assert not breaker.served(number / 10)
        assert not breaker.open


@pytest.mark.parametrize("result", [ResponseClass.OVERLOADED, ResponseClass.SHUT])
def test_where_most_fail_it_takes_as_many_more_to_open_it(result: ResponseClass) -> None:
    breaker: CircuitBreaker[int] = CircuitBreaker()

    def fail_until(number: int, end: int) -> None:
        for each in range(number, end):
            breaker.failed(each, result, begun=float(each), now=float(each), keys=10_000)

    for number in range(0, 500, 10):  # nine of ten
        fail_until(number, number + 9)
        assert not breaker.served(number + 9.0)
    fail_until(500, 570)
    as_usual = breaker.open
    fail_until(570, 600)
    assert (as_usual, breaker.open) == (False, True)
    for now in range(700, 740):
        breaker.served(float(now))
    fail_until(800, 801 + FAILURES)
    assert breaker.opened_at in {800 + FAILURES - 1, 800 + FAILURES}


@pytest.mark.parametrize(("keys", "failures"), [(1, 2), (3, 6), (5, 10), (10_000, 10)])
def test_a_fault_of_the_whole_api_is_not_waited_for(keys: int, failures: int) -> None:
    breaker: CircuitBreaker[int] = CircuitBreaker()
    for number in range(failures):
        assert not breaker.open
        breaker.failed(number % keys, ResponseClass.SHUT, begun=0.0, now=0.0, keys=keys)
    assert breaker.open


def test_one_allocation_that_is_forbidden_among_many_does_not_open_it() -> None:
    breaker: CircuitBreaker[int] = CircuitBreaker()
    for now in range(100):
        breaker.failed(7, ResponseClass.SHUT, begun=now, now=now, keys=100)
    assert not breaker.open


def test_what_failed_since_the_last_success_is_forgiven_and_nothing_else() -> None:
    breaker: CircuitBreaker[int] = CircuitBreaker()
    breaker.failed(99, ResponseClass.OVERLOADED, begun=0.0, now=0.0, keys=100)
    breaker.served(1.0)
    forgiven: dict[int, int] = {}
    for number in range(2 * KEYS):
        forgiven |= breaker.failed(number % KEYS, ResponseClass.SHUT, begun=2.0, now=2.0, keys=100)
    assert forgiven == dict.fromkeys(range(KEYS), 2)
    assert breaker.failed(50, ResponseClass.OVERLOADED, begun=3.0, now=3.0, keys=100) == {50: 1}
    assert breaker.failures(50) == 1


@given(st.lists(st.floats(0, 1), min_size=8, max_size=8))
def test_probes_go_one_an_interval_that_doubles_with_jitter(chances: list[float]) -> None:
    breaker = opened()
    now = breaker.wait(0.0)
    assert now == PROBE_FIRST_SECONDS
    for number, chance in enumerate(chances):
        breaker.probe(number, now, failures=0, chance=chance)
        until = breaker.wait(now)
        assert until is not None
        interval = min(PROBE_FIRST_SECONDS * 2**number, PROBE_MOST_SECONDS)
        assert (1 - PROBE_JITTER) * interval <= until - now + 1e-6 <= interval + 1e-5
        now = until
    assert breaker.wait(now) is None
    assert breaker.served(now)
    assert breaker.wait(now) is None
    assert not breaker.served(now)


def test_probes_of_one_that_keeps_failing_do_not_make_the_next_wait_longer() -> None:
    breaker = opened()
    for now in range(1, 100):
        assert breaker.wait(now) is None
        breaker.probe(now, float(now), failures=3, chance=0.0)


@pytest.mark.parametrize("heard", [True, False])
def test_a_probe_that_ended_unheard_leaves_the_interval_as_it_was_and_the_next_may_go_soon(
    *, heard: bool
) -> None:
    breaker = opened()
    for now in (1.0, 2.0, 4.0):
        assert breaker.wait(now) is None
        breaker.probe(7, now, failures=0, chance=0.0)
        if heard or now < 4.0:
            breaker.failed(7, ResponseClass.OVERLOADED, begun=now, now=now, keys=100)
        breaker.ended(7, now)
    assert breaker.wait(4.0) == (8.0 if heard else 5.0)
    breaker.probe(7, 8.0, failures=0, chance=0.0)
    assert breaker.wait(8.0) == 8.0 + (8.0 if heard else 4.0)


def test_of_two_probes_under_way_only_the_latest_can_be_taken_for_none() -> None:
    breaker = opened()
    breaker.probe(7, 1.0, failures=0, chance=0.0)
    breaker.probe(8, 2.0, failures=0, chance=0.0)
    breaker.ended(7, 2.0)
    assert breaker.wait(2.0) == 4.0
    breaker.failed(7, ResponseClass.OVERLOADED, begun=1.0, now=2.0, keys=100)
    breaker.ended(8, 2.5)
    assert breaker.wait(2.5) == 3.5


def test_an_opening_after_another_begins_anew() -> None:
    breaker = opened()
    for _ in range(10):
        breaker.probe(0, 0.0, failures=0, chance=0.0)
    breaker.served(50.0)
    assert not breaker.open
    for number in range(FAILURES):
        breaker.failed(number, ResponseClass.SHUT, begun=60.0, now=60.0, keys=100)
    assert breaker.wait(60.0) == 60.0 + PROBE_FIRST_SECONDS
    assert breaker.probes == 0


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (Live({}), ResponseClass.SERVED),
        (Missing(), ResponseClass.SERVED),
        (Accepted(200, None), ResponseClass.SERVED),
        (Rejected(400, "", terminal=True), ResponseClass.SERVED),
        (Rejected(422, "", terminal=True), ResponseClass.SERVED),
        (Rejected(423, "", terminal=False), ResponseClass.SERVED),
        (Rejected(429, "", terminal=False), ResponseClass.OVERLOADED),
        (Failed("", 429), ResponseClass.OVERLOADED),
        (Failed("", 408), ResponseClass.OVERLOADED),
        (Failed("", 500), ResponseClass.OVERLOADED),
        (OutcomeUnknown("", 504), ResponseClass.OVERLOADED),
        (OutcomeUnknown("timeout"), ResponseClass.OVERLOADED),
        (Failed("timeout"), ResponseClass.OVERLOADED),
        (Failed("refused", unreachable=True), ResponseClass.SHUT),
        (NotSent("refused", unreachable=True), ResponseClass.SHUT),
        (Failed("", 401), ResponseClass.SHUT),
        (Rejected(403, "", terminal=False), ResponseClass.SHUT),
        (Failed("", 404), ResponseClass.SHUT),
        (OutcomeUnknown("", 302), ResponseClass.SHUT),
        (OutcomeUnknown("another id", 200), ResponseClass.UNUSABLE),
        (Failed("no JSON", 200), ResponseClass.UNUSABLE),
        (Failed("", 204), ResponseClass.UNUSABLE),
        (NotSent("a check just before sending"), None),
    ],
)
def test_what_an_answer_says_of_the_api(
    answer: Snapshot | UpdateAnswer, result: ResponseClass | None
) -> None:
    assert class_of(answer) is result


def test_a_few_that_have_failed_for_days_do_not_hide_that_the_api_is_gone() -> None:
    breaker: CircuitBreaker[int] = CircuitBreaker()
    for number in range(3000):  # of three, and nothing else was asked meanwhile
        now = 60.0 * number
        breaker.failed(number % 3, ResponseClass.OVERLOADED, begun=now, now=now, keys=10_000)
        assert not breaker.open
    breaker.served(now + 1)
    for number in range(5 * FAILURES):
        breaker.failed(number, ResponseClass.SHUT, begun=now + 2, now=now + 2, keys=10_000)
    assert breaker.open
