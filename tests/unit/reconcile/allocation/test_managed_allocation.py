"""What keeps a lane from sending, and what lets it again; what a bulk answer may say; one example each."""

import pytest

from allocsync.model.api_answers import Accepted, Failed, Missing, NotSent, Rejected, UpdateAnswer
from allocsync.model.cloud import Json
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Mode
from allocsync.reconcile import checkpoint_codecs as codecs
from allocsync.reconcile.operation import Priority, Slot
from tests.support.scripted_allocation import (
    DIFFERENT,
    RESYNC,
    RULES,
    UNKNOWN,
    A,
    Told,
    cloud,
    verdict,
    wanted,
)


def test_410_in_mid_unknown_voids_the_intent_and_nothing_is_sent_until_it_is_back() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(UNKNOWN)
    gone = told.look(Missing(), at=10.0)
    assert verdict(gone).outcome == "void"
    assert told.condition() is Condition.MISSING
    assert [told.lane.turn().at - told.now, _again(told), _again(told)] == [60.0, 120.0, 240.0]
    back = told.look(DIFFERENT)
    assert back.update is not None
    assert not told.lane.past.leaves


def _again(told: Told) -> float:
    told.look(Missing(), at=told.lane.turn().at)
    return told.lane.turn().at - told.now


@pytest.mark.parametrize("answer", [Rejected(423, "423", terminal=False), NotSent("refused")])
def test_what_was_not_applied_backs_off_and_goes_again(answer: UpdateAnswer) -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(answer, delay_seconds=7.0)
    assert told.lane.turn().at == 7.0
    assert told.lane.turn().priority is Priority.RETRY
    assert told.lane.turn().slot is Slot.WRITE
    assert told.look(DIFFERENT, at=7.0).update is not None


def test_an_edit_clears_the_backoff_but_not_what_the_server_asked_for() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(Rejected(429, "429", terminal=False, retry_after_seconds=30), delay_seconds=30.0)
    told.lane.want(wanted(region="b", version="1"), now=1.0)
    assert told.lane.turn().at == 30.0


def test_a_refused_body_is_sent_again_on_an_edit_a_live_change_or_after_an_hour() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(Rejected(400, "400 Bad Request", terminal=True))
    assert told.condition() is Condition.FAILING
    assert told.look(DIFFERENT, at=300.0).update is None
    assert told.look({"region": "moved", "version": "1"}, at=301.0).update is not None


def test_a_body_that_the_schema_would_not_take_is_not_a_request() -> None:
    told = Told(wanted(Mode.ENFORCE, **{"urls.vanity.url": "mark.pieces.cloud"}))
    assert told.look({}).update is None
    assert told.condition() is Condition.FAILING
    assert "urls.vanity.status" in told.lane.restraint.error


def test_a_merge_that_cannot_be_is_not_a_request() -> None:
    told = Told(wanted(Mode.ENFORCE, **{"urls.base.url": "mark.pieces.cloud"}))
    assert told.look({"urls": []}).update is None
    assert "not an object" in told.lane.restraint.error


def test_nothing_is_sent_while_a_status_is_pending_and_it_fails_after_ten_minutes() -> None:
    told = Told()
    busy: dict[str, Json] = {**DIFFERENT, "status": {"cloud": "PENDING"}}
    assert told.look(busy).update is None
    assert told.condition() is Condition.PENDING
    assert told.look(busy, at=RULES.pending_seconds).update is None
    assert told.condition() is Condition.FAILING
    assert told.look(DIFFERENT, at=700.0).update is not None


def test_three_failed_reads_in_a_row_are_failing_and_a_read_ends_it() -> None:
    told = Told()
    for _ in range(3):
        told.look(Failed("500 Internal Server Error", 500), at=told.lane.turn().at)
    assert told.condition() is Condition.FAILING
    assert told.lane.turn().priority is Priority.RETRY
    told.look(A, at=told.lane.turn().at)
    assert told.condition() is Condition.IN_SYNC


def test_in_sync_is_believed_for_three_resyncs() -> None:
    told = Told()
    told.look(A)
    told.now = 3 * RESYNC
    assert told.condition() is Condition.IN_SYNC
    told.now += 1
    assert told.condition() is Condition.PENDING


def test_observe_reports_and_suspend_does_not_look() -> None:
    told = Told(wanted(Mode.OBSERVE, **A))
    assert told.look(DIFFERENT).update is None
    assert told.condition() is Condition.DRIFTED
    told.lane.want(wanted(Mode.SUSPEND, **A), now=1.0)
    assert told.condition() is Condition.SUSPENDED
    assert told.lane.turn().at == float("inf")


def test_suspending_while_an_outcome_is_unknown_still_reads_it_back() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(UNKNOWN)
    told.lane.want(wanted(Mode.SUSPEND, **A), now=1.0)
    assert told.condition() is Condition.OUTCOME_UNKNOWN
    decision = told.look(DIFFERENT, at=told.lane.turn().at)
    assert verdict(decision).outcome == "not_applied"
    assert decision.update is None
    assert told.condition() is Condition.SUSPENDED


def test_a_disowned_allocation_is_read_back_and_never_sent_to() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(UNKNOWN)
    told.lane.want(None, now=1.0)
    decision = told.look(DIFFERENT, at=told.lane.turn().at)
    assert verdict(decision).outcome == "not_applied"
    assert decision.update is None
    assert told.condition() is Condition.BLOCKED


def test_a_bulk_answer_confirms_or_asks_for_a_look_and_decides_nothing_else() -> None:
    told = Told()
    told.lane.listed(cloud(**A), begun=1.0, now=1.1)
    assert told.condition() is Condition.IN_SYNC
    assert told.lane.turn().at == float("inf")
    told.lane.listed(cloud(**DIFFERENT), begun=2.0, now=2.1)
    assert told.condition() is Condition.IN_SYNC
    assert told.lane.turn().at == 2.1
    assert told.lane.turn().slot is Slot.WRITE
    told.look(A, at=2.2)
    told.lane.listed(None, begun=3.0, now=3.1)
    assert told.condition() is Condition.IN_SYNC
    assert told.lane.turn().at == 3.1


def test_a_bulk_answer_older_than_the_last_write_is_ignored() -> None:
    told = Told()
    told.update(DIFFERENT, at=5.0)
    told.post(Accepted(200, None), at=6.0)
    told.look(A, at=7.5)
    told.lane.listed(cloud(**DIFFERENT), begun=5.5, now=8.0)
    assert told.condition() is Condition.IN_SYNC
    assert told.lane.turn().at > 8.0


def test_a_bulk_answer_does_not_settle_an_unknown() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(UNKNOWN)
    told.lane.listed(cloud(**A), begun=11.0, now=11.1)
    assert told.condition() is Condition.OUTCOME_UNKNOWN


def test_a_difference_that_bulk_shows_again_asks_for_no_second_look() -> None:
    told = Told(wanted(Mode.OBSERVE, **A))
    told.look(DIFFERENT)
    before = told.lane.turn().at
    told.lane.listed(cloud(**DIFFERENT), begun=1.0, now=1.1)
    assert told.lane.turn().at == before


def test_a_repaired_drift_costs_no_look_per_bulk_answer_and_one_when_its_memory_ends() -> None:
    told = Told()
    told.look(A)
    told.update(DIFFERENT, at=10.0)
    told.post(Accepted(200, {}), at=10.0)
    told.lane.listed(cloud(**A), begun=11.0, now=11.0)
    assert told.lane.turn().at == 11.0  # only a GET may say that an accepted update shows
    told.look(A, at=11.5)
    told.lane.listed(cloud(**A), begun=70.0, now=70.0)
    assert told.lane.turn().at == 11.5 + RULES.contested_clear_seconds
    told.look(A, at=told.lane.turn().at)
    assert not told.lane.past.leaves


def test_one_request_at_a_time() -> None:
    told = Told()
    told.lane.begin_look()
    with pytest.raises(ValueError, match="one request at a time"):
        told.lane.begin_look()
    told = Told()
    update = told.update(DIFFERENT)
    with pytest.raises(ValueError, match="cannot begin an update"):
        told.intend(update)
    told.post(Accepted(200, None))
    with pytest.raises(ValueError, match="no update is under way"):
        told.post(Accepted(200, None))


def test_what_no_body_could_be_built_for_is_sent_once_one_can() -> None:
    told = Told(wanted(Mode.ENFORCE, **{"urls.vanity.url": "mark.pieces.cloud"}))
    assert told.look({}).update is None
    assert told.condition() is Condition.FAILING
    urls = {**cloud()["urls"], "vanity": {"status": "RUNNING"}}
    assert told.look({"urls": urls}, at=RESYNC).update is not None
    assert told.condition() is not Condition.FAILING


def test_a_check_that_refuses_an_update_is_not_remembered_over_a_restart_and_is_no_failure() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(NotSent("region moved since the plan was reviewed", terminal=True))
    assert told.look(DIFFERENT, at=100.0).update is None, "nor is it asked for again"
    assert told.condition() is Condition.FAILING
    assert codecs.encode_allocation(told.lane, codecs.Clocks(0.0, told.now)) is None


def test_an_update_that_finds_nothing_there_makes_it_missing_and_not_failing() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(Rejected(410, "410 Cloud not found", terminal=True))
    assert told.condition() is Condition.MISSING
    assert told.lane.turn().at == RULES.missing_first_seconds
    assert told.look(DIFFERENT, at=60.0).update is None, (
        "a server that says both is not asked again and again"
    )
    assert told.condition() is Condition.FAILING
    assert told.look(Missing(), at=120.0).update is None
    assert told.look(DIFFERENT, at=180.0).update is not None, "it was gone and is back"


def test_a_bulk_answer_that_is_equal_ends_the_doubt_and_the_wait_for_a_status() -> None:
    told = Told()
    told.look({**DIFFERENT, "status": {"cloud": "PENDING"}})
    doubts = []
    for at, shown in (50.0, {"region": "y", "version": "1"}), (60.0, A):
        told.lane.listed(cloud(**shown), begun=at, now=at)
        doubts.append(told.lane.suspected)
    assert doubts == [True, False]
    told.look({**DIFFERENT, "status": {"cloud": "PENDING"}}, at=5000.0)
    assert told.condition() is Condition.PENDING, "it has not been so all the while"
