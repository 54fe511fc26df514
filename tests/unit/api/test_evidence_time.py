"""The age of answers: what `Age` and `Date` prove, with clocks that differ and caches that lie."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.api.evidence_time import TOLERANCE_SECONDS, WINDOW_SECONDS, EvidenceTime
from allocsync.model.times import Monotonic, WallTime

wall, mono = WallTime, Monotonic
EPOCH = 1_800_000_000.0
seconds = st.floats(0, 60)


class Exchange(NamedTuple):
    """A request, by this machine's monotonic clock; `made_at` is when the server made the answer."""

    begun: float
    made_at: float
    arrived: float


@st.composite
def fresh_exchanges(draw: st.DrawFn) -> list[Exchange]:
    """Answers that the server made for their requests, one after the other, some slow."""
    exchanges, now = [], draw(seconds)
    for _ in range(draw(st.integers(1, 20))):
        begun = now + draw(seconds)
        made_at = begun + draw(seconds)
        now = made_at + draw(seconds)
        exchanges.append(Exchange(begun, made_at, now))
    return exchanges


def date_of(made_at: float, offset: float) -> float:
    """The Date of an answer, in whole seconds, by a server whose clock is `offset` from ours."""
    return float(int(made_at + offset))


def age_of(evidence: EvidenceTime, exchange: Exchange, offset: float, age: str | None = None) -> float:
    date = date_of(exchange.made_at, offset)
    evidence.record(wall(date), arrived=mono(exchange.arrived))
    return evidence.age_seconds(wall(date), age, begun=mono(exchange.begun), now=mono(exchange.arrived))


@given(fresh_exchanges(), st.floats(-1e6, 1e6))
def test_an_answer_that_the_server_made_for_its_request_is_never_old(
    exchanges: list[Exchange], skew: float
) -> None:
    evidence = EvidenceTime()
    for exchange in exchanges:
        assert age_of(evidence, exchange, EPOCH + skew) == 0


@given(fresh_exchanges(), st.floats(-1e6, 1e6), st.floats(0, 500), st.floats(0, 5))
def test_a_cached_answer_is_as_old_as_its_date_after_one_quick_answer_of_the_server(
    exchanges: list[Exchange], skew: float, kept_seconds: float, quick_seconds: float
) -> None:
    evidence, offset = EvidenceTime(), EPOCH + skew
    for exchange in exchanges:
        age_of(evidence, exchange, offset)
    now = exchanges[-1].arrived
    quick = Exchange(now, now + quick_seconds, now + quick_seconds)  # such as the answer to a POST
    evidence.record(wall(date_of(quick.made_at, offset)), arrived=mono(quick.arrived))
    begun = now + quick_seconds
    age = age_of(evidence, Exchange(begun, begun - kept_seconds, begun), offset)
    assert age == 0 or kept_seconds - 1.01 <= age <= kept_seconds + 1.01, "Date has whole seconds"
    assert age > 0 or kept_seconds <= TOLERANCE_SECONDS + 1.01


@given(
    st.lists(st.tuples(st.none() | st.floats(0, 4e9), seconds), max_size=10),
    st.none() | st.text(max_size=10) | st.integers(-10, 10**14).map(str),
)
def test_an_answer_is_never_newer_than_the_begin_of_its_request(
    answers: list[tuple[float | None, float]], age: str | None
) -> None:
    evidence, now = EvidenceTime(), 0.0
    for seconds_since_epoch, waited in answers:
        now += waited
        date = None if seconds_since_epoch is None else wall(seconds_since_epoch)
        evidence.record(date, arrived=mono(now))
        assert evidence.age_seconds(date, age, begun=mono(now), now=mono(now)) >= 0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        *((None, 0), ("0", 0), ("43", 43), (" 43 ", 43), ("86400", 86_400)),
        *(("-43", 0), ("43.5", 0), ("soon", 0), ("", 0), ("٤", 0), ("1" * 13, 0), ("4 3", 0), ("+4", 0)),
    ],
)
def test_age_is_whole_seconds_and_garbage_is_ignored(header: str | None, seconds: float) -> None:
    assert EvidenceTime().age_seconds(None, header, begun=mono(100.0), now=mono(100.0)) == seconds


def test_the_larger_of_age_and_date_counts() -> None:
    evidence = EvidenceTime()
    evidence.record(wall(EPOCH + 100), arrived=mono(100.0))
    assert evidence.age_seconds(wall(EPOCH + 60), "10", begun=mono(100.0), now=mono(100.0)) == 40
    assert evidence.age_seconds(wall(EPOCH + 60), "50", begun=mono(100.0), now=mono(100.0)) == 50


def test_a_date_without_any_other_answer_proves_nothing_and_without_headers_the_age_is_0() -> None:
    evidence = EvidenceTime()
    assert evidence.age_seconds(wall(EPOCH - 500), None, begun=mono(0.0), now=mono(0.0)) == 0
    evidence.record(None, arrived=mono(0.0))
    evidence.record(wall(EPOCH - 500), arrived=mono(0.0))
    assert evidence.age_seconds(wall(EPOCH - 500), None, begun=mono(0.0), now=mono(0.0)) == 0, (
        "the only clock there is"
    )
    assert evidence.age_seconds(None, None, begun=mono(0.0), now=mono(0.0)) == 0


@pytest.mark.parametrize("before", [1.0, 2.0, 3.0])
def test_a_date_counts_from_more_than_two_seconds_on(before: float) -> None:
    evidence = EvidenceTime()
    evidence.record(wall(EPOCH + 100), arrived=mono(100.0))
    age = evidence.age_seconds(wall(EPOCH + 100 - before), None, begun=mono(100.0), now=mono(100.0))
    assert age == (before if before > 2 else 0)


def test_the_clock_of_the_server_is_forgotten_after_ten_minutes() -> None:
    evidence = EvidenceTime()
    evidence.record(wall(EPOCH + 3_600), arrived=mono(0.0))  # an hour ahead, then set right
    for at in (60.0, 300.0, WINDOW_SECONDS):
        evidence.record(wall(EPOCH + at), arrived=mono(at))
        assert evidence.age_seconds(wall(EPOCH + at), None, begun=mono(at), now=mono(at)) == 3_600
    at = WINDOW_SECONDS + 1
    evidence.record(wall(EPOCH + at), arrived=mono(at))
    assert evidence.age_seconds(wall(EPOCH + at), None, begun=mono(at), now=mono(at)) == 0


@given(st.lists(st.tuples(st.floats(0, 400), st.floats(-100, 100)), min_size=1, max_size=30))
def test_the_largest_difference_of_the_window_is_kept(answers: list[tuple[float, float]]) -> None:
    evidence, now, recorded = EvidenceTime(), 0.0, list[tuple[float, float]]()
    for waited, offset in answers:
        now += waited
        evidence.record(wall(now + offset), arrived=mono(now))
        recorded.append((now, now + offset - now))
        largest = max(found for at, found in recorded if at >= now - WINDOW_SECONDS)
        before = now + largest - (now - 1e6)
        assert evidence.age_seconds(wall(now - 1e6), None, begun=mono(now), now=mono(now)) == before
