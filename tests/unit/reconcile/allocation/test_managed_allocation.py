"""What forbids an update, what permits it again, and what a list may decide; one example each."""

import pytest

from allocsync.model.api_answers import (
    Accepted,
    Failed,
    Missing,
    NotSent,
    Rejected,
    RejectionClass,
    UpdateAnswer,
)
from allocsync.model.cloud import Json
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Mode
from allocsync.model.times import NEVER, Monotonic
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


def test_410_while_an_outcome_is_unknown_voids_the_intent_and_stops_updates_until_it_exists() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(UNKNOWN)
    missing = scripted.read(Missing(), at=Monotonic(10.0))
    assert verdict(missing).outcome == "void"
    assert scripted.condition() is Condition.MISSING
    assert [
        scripted.allocation.queue_entry().at - scripted.now,
        _next_wait(scripted),
        _next_wait(scripted),
    ] == [
        60.0,
        120.0,
        240.0,
    ]
    back = scripted.read(DIFFERENT)
    assert back.update is not None
    assert not scripted.allocation.read_back.field_records


def _next_wait(scripted: ScriptedAllocation) -> float:
    scripted.read(Missing(), at=scripted.allocation.queue_entry().at)
    return scripted.allocation.queue_entry().at - scripted.now


@pytest.mark.parametrize(
    "answer", [Rejected(423, "423", RejectionClass.NOT_NOW), NotSent("connection refused")]
)
def test_an_update_that_was_not_applied_is_sent_again_after_its_backoff(answer: UpdateAnswer) -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(answer, delay_seconds=7.0)
    assert scripted.allocation.queue_entry().at == Monotonic(7.0)
    assert scripted.allocation.queue_entry().priority is Priority.RETRY
    assert scripted.allocation.queue_entry().operation is Operation.WRITE
    assert scripted.read(DIFFERENT, at=Monotonic(7.0)).update is not None


def test_an_edit_ends_the_backoff_but_not_retry_after() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(Rejected(429, "429", RejectionClass.NOT_NOW, retry_after_seconds=30), delay_seconds=30.0)
    scripted.allocation.set_desired(wanted(region="b", version="1"), now=Monotonic(1.0))
    assert scripted.allocation.queue_entry().at == Monotonic(30.0)


def test_a_rejected_body_is_sent_again_once_the_live_object_changes() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(Rejected(400, "400 Bad Request", RejectionClass.BODY))
    assert scripted.condition() is Condition.FAILING
    assert scripted.read(DIFFERENT, at=Monotonic(300.0)).update is None
    assert scripted.read({"region": "moved", "version": "1"}, at=Monotonic(301.0)).update is not None


def test_a_body_that_violates_the_schema_is_not_sent() -> None:
    scripted = ScriptedAllocation(wanted(Mode.ENFORCE, **{"urls.vanity.url": "mark.pieces.cloud"}))
    assert scripted.read({}).update is None
    assert scripted.condition() is Condition.FAILING
    assert "urls.vanity.status" in scripted.allocation.write_backoff.error


def test_a_body_that_cannot_be_merged_is_not_sent() -> None:
    scripted = ScriptedAllocation(wanted(Mode.ENFORCE, **{"urls.base.url": "mark.pieces.cloud"}))
    assert scripted.read({"urls": []}).update is None
    assert "not an object" in scripted.allocation.write_backoff.error


def test_nothing_is_sent_while_a_status_is_pending_and_it_fails_after_ten_minutes() -> None:
    scripted = ScriptedAllocation()
    busy: dict[str, Json] = {**DIFFERENT, "status": {"cloud": "PENDING"}}
    assert scripted.read(busy).update is None
    assert scripted.condition() is Condition.PENDING
    assert scripted.read(busy, at=Monotonic(RULES.pending_seconds)).update is None
    assert scripted.condition() is Condition.FAILING
    assert scripted.read(DIFFERENT, at=Monotonic(700.0)).update is not None


def test_three_failed_reads_in_a_row_are_failing_until_a_read_succeeds() -> None:
    scripted = ScriptedAllocation()
    for _ in range(3):
        scripted.read(Failed("500 Internal Server Error", 500), at=scripted.allocation.queue_entry().at)
    assert scripted.condition() is Condition.FAILING
    assert scripted.allocation.queue_entry().priority is Priority.RETRY
    scripted.read(A, at=scripted.allocation.queue_entry().at)
    assert scripted.condition() is Condition.IN_SYNC


def test_in_sync_holds_for_three_resync_intervals() -> None:
    scripted = ScriptedAllocation()
    scripted.read(A)
    scripted.now = Monotonic(3 * RESYNC)
    assert scripted.condition() is Condition.IN_SYNC
    scripted.now += 1
    assert scripted.condition() is Condition.PENDING


def test_mode_observe_reports_drift_and_mode_suspend_does_not_read() -> None:
    scripted = ScriptedAllocation(wanted(Mode.OBSERVE, **A))
    assert scripted.read(DIFFERENT).update is None
    assert scripted.condition() is Condition.DRIFTED
    scripted.allocation.set_desired(wanted(Mode.SUSPEND, **A), now=Monotonic(1.0))
    assert scripted.condition() is Condition.SUSPENDED
    assert scripted.allocation.queue_entry().at == NEVER


def test_a_suspended_allocation_with_an_unknown_outcome_is_still_read_back() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(UNKNOWN)
    scripted.allocation.set_desired(wanted(Mode.SUSPEND, **A), now=Monotonic(1.0))
    assert scripted.condition() is Condition.OUTCOME_UNKNOWN
    decision = scripted.read(DIFFERENT, at=scripted.allocation.queue_entry().at)
    assert verdict(decision).outcome == "not_applied"
    assert decision.update is None
    assert scripted.condition() is Condition.SUSPENDED


def test_a_released_allocation_is_read_back_and_never_updated() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(UNKNOWN)
    scripted.allocation.set_desired(None, now=Monotonic(1.0))
    decision = scripted.read(DIFFERENT, at=scripted.allocation.queue_entry().at)
    assert verdict(decision).outcome == "not_applied"
    assert decision.update is None
    assert scripted.condition() is Condition.BLOCKED


def test_a_list_confirms_or_makes_a_read_due_and_decides_nothing_else() -> None:
    scripted = ScriptedAllocation()
    scripted.allocation.on_listed(cloud(**A), begun=Monotonic(1.0), now=Monotonic(1.1))
    assert scripted.condition() is Condition.IN_SYNC
    assert scripted.allocation.queue_entry().at == NEVER
    scripted.allocation.on_listed(cloud(**DIFFERENT), begun=Monotonic(2.0), now=Monotonic(2.1))
    assert scripted.condition() is Condition.IN_SYNC
    assert scripted.allocation.queue_entry().at == Monotonic(2.1)
    assert scripted.allocation.queue_entry().operation is Operation.WRITE
    scripted.read(A, at=Monotonic(2.2))
    scripted.allocation.on_listed(None, begun=Monotonic(3.0), now=Monotonic(3.1))
    assert scripted.condition() is Condition.IN_SYNC
    assert scripted.allocation.queue_entry().at == Monotonic(3.1)


def test_a_list_older_than_the_last_write_is_not_used() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT, at=Monotonic(5.0))
    scripted.receive(Accepted(200, None), at=Monotonic(6.0))
    scripted.read(A, at=Monotonic(7.5))
    scripted.allocation.on_listed(cloud(**DIFFERENT), begun=Monotonic(5.5), now=Monotonic(8.0))
    assert scripted.condition() is Condition.IN_SYNC
    assert scripted.allocation.queue_entry().at > Monotonic(8.0)


def test_a_list_does_not_resolve_an_unknown_outcome() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(UNKNOWN)
    scripted.allocation.on_listed(cloud(**A), begun=Monotonic(11.0), now=Monotonic(11.1))
    assert scripted.condition() is Condition.OUTCOME_UNKNOWN


def test_a_difference_that_the_list_shows_again_makes_no_second_read_due() -> None:
    scripted = ScriptedAllocation(wanted(Mode.OBSERVE, **A))
    scripted.read(DIFFERENT)
    before = scripted.allocation.queue_entry().at
    scripted.allocation.on_listed(cloud(**DIFFERENT), begun=Monotonic(1.0), now=Monotonic(1.1))
    assert scripted.allocation.queue_entry().at == before


def test_repaired_drift_costs_no_read_per_list_and_its_record_ends_without_one() -> None:
    scripted = ScriptedAllocation()
    scripted.read(A)
    scripted.update(DIFFERENT, at=Monotonic(10.0))
    scripted.receive(Accepted(200, {}), at=Monotonic(10.0))
    scripted.allocation.on_listed(cloud(**A), begun=Monotonic(11.0), now=Monotonic(11.0))
    assert scripted.allocation.queue_entry().at == Monotonic(
        11.0
    )  # only a GET can show that an accepted update was applied
    scripted.read(A, at=Monotonic(11.5))
    ended = [
        scripted.allocation.on_listed(cloud(**A), begun=Monotonic(at), now=Monotonic(at))
        for at in (70.0, 86_400.0, 86_500.0)
    ]
    assert scripted.allocation.queue_entry().at == Monotonic(float("inf"))
    assert ended == [False, False, True], "the flip at 10 s is kept for a day"
    assert not scripted.allocation.read_back.field_records


def test_only_one_request_may_be_under_way() -> None:
    scripted = ScriptedAllocation()
    scripted.allocation.begin_read()
    with pytest.raises(ValueError, match="one request at a time"):
        scripted.allocation.begin_read()
    scripted = ScriptedAllocation()
    update = scripted.update(DIFFERENT)
    with pytest.raises(ValueError, match="cannot begin an update"):
        scripted.begin_update(update)
    scripted.receive(Accepted(200, None))
    with pytest.raises(ValueError, match="no update is under way"):
        scripted.receive(Accepted(200, None))


def test_an_update_is_sent_as_soon_as_a_body_can_be_built() -> None:
    scripted = ScriptedAllocation(wanted(Mode.ENFORCE, **{"urls.vanity.url": "mark.pieces.cloud"}))
    assert scripted.read({}).update is None
    assert scripted.condition() is Condition.FAILING
    urls = {**cloud()["urls"], "vanity": {"status": "RUNNING"}}
    assert scripted.read({"urls": urls}, at=Monotonic(RESYNC)).update is not None
    assert scripted.condition() is not Condition.FAILING


def test_an_update_that_a_check_rejected_is_not_stored_and_is_no_failure() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(NotSent("region moved since the plan was reviewed", terminal=True))
    assert scripted.read(DIFFERENT, at=Monotonic(100.0)).update is None, "it is not sent again either"
    assert scripted.condition() is Condition.FAILING
    assert codecs.encode_allocation(scripted.allocation, codecs.Clocks(0.0, scripted.now)) is None


def test_an_update_with_the_response_410_makes_the_allocation_missing_and_not_failing() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(Rejected(410, "410 Cloud not found", RejectionClass.GONE))
    assert scripted.condition() is Condition.MISSING
    assert scripted.allocation.queue_entry().at == Monotonic(RULES.missing_first_seconds)
    assert scripted.read(DIFFERENT, at=Monotonic(60.0)).update is None, (
        "a server that answers reads with 200 and updates with 410 gets no stream of updates"
    )
    assert scripted.condition() is Condition.FAILING
    assert scripted.read(Missing(), at=Monotonic(120.0)).update is None
    assert scripted.read(DIFFERENT, at=Monotonic(180.0)).update is not None, "it was missing and exists again"


def test_a_list_without_differences_ends_the_suspicion_and_the_wait_for_a_pending_status() -> None:
    scripted = ScriptedAllocation()
    scripted.read({**DIFFERENT, "status": {"cloud": "PENDING"}})
    suspicions = []
    for at, reported in (50.0, {"region": "y", "version": "1"}), (60.0, A):
        scripted.allocation.on_listed(cloud(**reported), begun=Monotonic(at), now=Monotonic(at))
        suspicions.append(scripted.allocation.list_differs)
    assert suspicions == [True, False]
    scripted.read({**DIFFERENT, "status": {"cloud": "PENDING"}}, at=Monotonic(5000.0))
    assert scripted.condition() is Condition.PENDING, "the status was not PENDING all the time"


def test_a_read_is_brought_forward_only_if_that_is_sooner_and_never_before_retry_after() -> None:
    scripted = ScriptedAllocation()
    scripted.read(A)
    assert scripted.allocation.read_no_later_than(Monotonic(20.0))
    assert not scripted.allocation.read_no_later_than(Monotonic(30.0))
    assert scripted.allocation.queue_entry().at == Monotonic(20.0)
    scripted.read(Failed("503", 503, retry_after_seconds=2.0), at=Monotonic(20.0))
    scripted.allocation.read_now(Monotonic(20.0))
    assert scripted.allocation.queue_entry().at == Monotonic(22.0)


def test_only_an_idle_allocation_without_an_edit_is_postponed() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    assert not scripted.allocation.postpone_until(Monotonic(100.0))
    scripted.receive(Accepted(200, None))
    assert scripted.allocation.postpone_until(Monotonic(100.0))
    assert scripted.allocation.queue_entry().at == Monotonic(100.0)


def test_an_update_that_the_end_of_the_process_cuts_off_has_an_unknown_outcome() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    intent = scripted.allocation.intent
    assert intent is not None
    scripted.allocation.sent_but_cut_off(intent, "the process ended", Monotonic(1.0))
    assert scripted.condition() is Condition.OUTCOME_UNKNOWN
    assert intent.unknown_since == Monotonic(1.0)
