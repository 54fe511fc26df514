"""What follows from responses: unknown, partly applied, and checks before sending; one example each."""

from allocsync.model.api_answers import Accepted
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Mode
from allocsync.model.times import Monotonic
from allocsync.reconcile.allocation.updates import Decision, State
from tests.support.scripted_allocation import (
    DIFFERENT,
    RULES,
    UNKNOWN,
    A,
    ScriptedAllocation,
    verdict,
    wanted,
)


def test_one_read_resolves_a_504_that_was_applied_and_nothing_is_sent_again() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(UNKNOWN)
    assert scripted.condition() is Condition.OUTCOME_UNKNOWN
    assert scripted.allocation.queue_entry().at == Monotonic(RULES.settle_seconds)
    decision = scripted.read(A, at=Monotonic(10.0))
    assert verdict(decision).outcome == "applied"
    assert decision.update is None
    assert scripted.condition() is Condition.IN_SYNC


def test_an_early_read_without_the_sent_values_proves_nothing() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(UNKNOWN)
    decision = scripted.read(DIFFERENT, at=Monotonic(9.9))
    assert decision == Decision()
    assert scripted.allocation.state is State.SETTLING
    assert scripted.allocation.queue_entry().at == Monotonic(10.0)


def test_the_read_at_the_settle_time_is_also_the_snapshot_for_the_retry() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(UNKNOWN)
    decision = scripted.read(DIFFERENT, at=Monotonic(10.0))
    assert verdict(decision).outcome == "not_applied"
    assert decision.update is not None


def test_an_edit_back_while_an_update_may_still_be_applied_is_not_in_sync() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(UNKNOWN)
    scripted.allocation.set_desired(wanted(region="x", version="1"), now=Monotonic(1.0))
    assert scripted.read(DIFFERENT, at=Monotonic(1.0)) == Decision()
    assert scripted.condition() is Condition.OUTCOME_UNKNOWN
    late = scripted.read(A, at=Monotonic(10.0))
    assert verdict(late).outcome == "applied"
    assert late.update is not None
    assert [change.desired for change in late.update.changes] == ["x"]


def test_a_field_that_the_server_keeps_changing_is_no_evidence() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(UNKNOWN)
    assert (
        scripted.read({**DIFFERENT, "updated": {"value": "2026-01-01T00:00:01Z"}}, at=Monotonic(5.0))
        == Decision()
    )


def test_the_rest_of_a_partly_applied_update_has_the_propagation_window_and_is_sent_once_more() -> None:
    scripted = ScriptedAllocation(wanted(Mode.ENFORCE, region="a", version="1", **{"urls.base.url": "z"}))
    scripted.update({"region": "x", "version": "0"})
    scripted.receive(UNKNOWN)
    partial = scripted.read({"region": "a", "version": "1"}, at=Monotonic(10.0))
    assert verdict(partial).outcome == "applied_partial"
    assert partial.update is None
    next_read_at = float(scripted.allocation.queue_entry().at)
    assert 10.0 < next_read_at < RULES.propagation_window_seconds
    assert scripted.read({"region": "a", "version": "1"}, at=Monotonic(59.9)).update is None
    again = scripted.read({"region": "a", "version": "1"}, at=Monotonic(60.0)).update
    assert again is not None
    assert [change.field for change in again.changes] == ["urls.base.url"]
    scripted.begin_update(again)
    scripted.receive(Accepted(200, None))
    assert scripted.read({"region": "a", "version": "1"}, at=Monotonic(120.0)).update is None
    assert scripted.condition() is Condition.IGNORED


def test_an_edit_between_snapshot_and_sending_aborts_the_update() -> None:
    scripted = ScriptedAllocation()
    update = scripted.update(DIFFERENT)
    scripted.allocation.set_desired(wanted(region="b", version="1"), now=Monotonic(0.1))
    reason = scripted.allocation.abort_reason(update, Monotonic(0.1), commit_seconds=0.0)
    assert reason == "the desired state changed"
    scripted.allocation.abort_update(reason, now=Monotonic(0.1), delay_seconds=2.0)
    assert scripted.allocation.queue_entry().at == Monotonic(0.1)
    rebuilt = scripted.update(DIFFERENT, at=Monotonic(0.1))
    assert rebuilt.body["region"] == "b"


def test_the_second_abort_in_a_row_waits_as_after_a_failure_but_not_if_edits_caused_it() -> None:
    scripted = ScriptedAllocation()
    for now, region in enumerate("bcd"):
        scripted.update(DIFFERENT, at=Monotonic(now))
        scripted.allocation.set_desired(wanted(region=region, version="1"), now=Monotonic(now))
        scripted.allocation.abort_update("the desired state changed", now=Monotonic(now), delay_seconds=9.0)
        assert scripted.allocation.queue_entry().at == Monotonic(now)
    update = scripted.update(DIFFERENT, at=Monotonic(3))
    late = 3 + RULES.fresh_seconds + 1
    assert scripted.allocation.abort_reason(update, Monotonic(late), commit_seconds=1.0) is None, (
        "after an abort the time of the commit is allowed for"
    )
    scripted.allocation.abort_update("the snapshot is too old", now=Monotonic(3), delay_seconds=9.0)
    assert scripted.allocation.queue_entry().at == Monotonic(12)
    scripted = ScriptedAllocation()
    for now, next_read_at in ((0, 0), (1, 10)):
        scripted.update(DIFFERENT, at=Monotonic(now))
        scripted.allocation.abort_update("the snapshot is too old", now=Monotonic(now), delay_seconds=9.0)
        assert scripted.allocation.queue_entry().at == Monotonic(next_read_at)


def test_no_update_is_sent_on_a_stale_snapshot() -> None:
    scripted = ScriptedAllocation()
    update = scripted.update(DIFFERENT)
    assert (
        scripted.allocation.abort_reason(update, Monotonic(RULES.fresh_seconds), commit_seconds=0.0) is None
    )
    assert "older" in (
        scripted.allocation.abort_reason(update, Monotonic(RULES.fresh_seconds + 0.1), commit_seconds=0.0)
        or ""
    )
