"""What keeps a lane from sending, and what lets it again; what a bulk answer may say; one example each."""

import pytest

from allocsync.model.api_answers import Accepted, Failed, Missing, NotSent, Rejected, UpdateAnswer
from allocsync.model.cloud import Json
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Mode
from allocsync.reconcile import checkpoint_codecs as codecs
from allocsync.reconcile.operation import Operation, Priority
from tests.support.scripted_allocation import (
    DIFFERENT,
    RESYNC,
    RULES,
    UNKNOWN,
    A,
    ScriptedAllocation,
    cloud,
    verdict,
    wanted,
)


def test_410_in_mid_unknown_voids_the_intent_and_nothing_is_sent_until_it_is_back() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(UNKNOWN)
    gone = scripted.read(Missing(), at=10.0)
    assert verdict(gone).outcome == "void"
    assert scripted.condition() is Condition.MISSING
    assert [scripted.allocation.queue_entry().at - scripted.now, _again(scripted), _again(scripted)] == [
        60.0,
        120.0,
        240.0,
    ]
    back = scripted.read(DIFFERENT)
    assert back.update is not None
    assert not scripted.allocation.read_back.field_records


def _again(scripted: ScriptedAllocation) -> float:
    scripted.read(Missing(), at=scripted.allocation.queue_entry().at)
    return scripted.allocation.queue_entry().at - scripted.now


@pytest.mark.parametrize("answer", [Rejected(423, "423", terminal=False), NotSent("refused")])
def test_what_was_not_applied_backs_off_and_goes_again(answer: UpdateAnswer) -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(answer, delay_seconds=7.0)
    assert scripted.allocation.queue_entry().at == 7.0
    assert scripted.allocation.queue_entry().priority is Priority.RETRY
    assert scripted.allocation.queue_entry().operation is Operation.WRITE
    assert scripted.read(DIFFERENT, at=7.0).update is not None


def test_an_edit_clears_the_backoff_but_not_what_the_server_asked_for() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(Rejected(429, "429", terminal=False, retry_after_seconds=30), delay_seconds=30.0)
    scripted.allocation.set_desired(wanted(region="b", version="1"), now=1.0)
    assert scripted.allocation.queue_entry().at == 30.0


def test_a_refused_body_is_sent_again_on_an_edit_a_live_change_or_after_an_hour() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(Rejected(400, "400 Bad Request", terminal=True))
    assert scripted.condition() is Condition.FAILING
    assert scripted.read(DIFFERENT, at=300.0).update is None
    assert scripted.read({"region": "moved", "version": "1"}, at=301.0).update is not None


def test_a_body_that_the_schema_would_not_take_is_not_a_request() -> None:
    scripted = ScriptedAllocation(wanted(Mode.ENFORCE, **{"urls.vanity.url": "mark.pieces.cloud"}))
    assert scripted.read({}).update is None
    assert scripted.condition() is Condition.FAILING
    assert "urls.vanity.status" in scripted.allocation.write_backoff.error


def test_a_merge_that_cannot_be_is_not_a_request() -> None:
    scripted = ScriptedAllocation(wanted(Mode.ENFORCE, **{"urls.base.url": "mark.pieces.cloud"}))
    assert scripted.read({"urls": []}).update is None
    assert "not an object" in scripted.allocation.write_backoff.error


def test_nothing_is_sent_while_a_status_is_pending_and_it_fails_after_ten_minutes() -> None:
    scripted = ScriptedAllocation()
    busy: dict[str, Json] = {**DIFFERENT, "status": {"cloud": "PENDING"}}
    assert scripted.read(busy).update is None
    assert scripted.condition() is Condition.PENDING
    assert scripted.read(busy, at=RULES.pending_seconds).update is None
    assert scripted.condition() is Condition.FAILING
    assert scripted.read(DIFFERENT, at=700.0).update is not None


def test_three_failed_reads_in_a_row_are_failing_and_a_read_ends_it() -> None:
    scripted = ScriptedAllocation()
    for _ in range(3):
        scripted.read(Failed("500 Internal Server Error", 500), at=scripted.allocation.queue_entry().at)
    assert scripted.condition() is Condition.FAILING
    assert scripted.allocation.queue_entry().priority is Priority.RETRY
    scripted.read(A, at=scripted.allocation.queue_entry().at)
    assert scripted.condition() is Condition.IN_SYNC


def test_in_sync_is_believed_for_three_resyncs() -> None:
    scripted = ScriptedAllocation()
    scripted.read(A)
    scripted.now = 3 * RESYNC
    assert scripted.condition() is Condition.IN_SYNC
    scripted.now += 1
    assert scripted.condition() is Condition.PENDING


def test_observe_reports_and_suspend_does_not_look() -> None:
    scripted = ScriptedAllocation(wanted(Mode.OBSERVE, **A))
    assert scripted.read(DIFFERENT).update is None
    assert scripted.condition() is Condition.DRIFTED
    scripted.allocation.set_desired(wanted(Mode.SUSPEND, **A), now=1.0)
    assert scripted.condition() is Condition.SUSPENDED
    assert scripted.allocation.queue_entry().at == float("inf")


def test_suspending_while_an_outcome_is_unknown_still_reads_it_back() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(UNKNOWN)
    scripted.allocation.set_desired(wanted(Mode.SUSPEND, **A), now=1.0)
    assert scripted.condition() is Condition.OUTCOME_UNKNOWN
    decision = scripted.read(DIFFERENT, at=scripted.allocation.queue_entry().at)
    assert verdict(decision).outcome == "not_applied"
    assert decision.update is None
    assert scripted.condition() is Condition.SUSPENDED


def test_a_disowned_allocation_is_read_back_and_never_sent_to() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(UNKNOWN)
    scripted.allocation.set_desired(None, now=1.0)
    decision = scripted.read(DIFFERENT, at=scripted.allocation.queue_entry().at)
    assert verdict(decision).outcome == "not_applied"
    assert decision.update is None
    assert scripted.condition() is Condition.BLOCKED


def test_a_bulk_answer_confirms_or_asks_for_a_look_and_decides_nothing_else() -> None:
    scripted = ScriptedAllocation()
    scripted.allocation.on_listed(cloud(**A), begun=1.0, now=1.1)
    assert scripted.condition() is Condition.IN_SYNC
    assert scripted.allocation.queue_entry().at == float("inf")
    scripted.allocation.on_listed(cloud(**DIFFERENT), begun=2.0, now=2.1)
    assert scripted.condition() is Condition.IN_SYNC
    assert scripted.allocation.queue_entry().at == 2.1
    assert scripted.allocation.queue_entry().operation is Operation.WRITE
    scripted.read(A, at=2.2)
    scripted.allocation.on_listed(None, begun=3.0, now=3.1)
    assert scripted.condition() is Condition.IN_SYNC
    assert scripted.allocation.queue_entry().at == 3.1


def test_a_bulk_answer_older_than_the_last_write_is_ignored() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT, at=5.0)
    scripted.post(Accepted(200, None), at=6.0)
    scripted.read(A, at=7.5)
    scripted.allocation.on_listed(cloud(**DIFFERENT), begun=5.5, now=8.0)
    assert scripted.condition() is Condition.IN_SYNC
    assert scripted.allocation.queue_entry().at > 8.0


def test_a_bulk_answer_does_not_settle_an_unknown() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(UNKNOWN)
    scripted.allocation.on_listed(cloud(**A), begun=11.0, now=11.1)
    assert scripted.condition() is Condition.OUTCOME_UNKNOWN


def test_a_difference_that_bulk_shows_again_asks_for_no_second_look() -> None:
    scripted = ScriptedAllocation(wanted(Mode.OBSERVE, **A))
    scripted.read(DIFFERENT)
    before = scripted.allocation.queue_entry().at
    scripted.allocation.on_listed(cloud(**DIFFERENT), begun=1.0, now=1.1)
    assert scripted.allocation.queue_entry().at == before


def test_a_repaired_drift_costs_no_look_per_bulk_answer_and_one_when_its_memory_ends() -> None:
    scripted = ScriptedAllocation()
    scripted.read(A)
    scripted.update(DIFFERENT, at=10.0)
    scripted.post(Accepted(200, {}), at=10.0)
    scripted.allocation.on_listed(cloud(**A), begun=11.0, now=11.0)
    assert scripted.allocation.queue_entry().at == 11.0  # only a GET may say that an accepted update shows
    scripted.read(A, at=11.5)
    scripted.allocation.on_listed(cloud(**A), begun=70.0, now=70.0)
    assert scripted.allocation.queue_entry().at == 11.5 + RULES.conflict_clear_seconds
    scripted.read(A, at=scripted.allocation.queue_entry().at)
    assert not scripted.allocation.read_back.field_records


def test_one_request_at_a_time() -> None:
    scripted = ScriptedAllocation()
    scripted.allocation.begin_read()
    with pytest.raises(ValueError, match="one request at a time"):
        scripted.allocation.begin_read()
    scripted = ScriptedAllocation()
    update = scripted.update(DIFFERENT)
    with pytest.raises(ValueError, match="cannot begin an update"):
        scripted.intend(update)
    scripted.post(Accepted(200, None))
    with pytest.raises(ValueError, match="no update is under way"):
        scripted.post(Accepted(200, None))


def test_what_no_body_could_be_built_for_is_sent_once_one_can() -> None:
    scripted = ScriptedAllocation(wanted(Mode.ENFORCE, **{"urls.vanity.url": "mark.pieces.cloud"}))
    assert scripted.read({}).update is None
    assert scripted.condition() is Condition.FAILING
    urls = {**cloud()["urls"], "vanity": {"status": "RUNNING"}}
    assert scripted.read({"urls": urls}, at=RESYNC).update is not None
    assert scripted.condition() is not Condition.FAILING


def test_a_check_that_refuses_an_update_is_not_remembered_over_a_restart_and_is_no_failure() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(NotSent("region moved since the plan was reviewed", terminal=True))
    assert scripted.read(DIFFERENT, at=100.0).update is None, "nor is it asked for again"
    assert scripted.condition() is Condition.FAILING
    assert codecs.encode_allocation(scripted.allocation, codecs.Clocks(0.0, scripted.now)) is None


def test_an_update_that_finds_nothing_there_makes_it_missing_and_not_failing() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(Rejected(410, "410 Cloud not found", terminal=True))
    assert scripted.condition() is Condition.MISSING
    assert scripted.allocation.queue_entry().at == RULES.missing_first_seconds
    assert scripted.read(DIFFERENT, at=60.0).update is None, (
        "a server that says both is not asked again and again"
    )
    assert scripted.condition() is Condition.FAILING
    assert scripted.read(Missing(), at=120.0).update is None
    assert scripted.read(DIFFERENT, at=180.0).update is not None, "it was gone and is back"


def test_a_bulk_answer_that_is_equal_ends_the_doubt_and_the_wait_for_a_status() -> None:
    scripted = ScriptedAllocation()
    scripted.read({**DIFFERENT, "status": {"cloud": "PENDING"}})
    doubts = []
    for at, reported in (50.0, {"region": "y", "version": "1"}), (60.0, A):
        scripted.allocation.on_listed(cloud(**reported), begun=at, now=at)
        doubts.append(scripted.allocation.list_differs)
    assert doubts == [True, False]
    scripted.read({**DIFFERENT, "status": {"cloud": "PENDING"}}, at=5000.0)
    assert scripted.condition() is Condition.PENDING, "it has not been so all the while"
