"""Updates that land late: told apart from fights, repaired, remembered over a restart; one example each."""

import json

import pytest

from allocsync.model.api_answers import Accepted, Missing
from allocsync.model.condition import Condition
from allocsync.model.intent_record import OpenIntent
from allocsync.reconcile import checkpoint_codecs as codecs
from allocsync.reconcile.allocation.updates import State
from tests.support.scripted_allocation import (
    DIFFERENT,
    ID,
    RULES,
    UNKNOWN,
    A,
    Told,
    cloud,
    new_lane,
    verdict,
    wanted,
)

B = {"region": "b", "version": "1"}
OFFSET = 1e9


def given_up() -> Told:
    """An update to A whose outcome became unknown at 0 and that was judged not applied at 10."""
    told = Told()
    told.update(DIFFERENT)
    told.post(UNKNOWN)
    assert verdict(told.look(DIFFERENT, at=10.0)).outcome == "not_applied"
    return told


def test_a_landing_after_the_second_try_was_lost_is_late_and_teaches_the_settle_time() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(UNKNOWN)
    told.update(DIFFERENT, at=10.0)
    told.post(UNKNOWN, at=10.0)
    landed = told.look(A, at=25.0)
    assert [(each.sequence, each.outcome) for each in landed.findings] == [
        (1, "late_applied"),
        (2, "applied"),
    ]
    assert landed.update is None
    assert told.lane.past.settle.seconds(25.0) == 50.0
    assert told.condition() is Condition.IN_SYNC


def test_a_second_try_that_is_taken_for_a_late_landing_does_not_make_the_settle_time_feed_on_itself() -> None:
    told = Told()
    for number in range(5):
        begun = 1000.0 * number
        told.update(DIFFERENT, at=begun)
        told.post(UNKNOWN)
        settle = told.lane.past.settle.seconds(begun)
        told.update(DIFFERENT, at=begun + settle)
        told.post(UNKNOWN)
        landed = told.look(A, at=begun + 2 * settle)
        assert landed.findings[0].outcome == "late_applied"
    assert told.lane.past.settle.seconds(5000.0) == 4 * RULES.settle_seconds


def test_a_late_landing_over_a_newer_update_is_repaired_and_is_neither_fight_nor_refusal() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(UNKNOWN)
    told.lane.want(wanted(**B), now=1.0)
    told.update(DIFFERENT, at=10.0)
    told.post(Accepted(200, cloud(**B)), at=12.0)
    assert told.look(B, at=13.5).update is None
    landed = told.look(A, at=25.0)
    assert verdict(landed).outcome == "late_applied"
    assert verdict(landed).sequence == 1
    assert landed.update is not None
    assert landed.update.body["region"] == "b"
    told.intend(landed.update)
    told.post(Accepted(200, cloud(**B)), at=25.0)
    told.look(B, at=26.5)
    assert told.condition() is Condition.IN_SYNC
    assert not told.lane.past.leaves, "it was counted as a fight"


def test_an_accepted_value_that_shows_after_somebody_elses_is_no_late_landing_of_an_older_update() -> None:
    told = given_up()
    told.update(DIFFERENT, at=10.0)
    told.post(Accepted(200, None), at=10.0)
    assert told.look({**DIFFERENT, "region": "theirs"}, at=11.5).findings == ()
    assert told.look(A, at=13.0).findings == ()


def test_a_foreign_change_that_a_late_landing_undoes_is_told_and_not_repaired() -> None:
    told = Told()
    theirs = {"user": "somebody else"}
    told.update(DIFFERENT)
    told.post(UNKNOWN)
    told.update({**DIFFERENT, **theirs}, at=10.0)
    told.post(Accepted(200, None), at=10.0)
    assert told.look({**A, **theirs}, at=11.5).update is None
    undone = told.look(A, at=25.0)
    assert [each.outcome for each in undone.findings] == ["stale_overwrite"]
    assert undone.update is None


def test_an_overwrite_is_told_of_the_update_whose_values_came_with_it_and_the_older_one_may_still_land() -> (
    None
):
    told = Told()
    theirs = {"user": "somebody else"}
    told.update(DIFFERENT)
    told.post(UNKNOWN)
    told.lane.want(wanted(**B), now=1.0)
    told.update(DIFFERENT, at=10.0)
    told.post(UNKNOWN)
    told.update({**DIFFERENT, **theirs}, at=20.0)
    told.post(Accepted(200, None), at=20.0)
    assert told.look({**B, **theirs}, at=21.5).findings == ()
    undone = told.look(B, at=50.0)
    assert [(each.sequence, each.outcome) for each in undone.findings] == [(2, "stale_overwrite")]
    landed = told.look(A, at=70.0)
    assert (1, "late_applied") in [(each.sequence, each.outcome) for each in landed.findings]


def test_an_accepted_update_that_does_not_show_is_no_sure_landing_of_an_older_one() -> None:
    told = Told()
    theirs = {"user": "somebody else"}
    told.update(DIFFERENT)
    told.post(UNKNOWN)
    told.update(DIFFERENT, at=10.0)
    told.post(Accepted(200, None), at=10.0)
    told.look({**A, **theirs}, at=11.5)
    told.lane.want(wanted(**B), now=20.0)
    told.update({**A, **theirs}, at=20.0)
    told.post(Accepted(200, None), at=20.0)
    for at, leaves in ((21.0, A), (22.0, B)):  # back and forth: what was accepted is forgotten
        told.lane.want(wanted(**leaves), now=at)
        told.look({**A, **theirs}, at=at)
    told.look({**B, **theirs}, at=40.0)
    landed = told.look(A, at=60.0)
    assert "stale_overwrite" in {each.outcome for each in landed.findings}


def test_what_an_update_that_is_not_honoured_explains_as_well_does_not_hide_the_landing_that_comes() -> None:
    told = Told()
    theirs, before = {"user": "somebody else"}, {"region": "x", "version": "1"}
    told.update(before)
    told.post(UNKNOWN)
    told.lane.want(wanted(region="c", version="2"), now=1.0)
    told.update({**before, **theirs}, at=10.0)
    told.post(Accepted(200, None), at=10.0)
    told.look({**before, **theirs}, at=11.5)
    # The version is still what the first update carries too: it may have landed, in part undone by somebody.
    unclear = told.look({**before, **theirs}, at=10.0 + RULES.grace_seconds)
    assert "late_applied" in {each.outcome for each in unclear.findings}
    landed = told.look(A, at=90.0)
    assert "stale_overwrite" in {each.outcome for each in landed.findings}


def test_a_foreign_change_that_the_open_update_itself_undoes_when_it_lands_is_told() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(UNKNOWN)
    assert told.look({**DIFFERENT, "user": "somebody else"}, at=4.0).findings == ()
    landed = told.look(A, at=7.0)
    assert [(each.sequence, each.outcome) for each in landed.findings] == [
        (1, "applied"),
        (1, "stale_overwrite"),
    ]
    assert landed.findings[1].waited_seconds == 7.0
    assert landed.update is None, "it is not ours to write"


def test_what_was_open_when_the_process_ended_waits_a_full_settle_time_from_the_new_start() -> None:
    told = Told()
    record = told.update(DIFFERENT).record("g")
    lane = new_lane()
    lane.outcome_unknown_since_restart(OpenIntent(7, ID, 0.0, record), 100.0)
    lane.want(wanted(**A), now=100.0)
    assert lane.state is State.SETTLING
    assert lane.turn().at == 100.0 + RULES.settle_seconds
    told.lane = lane
    assert told.look(DIFFERENT, at=109.0).update is None
    assert verdict(told.look(DIFFERENT, at=110.0)).sequence == 7


@pytest.mark.parametrize("moment", ["given up", "accepted", "refused", "contested", "backing off"])
def test_what_a_lane_remembers_comes_back_equal(moment: str) -> None:
    told = Told()
    if moment == "given up":
        told = given_up()
    elif moment in {"accepted", "refused"}:
        told.update(DIFFERENT)
        told.post(Accepted(200, None))
        told.look(DIFFERENT, at=1.5 if moment == "accepted" else 60.0)
    elif moment == "contested":
        for at in (0.0, 100.0, 200.0, 300.0):
            update = told.look(DIFFERENT, at=at).update
            if update is not None:
                told.intend(update)
                told.post(Accepted(200, None))
                told.look(A, at=at + 2)
    else:
        told.update(DIFFERENT)
        told.post(UNKNOWN)
        told.look(Missing(), at=10.0)
    kept = codecs.encode_allocation(told.lane, codecs.Clocks(OFFSET, told.now))
    assert kept
    kept = json.loads(json.dumps(kept))
    again = new_lane()
    clocks = codecs.Clocks(OFFSET + 5.0, told.now - 5.0)  # another process: its clock began elsewhere
    codecs.decode_allocation(again, kept, clocks)
    assert codecs.encode_allocation(again, clocks) == kept
    again.want(wanted(**A), now=told.now - 5.0)
    before, told.lane = told.lane, again
    told.now -= 5.0
    update = told.look(DIFFERENT).update
    held = [before.past.leaves.hold(each, told.now + 5.0, RULES) for each in again.changes]
    assert (update is None) == (
        None not in held or bool(again.restraint.forbids(again.changes, told.now, begun=told.now))
    )


def test_what_was_refused_is_not_sent_again_by_a_daemon_that_is_restarted_twenty_times() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(Accepted(200, None))
    for restart in range(20):
        assert told.look(DIFFERENT, at=60.0 * (restart + 1)).update is None, restart
        kept = json.loads(json.dumps(codecs.encode_allocation(told.lane, codecs.Clocks(OFFSET, told.now))))
        told.lane = new_lane()
        codecs.decode_allocation(told.lane, kept, codecs.Clocks(OFFSET, told.now))
        told.lane.want(wanted(**A), now=told.now)
    assert told.look(DIFFERENT).update is None
    assert told.condition() is Condition.IGNORED
