"""What a lane makes of answers: unknown, partial, refused, contested; one example each."""

from allocsync.model.api_answers import Accepted
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Mode
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


def test_after_a_504_that_was_applied_one_read_settles_it_and_nothing_is_sent_again() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(UNKNOWN)
    assert scripted.condition() is Condition.OUTCOME_UNKNOWN
    assert scripted.allocation.queue_entry().at == RULES.settle_seconds
    decision = scripted.read(A, at=10.0)
    assert verdict(decision).outcome == "applied"
    assert decision.update is None
    assert scripted.condition() is Condition.IN_SYNC


def test_an_early_read_that_shows_nothing_proves_nothing() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(UNKNOWN)
    decision = scripted.read(DIFFERENT, at=9.9)
    assert decision == Decision()
    assert scripted.allocation.state is State.SETTLING
    assert scripted.allocation.queue_entry().at == 10.0


def test_the_read_at_the_settle_time_is_also_the_snapshot_of_the_second_try() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(UNKNOWN)
    decision = scripted.read(DIFFERENT, at=10.0)
    assert verdict(decision).outcome == "not_applied"
    assert decision.update is not None


def test_a_file_that_reverts_while_an_update_may_still_land_is_not_in_sync() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(UNKNOWN)
    scripted.allocation.set_desired(wanted(region="x", version="1"), now=1.0)
    assert scripted.read(DIFFERENT, at=1.0) == Decision()
    assert scripted.condition() is Condition.OUTCOME_UNKNOWN
    late_fields = scripted.read(A, at=10.0)
    assert verdict(late_fields).outcome == "applied"
    assert late_fields.update is not None
    assert [change.desired for change in late_fields.update.changes] == ["x"]


def test_an_update_field_that_ticks_by_itself_is_no_evidence() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(UNKNOWN)
    assert scripted.read({**DIFFERENT, "updated": {"value": "2026-01-01T00:00:01Z"}}, at=5.0) == Decision()


def test_a_partial_application_is_refused_after_grace_and_not_sent_a_third_time() -> None:
    scripted = ScriptedAllocation(wanted(Mode.ENFORCE, region="a", version="1", **{"urls.base.url": "z"}))
    scripted.update({"region": "x", "version": "0"})
    scripted.post(UNKNOWN)
    partial = scripted.read({"region": "a", "version": "1"}, at=10.0)
    assert verdict(partial).outcome == "applied_partial"
    assert partial.update is None
    assert scripted.allocation.queue_entry().at == RULES.propagation_window_seconds
    assert scripted.read({"region": "a", "version": "1"}, at=60.0).update is None
    assert scripted.condition() is Condition.IGNORED


def test_an_echo_that_stores_nothing_is_refused_and_sent_again_after_six_hours_only() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(Accepted(200, cloud(**A)))
    assert scripted.allocation.queue_entry().at == 1.5
    assert scripted.read(DIFFERENT, at=1.5).update is None
    assert scripted.condition() is Condition.PENDING
    assert scripted.read(DIFFERENT, at=60.0).update is None
    assert scripted.condition() is Condition.IGNORED
    assert scripted.read(DIFFERENT, at=3600.0).update is None
    assert scripted.read(DIFFERENT, at=60.0 + RULES.ignored_seconds).update is not None


def test_an_edit_forgives_a_refusal() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(Accepted(200, None))
    scripted.read(DIFFERENT, at=60.0)
    scripted.allocation.set_desired(wanted(region="b", version="1"), now=61.0)
    assert scripted.allocation.queue_entry().at == 61.0
    assert scripted.read(DIFFERENT, at=61.0).update is not None


def test_a_live_value_that_moves_lets_a_refused_leaf_be_tried_sooner() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(Accepted(200, None))
    scripted.read(DIFFERENT, at=60.0)
    scripted.read({"region": "moved", "version": "1"}, at=100.0)
    assert scripted.read({"region": "moved", "version": "1"}, at=100.0 + RULES.ignored_first_seconds).update


def test_a_leaf_that_keeps_being_changed_back_is_contested_and_slowed_down() -> None:
    scripted = ScriptedAllocation()
    for round_ in range(RULES.conflict_flips + 1):
        at = 100.0 * round_
        decision = scripted.read(DIFFERENT, at=at)
        if round_ == RULES.conflict_flips:
            assert decision.update is None
            break
        assert decision.update is not None
        scripted.intend(decision.update)
        scripted.post(Accepted(200, None))
        assert scripted.read(A, at=at + 2).update is None
    assert scripted.condition() is Condition.CONFLICT
    assert scripted.read(DIFFERENT, at=scripted.now + RULES.conflict_first_seconds).update is not None


def test_the_edit_between_snapshot_and_sending_withdraws_the_update() -> None:
    scripted = ScriptedAllocation()
    update = scripted.update(DIFFERENT)
    scripted.allocation.set_desired(wanted(region="b", version="1"), now=0.1)
    reason = scripted.allocation.abort_reason(update, 0.1, commit_seconds=0.0)
    assert reason == "the desired state changed"
    scripted.allocation.abort_update(reason, now=0.1, delay_seconds=2.0)
    assert scripted.allocation.queue_entry().at == 0.1
    build_aborts = scripted.update(DIFFERENT, at=0.1)
    assert build_aborts.body["region"] == "b"


def test_what_is_held_back_twice_in_a_row_waits_as_after_a_failure_but_not_because_of_edits() -> None:
    scripted = ScriptedAllocation()
    for now, region in enumerate("bcd"):
        scripted.update(DIFFERENT, at=now)
        scripted.allocation.set_desired(wanted(region=region, version="1"), now=now)
        scripted.allocation.abort_update("the desired state changed", now=now, delay_seconds=9.0)
        assert scripted.allocation.queue_entry().at == now
    update = scripted.update(DIFFERENT, at=3)
    late = 3 + RULES.fresh_seconds + 1
    assert scripted.allocation.abort_reason(update, late, commit_seconds=1.0) is None, (
        "as after any that was held back"
    )
    scripted.allocation.abort_update("the snapshot is too old", now=3, delay_seconds=9.0)
    assert scripted.allocation.queue_entry().at == 12
    scripted = ScriptedAllocation()
    for now, next_read_at in ((0, 0), (1, 10)):
        scripted.update(DIFFERENT, at=now)
        scripted.allocation.abort_update("the snapshot is too old", now=now, delay_seconds=9.0)
        assert scripted.allocation.queue_entry().at == next_read_at


def test_a_stale_snapshot_is_not_written_on() -> None:
    scripted = ScriptedAllocation()
    update = scripted.update(DIFFERENT)
    assert scripted.allocation.abort_reason(update, RULES.fresh_seconds, commit_seconds=0.0) is None
    assert "older" in (
        scripted.allocation.abort_reason(update, RULES.fresh_seconds + 0.1, commit_seconds=0.0) or ""
    )
