"""What follows from responses: unknown, partly applied, ignored, in conflict; one example each."""

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
    cloud,
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


def test_a_partly_applied_update_is_ignored_after_the_propagation_window_and_not_sent_again() -> None:
    scripted = ScriptedAllocation(wanted(Mode.ENFORCE, region="a", version="1", **{"urls.base.url": "z"}))
    scripted.update({"region": "x", "version": "0"})
    scripted.receive(UNKNOWN)
    partial = scripted.read({"region": "a", "version": "1"}, at=Monotonic(10.0))
    assert verdict(partial).outcome == "applied_partial"
    assert partial.update is None
    assert scripted.allocation.queue_entry().at == Monotonic(RULES.propagation_window_seconds)
    assert scripted.read({"region": "a", "version": "1"}, at=Monotonic(60.0)).update is None
    assert scripted.condition() is Condition.IGNORED


def test_an_accepted_value_that_is_not_stored_is_ignored_and_sent_again_after_six_hours() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(Accepted(200, cloud(**A)))
    assert scripted.allocation.queue_entry().at == Monotonic(1.5)
    assert scripted.read(DIFFERENT, at=Monotonic(1.5)).update is None
    assert scripted.condition() is Condition.PENDING
    assert scripted.read(DIFFERENT, at=Monotonic(60.0)).update is None
    assert scripted.condition() is Condition.IGNORED
    assert scripted.read(DIFFERENT, at=Monotonic(3600.0)).update is None
    assert scripted.read(DIFFERENT, at=Monotonic(60.0 + RULES.ignored_seconds)).update is not None


def test_an_edit_ends_the_wait_of_an_ignored_field() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(Accepted(200, None))
    scripted.read(DIFFERENT, at=Monotonic(60.0))
    scripted.allocation.set_desired(wanted(region="b", version="1"), now=Monotonic(61.0))
    assert scripted.allocation.queue_entry().at == Monotonic(61.0)
    assert scripted.read(DIFFERENT, at=Monotonic(61.0)).update is not None


def test_an_ignored_field_whose_live_value_changes_is_sent_again_sooner() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(Accepted(200, None))
    scripted.read(DIFFERENT, at=Monotonic(60.0))
    scripted.read({"region": "moved", "version": "1"}, at=Monotonic(100.0))
    assert scripted.read(
        {"region": "moved", "version": "1"}, at=Monotonic(100.0 + RULES.ignored_first_seconds)
    ).update


def test_a_field_that_is_changed_back_again_and_again_is_in_conflict_and_slowed_down() -> None:
    scripted = ScriptedAllocation()
    for round_ in range(RULES.conflict_flips + 1):
        at = 100.0 * round_
        decision = scripted.read(DIFFERENT, at=Monotonic(at))
        if round_ == RULES.conflict_flips:
            assert decision.update is None
            break
        assert decision.update is not None
        scripted.begin_update(decision.update)
        scripted.receive(Accepted(200, None))
        assert scripted.read(A, at=Monotonic(at + 2)).update is None
    assert scripted.condition() is Condition.CONFLICT
    assert scripted.read(DIFFERENT, at=scripted.now + RULES.conflict_first_seconds).update is not None


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
