"""The circuit breaker: when it opens, which failures it forgives, and how its probes are spaced."""

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
    RejectionClass,
    Snapshot,
    UpdateAnswer,
)
from allocsync.model.times import Monotonic
from allocsync.reconcile.scheduling.circuit_breaker import (
    MIN_FAILURES,
    MIN_KEYS,
    PROBE_FIRST_SECONDS,
    PROBE_JITTER,
    PROBE_MAX_SECONDS,
    SILENT_SECONDS,
    CircuitBreaker,
)
from allocsync.reconcile.scheduling.response_class import ResponseClass, classify_response


def open_breaker(keys: int = 100) -> CircuitBreaker[int]:
    breaker: CircuitBreaker[int] = CircuitBreaker()
    for number in range(MIN_FAILURES):
        breaker.record_failure(
            number % keys, ResponseClass.UNAVAILABLE, begun=Monotonic(0.0), now=Monotonic(0.0), key_count=keys
        )
    assert breaker.open
    return breaker


def fail_repeatedly(
    breaker: CircuitBreaker[int], *, keys: int, interval_seconds: float, count: int = 40
) -> float | None:
    """Record failures at regular times; returns when the breaker opened, or None."""
    for number in range(count):
        now = number * interval_seconds
        breaker.record_failure(
            number % keys,
            ResponseClass.OVERLOADED,
            begun=Monotonic(now),
            now=Monotonic(now),
            key_count=10_000,
        )
        if breaker.open:
            return now
    return None


def test_it_opens_after_many_failures_and_ten_seconds_without_a_success() -> None:
    assert fail_repeatedly(CircuitBreaker(), keys=5, interval_seconds=0.5) == SILENT_SECONDS
    assert fail_repeatedly(CircuitBreaker(), keys=5, interval_seconds=2) == 2 * (MIN_FAILURES - 1)


def test_a_burst_of_failures_or_a_few_failing_allocations_do_not_open_it() -> None:
    assert fail_repeatedly(CircuitBreaker(), keys=100, interval_seconds=0.01, count=900) is None
    assert fail_repeatedly(CircuitBreaker(), keys=MIN_KEYS - 1, interval_seconds=10) is None


def test_an_occasional_success_keeps_it_closed() -> None:
    breaker: CircuitBreaker[int] = CircuitBreaker()
    for number in range(1000):
        breaker.record_failure(
            number,
            ResponseClass.OVERLOADED,
            begun=Monotonic(number / 10),
            now=Monotonic(number / 10),
            key_count=10_000,
        )
        if number % 90 == 0:
            assert not breaker.record_success(Monotonic(number / 10))
        assert not breaker.open


@pytest.mark.parametrize("response_class", [ResponseClass.OVERLOADED, ResponseClass.UNAVAILABLE])
def test_where_most_requests_fail_it_takes_as_many_more_failures_to_open(
    response_class: ResponseClass,
) -> None:
    breaker: CircuitBreaker[int] = CircuitBreaker()

    def fail_until(number: int, end: int) -> None:
        for each in range(number, end):
            breaker.record_failure(
                each,
                response_class,
                begun=Monotonic(each),
                now=Monotonic(each),
                key_count=10_000,
            )

    for number in range(0, 500, 10):  # nine of ten
        fail_until(number, number + 9)
        assert not breaker.record_success(Monotonic(number + 9.0))
    fail_until(500, 570)
    open_as_usual = breaker.open
    fail_until(570, 600)
    assert (open_as_usual, breaker.open) == (False, True)
    for now in range(700, 740):
        breaker.record_success(Monotonic(now))
    fail_until(800, 801 + MIN_FAILURES)
    assert float(breaker.opened_at) in {800 + MIN_FAILURES - 1, 800 + MIN_FAILURES}


@pytest.mark.parametrize(("keys", "failures"), [(1, 2), (3, 6), (5, 10), (10_000, 10)])
def test_it_opens_without_a_wait_when_the_api_is_unavailable(keys: int, failures: int) -> None:
    breaker: CircuitBreaker[int] = CircuitBreaker()
    for number in range(failures):
        assert not breaker.open
        breaker.record_failure(
            number % keys, ResponseClass.UNAVAILABLE, begun=Monotonic(0.0), now=Monotonic(0.0), key_count=keys
        )
    assert breaker.open


def test_one_forbidden_allocation_among_many_does_not_open_it() -> None:
    breaker: CircuitBreaker[int] = CircuitBreaker()
    for now in range(100):
        breaker.record_failure(
            7, ResponseClass.UNAVAILABLE, begun=Monotonic(now), now=Monotonic(now), key_count=100
        )
    assert not breaker.open


def test_only_failures_since_the_latest_success_are_forgiven() -> None:
    breaker: CircuitBreaker[int] = CircuitBreaker()
    breaker.record_failure(
        99, ResponseClass.OVERLOADED, begun=Monotonic(0.0), now=Monotonic(0.0), key_count=100
    )
    breaker.record_success(Monotonic(1.0))
    forgiven: dict[int, int] = {}
    for number in range(2 * MIN_KEYS):
        forgiven |= breaker.record_failure(
            number % MIN_KEYS,
            ResponseClass.UNAVAILABLE,
            begun=Monotonic(2.0),
            now=Monotonic(2.0),
            key_count=100,
        )
    assert forgiven == dict.fromkeys(range(MIN_KEYS), 2)
    assert breaker.record_failure(
        50, ResponseClass.OVERLOADED, begun=Monotonic(3.0), now=Monotonic(3.0), key_count=100
    ) == {50: 1}
    assert breaker.failures_of(50) == 1


@given(st.lists(st.floats(0, 1), min_size=8, max_size=8))
def test_one_probe_goes_per_interval_and_the_interval_doubles_with_jitter(chances: list[float]) -> None:
    breaker = open_breaker()
    now = breaker.blocked_until(Monotonic(0.0))
    assert now == Monotonic(PROBE_FIRST_SECONDS)
    for number, chance in enumerate(chances):
        breaker.record_probe(number, now, failures=0, chance=chance)
        until = breaker.blocked_until(now)
        assert until is not None
        interval = min(PROBE_FIRST_SECONDS * 2**number, PROBE_MAX_SECONDS)
        assert (1 - PROBE_JITTER) * interval <= until - now + 1e-6 <= interval + 1e-5
        now = until
    assert breaker.blocked_until(now) is None
    assert breaker.record_success(now)
    assert breaker.blocked_until(now) is None
    assert not breaker.record_success(now)


def test_probes_of_an_allocation_that_keeps_failing_do_not_lengthen_the_interval() -> None:
    breaker = open_breaker()
    for now in range(1, 100):
        assert breaker.blocked_until(Monotonic(now)) is None
        breaker.record_probe(now, Monotonic(now), failures=3, chance=0.0)


@pytest.mark.parametrize("has_response", [True, False])
def test_after_a_probe_without_a_response_the_interval_is_unchanged_and_the_next_goes_soon(
    *, has_response: bool
) -> None:
    breaker = open_breaker()
    for now in (1.0, 2.0, 4.0):
        assert breaker.blocked_until(Monotonic(now)) is None
        breaker.record_probe(7, Monotonic(now), failures=0, chance=0.0)
        if has_response or now < 4.0:
            breaker.record_failure(
                7, ResponseClass.OVERLOADED, begun=Monotonic(now), now=Monotonic(now), key_count=100
            )
        breaker.record_release(7, Monotonic(now))
    assert breaker.blocked_until(Monotonic(4.0)) == Monotonic(8.0 if has_response else 5.0)
    breaker.record_probe(7, Monotonic(8.0), failures=0, chance=0.0)
    assert breaker.blocked_until(Monotonic(8.0)) == Monotonic(8.0 + (8.0 if has_response else 4.0))


def test_of_two_probes_in_flight_only_the_latest_can_end_without_a_response() -> None:
    breaker = open_breaker()
    breaker.record_probe(7, Monotonic(1.0), failures=0, chance=0.0)
    breaker.record_probe(8, Monotonic(2.0), failures=0, chance=0.0)
    breaker.record_release(7, Monotonic(2.0))
    assert breaker.blocked_until(Monotonic(2.0)) == Monotonic(4.0)
    breaker.record_failure(
        7, ResponseClass.OVERLOADED, begun=Monotonic(1.0), now=Monotonic(2.0), key_count=100
    )
    breaker.record_release(8, Monotonic(2.5))
    assert breaker.blocked_until(Monotonic(2.5)) == Monotonic(3.5)


def test_each_opening_begins_with_the_first_interval() -> None:
    breaker = open_breaker()
    for _ in range(10):
        breaker.record_probe(0, Monotonic(0.0), failures=0, chance=0.0)
    breaker.record_success(Monotonic(50.0))
    assert not breaker.open
    for number in range(MIN_FAILURES):
        breaker.record_failure(
            number, ResponseClass.UNAVAILABLE, begun=Monotonic(60.0), now=Monotonic(60.0), key_count=100
        )
    assert breaker.blocked_until(Monotonic(60.0)) == Monotonic(60.0 + PROBE_FIRST_SECONDS)
    assert breaker.probes == 0


@pytest.mark.parametrize(
    ("answer", "response_class"),
    [
        (Live({}), ResponseClass.SERVED),
        (Missing(), ResponseClass.SERVED),
        (Accepted(200, None), ResponseClass.SERVED),
        (Rejected(400, "", RejectionClass.BODY), ResponseClass.SERVED),
        (Rejected(422, "", RejectionClass.BODY), ResponseClass.SERVED),
        (Rejected(423, "", RejectionClass.NOT_NOW), ResponseClass.SERVED),
        (Rejected(429, "", RejectionClass.NOT_NOW), ResponseClass.OVERLOADED),
        (Failed("", 429), ResponseClass.OVERLOADED),
        (Failed("", 408), ResponseClass.OVERLOADED),
        (OutcomeUnknown("", 499), ResponseClass.OVERLOADED),
        (Rejected(409, "", RejectionClass.NOT_NOW), ResponseClass.SERVED),
        (Rejected(403, "", RejectionClass.NOT_NOW, 3.0), ResponseClass.UNAVAILABLE),
        (Failed("", 500), ResponseClass.OVERLOADED),
        (OutcomeUnknown("", 504), ResponseClass.OVERLOADED),
        (OutcomeUnknown("timeout"), ResponseClass.OVERLOADED),
        (Failed("timeout"), ResponseClass.OVERLOADED),
        (Failed("connection refused", unreachable=True), ResponseClass.UNAVAILABLE),
        (NotSent("connection refused", unreachable=True), ResponseClass.UNAVAILABLE),
        (Failed("", 401), ResponseClass.UNAVAILABLE),
        (Rejected(403, "", RejectionClass.OTHER), ResponseClass.UNAVAILABLE),
        (Failed("", 404), ResponseClass.UNAVAILABLE),
        (OutcomeUnknown("", 302), ResponseClass.UNAVAILABLE),
        (OutcomeUnknown("another id", 200), ResponseClass.UNUSABLE),
        (Failed("no JSON", 200), ResponseClass.UNUSABLE),
        (Failed("", 204), ResponseClass.UNUSABLE),
        (NotSent("a check just before sending"), None),
    ],
)
def test_each_response_has_a_class(
    answer: Snapshot | UpdateAnswer, response_class: ResponseClass | None
) -> None:
    assert classify_response(answer) is response_class


def test_a_few_allocations_that_failed_for_days_do_not_hide_an_outage() -> None:
    breaker: CircuitBreaker[int] = CircuitBreaker()
    for number in range(3000):  # of three allocations, and no other request
        now = 60.0 * number
        breaker.record_failure(
            number % 3, ResponseClass.OVERLOADED, begun=Monotonic(now), now=Monotonic(now), key_count=10_000
        )
        assert not breaker.open
    breaker.record_success(Monotonic(now + 1))
    for number in range(5 * MIN_FAILURES):
        breaker.record_failure(
            number,
            ResponseClass.UNAVAILABLE,
            begun=Monotonic(now + 2),
            now=Monotonic(now + 2),
            key_count=10_000,
        )
    assert breaker.open
