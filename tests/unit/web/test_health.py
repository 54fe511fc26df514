"""The health checks: live, started and ready."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.model.condition import Condition
from allocsync.reconcile.status.controller_status import ControllerStatus
from allocsync.web.health import START_GRACE_SECONDS, check_live, check_ready, check_started
from tests.support.controller_status import WORKING

DECLARED = dict.fromkeys(Condition, 0) | {Condition.PENDING: 1}


def test_a_controller_that_makes_progress_is_live_whatever_the_api_does() -> None:
    assert check_live(dataclasses.replace(WORKING, first_answer_seen=False, revision=None, open_intents=9)).ok


def test_a_stalled_controller_is_not_live_and_the_reason_names_the_cause() -> None:
    result = check_live(dataclasses.replace(WORKING, stalled="a request has outlived its deadline by 31 s"))

    assert not result.ok
    assert result.reason == "stalled: a request has outlived its deadline by 31 s"


@pytest.mark.parametrize(
    ("seen", "up_seconds", "expected"),
    [(True, 0.0, True), (False, 0.0, False), (False, 9.9, False), (False, 10.0, True)],
)
def test_the_start_is_over_after_the_first_answer_or_ten_seconds(
    *, seen: bool, up_seconds: float, expected: bool
) -> None:
    status = dataclasses.replace(WORKING, first_answer_seen=seen, conditions=DECLARED)

    assert check_started(status, up_seconds=up_seconds).ok is expected
    assert check_ready(status, up_seconds=up_seconds).ok is expected


def test_without_a_desired_state_the_daemon_is_started_but_never_ready() -> None:
    status = dataclasses.replace(WORKING, revision=None, first_answer_seen=False)

    assert check_started(status, up_seconds=START_GRACE_SECONDS).ok
    result = check_ready(status, up_seconds=3600)
    assert not result.ok
    assert "no desired state has loaded" in result.reason


@pytest.mark.parametrize(
    ("revision", "files_rejected", "expected"),
    [("r1", False, True), ("r1", True, True), (None, True, True), (None, False, False)],
)
def test_the_start_is_over_at_once_if_nothing_is_declared(
    *, revision: str | None, files_rejected: bool, expected: bool
) -> None:
    nothing = dict.fromkeys(Condition, 0)
    status = dataclasses.replace(
        WORKING, revision=revision, conditions=nothing, first_answer_seen=False, stopping=False
    )

    assert check_started(status, up_seconds=0.0, files_rejected=files_rejected).ok is expected


def test_while_something_is_declared_rejected_files_do_not_end_the_start() -> None:
    status = dataclasses.replace(WORKING, first_answer_seen=False, conditions=DECLARED)

    assert not check_started(status, up_seconds=0.0, files_rejected=True).ok


def test_a_daemon_that_is_stopping_is_not_ready() -> None:
    result = check_ready(dataclasses.replace(WORKING, stopping=True), up_seconds=3600)

    assert (result.ok, result.reason) == (False, "stopping")


def test_a_daemon_that_cannot_write_its_journal_is_live_but_not_ready() -> None:
    result = check_ready(WORKING, up_seconds=3600, journal_problem="database or disk is full")

    assert not result.ok
    assert "the journal cannot be written: database or disk is full" in result.reason
    assert check_live(WORKING).ok


@given(
    st.builds(
        ControllerStatus,
        revision=st.none() | st.text(min_size=1),
        active_since=st.none(),
        conditions=st.just({}),
        open_intents=st.integers(0, 9),
        settle_seconds=st.just(10.0),
        queued=st.just({}),
        in_flight=st.just({}),
        slow=st.just({}),
        limits=st.just({}),
        max_in_flight=st.just({}),
        breakers_open=st.just({}),
        last_full_read=st.none(),
        first_answer_seen=st.booleans(),
        stalled=st.none() | st.text(),
        stopping=st.booleans(),
    ),
    st.floats(0, 100),
)
def test_ready_implies_started_and_every_result_has_a_reason(
    status: ControllerStatus, up_seconds: float
) -> None:
    results = [
        check_live(status),
        check_started(status, up_seconds=up_seconds),
        check_ready(status, up_seconds=up_seconds),
    ]

    assert all(result.reason for result in results)
    assert results[1].ok or not results[2].ok
    assert results[0].ok is (status.stalled is None)
