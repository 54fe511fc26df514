"""Live, started, ready."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.reconcile.status.controller_status import LoopStatus
from allocsync.web.health import START_GRACE_SECONDS, live, ready, started

WELL = LoopStatus(
    revision="7f3a91c2",
    active_revision="7f3a91c2",
    active_since=1.0,
    conditions={},
    open_intents=0,
    settle_seconds=10.0,
    queued={},
    in_flight={},
    slow={},
    limits={},
    most={},
    breakers_open={},
    last_full_read=None,
    first_answer_seen=True,
    stalled=None,
    stopping=False,
)


def test_a_loop_that_moves_is_live_whatever_the_api_does() -> None:
    assert live(dataclasses.replace(WELL, first_answer_seen=False, revision=None, open_intents=9)).holds


def test_a_stall_is_not_live_and_says_what_stalls() -> None:
    verdict = live(dataclasses.replace(WELL, stalled="a request has outlived its deadline by 31 s"))

    assert not verdict.holds
    assert verdict.reason == "stalled: a request has outlived its deadline by 31 s"


@pytest.mark.parametrize(
    ("seen", "up_seconds", "expected"),
    [(True, 0.0, True), (False, 0.0, False), (False, 9.9, False), (False, 10.0, True)],
)
def test_the_start_is_over_with_the_first_answer_or_after_ten_seconds(
    *, seen: bool, up_seconds: float, expected: bool
) -> None:
    status = dataclasses.replace(WELL, first_answer_seen=seen)

    assert started(status, up_seconds=up_seconds).holds is expected
    assert ready(status, up_seconds=up_seconds).holds is expected


def test_without_desired_state_the_start_ends_but_ready_never_holds() -> None:
    status = dataclasses.replace(WELL, revision=None, first_answer_seen=False)

    assert started(status, up_seconds=START_GRACE_SECONDS).holds
    verdict = ready(status, up_seconds=3600)
    assert not verdict.holds
    assert "no desired state has loaded" in verdict.reason


def test_a_daemon_that_stops_is_not_ready() -> None:
    verdict = ready(dataclasses.replace(WELL, stopping=True), up_seconds=3600)

    assert (verdict.holds, verdict.reason) == (False, "stopping")


def test_a_daemon_that_cannot_write_its_journal_is_not_ready_and_says_why() -> None:
    verdict = ready(WELL, up_seconds=3600, journal_problem="database or disk is full")

    assert not verdict.holds
    assert "the journal cannot be written: database or disk is full" in verdict.reason
    assert live(WELL).holds


@given(
    st.builds(
        LoopStatus,
        revision=st.none() | st.text(min_size=1),
        active_since=st.none(),
        conditions=st.just({}),
        open_intents=st.integers(0, 9),
        settle_seconds=st.just(10.0),
        queued=st.just({}),
        in_flight=st.just({}),
        slow=st.just({}),
        limits=st.just({}),
        most=st.just({}),
        breakers_open=st.just({}),
        last_full_read=st.none(),
        first_answer_seen=st.booleans(),
        stalled=st.none() | st.text(),
        stopping=st.booleans(),
    ),
    st.floats(0, 100),
)
def test_ready_implies_started_and_every_verdict_has_a_reason(status: LoopStatus, up_seconds: float) -> None:
    verdicts = [live(status), started(status, up_seconds=up_seconds), ready(status, up_seconds=up_seconds)]

    assert all(verdict.reason for verdict in verdicts)
    assert verdicts[1].holds or not verdicts[2].holds
    assert verdicts[0].holds is (status.stalled is None)
