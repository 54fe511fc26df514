"""What a lane makes of answers: unknown, partial, refused, contested; one example each."""

from allocsync.model.api_answers import Accepted
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Mode
from allocsync.reconcile.allocation.updates import Decision, State
from tests.support.scripted_allocation import DIFFERENT, RULES, UNKNOWN, A, Told, cloud, verdict, wanted


def test_after_a_504_that_was_applied_one_read_settles_it_and_nothing_is_sent_again() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(UNKNOWN)
    assert told.condition() is Condition.OUTCOME_UNKNOWN
    assert told.lane.turn().at == RULES.settle_seconds
    decision = told.look(A, at=10.0)
    assert verdict(decision).outcome == "applied"
    assert decision.update is None
    assert told.condition() is Condition.IN_SYNC


def test_an_early_read_that_shows_nothing_proves_nothing() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(UNKNOWN)
    decision = told.look(DIFFERENT, at=9.9)
    assert decision == Decision()
    assert told.lane.state is State.SETTLING
    assert told.lane.turn().at == 10.0


def test_the_read_at_the_settle_time_is_also_the_snapshot_of_the_second_try() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(UNKNOWN)
    decision = told.look(DIFFERENT, at=10.0)
    assert verdict(decision).outcome == "not_applied"
    assert decision.update is not None


def test_a_file_that_reverts_while_an_update_may_still_land_is_not_in_sync() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(UNKNOWN)
    told.lane.want(wanted(region="x", version="1"), now=1.0)
    assert told.look(DIFFERENT, at=1.0) == Decision()
    assert told.condition() is Condition.OUTCOME_UNKNOWN
    landed = told.look(A, at=10.0)
    assert verdict(landed).outcome == "applied"
    assert landed.update is not None
    assert [change.desired for change in landed.update.changes] == ["x"]


def test_an_update_field_that_ticks_by_itself_is_no_evidence() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(UNKNOWN)
    assert told.look({**DIFFERENT, "updated": {"value": "2026-01-01T00:00:01Z"}}, at=5.0) == Decision()


def test_a_partial_application_is_refused_after_grace_and_not_sent_a_third_time() -> None:
    told = Told(wanted(Mode.ENFORCE, region="a", version="1", **{"urls.base.url": "z"}))
    told.update({"region": "x", "version": "0"})
    told.post(UNKNOWN)
    partial = told.look({"region": "a", "version": "1"}, at=10.0)
    assert verdict(partial).outcome == "applied_partial"
    assert partial.update is None
    assert told.lane.turn().at == RULES.grace_seconds
    assert told.look({"region": "a", "version": "1"}, at=60.0).update is None
    assert told.condition() is Condition.IGNORED


def test_an_echo_that_stores_nothing_is_refused_and_sent_again_after_six_hours_only() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(Accepted(200, cloud(**A)))
    assert told.lane.turn().at == 1.5
    assert told.look(DIFFERENT, at=1.5).update is None
    assert told.condition() is Condition.PENDING
    assert told.look(DIFFERENT, at=60.0).update is None
    assert told.condition() is Condition.IGNORED
    assert told.look(DIFFERENT, at=3600.0).update is None
    assert told.look(DIFFERENT, at=60.0 + RULES.refused_seconds).update is not None


def test_an_edit_forgives_a_refusal() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(Accepted(200, None))
    told.look(DIFFERENT, at=60.0)
    told.lane.want(wanted(region="b", version="1"), now=61.0)
    assert told.lane.turn().at == 61.0
    assert told.look(DIFFERENT, at=61.0).update is not None


def test_a_live_value_that_moves_lets_a_refused_leaf_be_tried_sooner() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(Accepted(200, None))
    told.look(DIFFERENT, at=60.0)
    told.look({"region": "moved", "version": "1"}, at=100.0)
    assert told.look({"region": "moved", "version": "1"}, at=100.0 + RULES.followed_first_seconds).update


def test_a_leaf_that_keeps_being_changed_back_is_contested_and_slowed_down() -> None:
    told = Told()
    for round_ in range(RULES.contested_flips + 1):
        at = 100.0 * round_
        decision = told.look(DIFFERENT, at=at)
        if round_ == RULES.contested_flips:
            assert decision.update is None
            break
        assert decision.update is not None
        told.intend(decision.update)
        told.post(Accepted(200, None))
        assert told.look(A, at=at + 2).update is None
    assert told.condition() is Condition.CONFLICT
    assert told.look(DIFFERENT, at=told.now + RULES.contested_first_seconds).update is not None


def test_the_edit_between_snapshot_and_sending_withdraws_the_update() -> None:
    told = Told()
    update = told.update(DIFFERENT)
    told.lane.want(wanted(region="b", version="1"), now=0.1)
    reason = told.lane.recheck(update, 0.1, commit_seconds=0.0)
    assert reason == "the desired state changed"
    told.lane.withdraw(reason, now=0.1, delay_seconds=2.0)
    assert told.lane.turn().at == 0.1
    rebuilt = told.update(DIFFERENT, at=0.1)
    assert rebuilt.body["region"] == "b"


def test_what_is_held_back_twice_in_a_row_waits_as_after_a_failure_but_not_because_of_edits() -> None:
    told = Told()
    for now, region in enumerate("bcd"):
        told.update(DIFFERENT, at=now)
        told.lane.want(wanted(region=region, version="1"), now=now)
        told.lane.withdraw("the desired state changed", now=now, delay_seconds=9.0)
        assert told.lane.turn().at == now
    update = told.update(DIFFERENT, at=3)
    late = 3 + RULES.fresh_seconds + 1
    assert told.lane.recheck(update, late, commit_seconds=1.0) is None, "as after any that was held back"
    told.lane.withdraw("the snapshot is too old", now=3, delay_seconds=9.0)
    assert told.lane.turn().at == 12
    told = Told()
    for now, look_at in ((0, 0), (1, 10)):
        told.update(DIFFERENT, at=now)
        told.lane.withdraw("the snapshot is too old", now=now, delay_seconds=9.0)
        assert told.lane.turn().at == look_at


def test_a_stale_snapshot_is_not_written_on() -> None:
    told = Told()
    update = told.update(DIFFERENT)
    assert told.lane.recheck(update, RULES.fresh_seconds, commit_seconds=0.0) is None
    assert "older" in (told.lane.recheck(update, RULES.fresh_seconds + 0.1, commit_seconds=0.0) or "")
