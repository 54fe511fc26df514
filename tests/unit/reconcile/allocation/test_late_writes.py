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
    ScriptedAllocation,
    cloud,
    new_allocation,
    verdict,
    wanted,
)

B = {"region": "b", "version": "1"}
OFFSET = 1e9


def given_up() -> ScriptedAllocation:
    """An update to A whose outcome became unknown at 0 and that was judged not applied at 10."""
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(UNKNOWN)
    assert verdict(scripted.read(DIFFERENT, at=10.0)).outcome == "not_applied"
    return scripted


def test_a_landing_after_the_second_try_was_lost_is_late_and_teaches_the_settle_time() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(UNKNOWN)
    scripted.update(DIFFERENT, at=10.0)
    scripted.post(UNKNOWN, at=10.0)
    late_fields = scripted.read(A, at=25.0)
    assert [(each.sequence, each.outcome) for each in late_fields.findings] == [
        (1, "late_applied"),
        (2, "applied"),
    ]
    assert late_fields.update is None
    assert scripted.allocation.read_back.settle_time.seconds(25.0) == 50.0
    assert scripted.condition() is Condition.IN_SYNC


def test_a_second_try_that_is_taken_for_a_late_landing_does_not_make_the_settle_time_feed_on_itself() -> None:
    scripted = ScriptedAllocation()
    for number in range(5):
        begun = 1000.0 * number
        scripted.update(DIFFERENT, at=begun)
        scripted.post(UNKNOWN)
        settle_time = scripted.allocation.read_back.settle_time.seconds(begun)
        scripted.update(DIFFERENT, at=begun + settle_time)
        scripted.post(UNKNOWN)
        late_fields = scripted.read(A, at=begun + 2 * settle_time)
        assert late_fields.findings[0].outcome == "late_applied"
    assert scripted.allocation.read_back.settle_time.seconds(5000.0) == 4 * RULES.settle_seconds


def test_a_late_landing_over_a_newer_update_is_repaired_and_is_neither_fight_nor_refusal() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(UNKNOWN)
    scripted.allocation.set_desired(wanted(**B), now=1.0)
    scripted.update(DIFFERENT, at=10.0)
    scripted.post(Accepted(200, cloud(**B)), at=12.0)
    assert scripted.read(B, at=13.5).update is None
    late_fields = scripted.read(A, at=25.0)
    assert verdict(late_fields).outcome == "late_applied"
    assert verdict(late_fields).sequence == 1
    assert late_fields.update is not None
    assert late_fields.update.body["region"] == "b"
    scripted.intend(late_fields.update)
    scripted.post(Accepted(200, cloud(**B)), at=25.0)
    scripted.read(B, at=26.5)
    assert scripted.condition() is Condition.IN_SYNC
    assert not scripted.allocation.read_back.field_records, "it was counted as a fight"


def test_an_accepted_value_that_shows_after_somebody_elses_is_no_late_landing_of_an_older_update() -> None:
    scripted = given_up()
    scripted.update(DIFFERENT, at=10.0)
    scripted.post(Accepted(200, None), at=10.0)
    assert scripted.read({**DIFFERENT, "region": "theirs"}, at=11.5).findings == ()
    assert scripted.read(A, at=13.0).findings == ()


def test_a_foreign_change_that_a_late_landing_undoes_is_told_and_not_repaired() -> None:
    scripted = ScriptedAllocation()
    theirs = {"user": "somebody else"}
    scripted.update(DIFFERENT)
    scripted.post(UNKNOWN)
    scripted.update({**DIFFERENT, **theirs}, at=10.0)
    scripted.post(Accepted(200, None), at=10.0)
    assert scripted.read({**A, **theirs}, at=11.5).update is None
    undone = scripted.read(A, at=25.0)
    assert [each.outcome for each in undone.findings] == ["stale_overwrite"]
    assert undone.update is None


def test_an_overwrite_is_told_of_the_update_whose_values_came_with_it_and_the_older_one_may_still_land() -> (
    None
):
    scripted = ScriptedAllocation()
    theirs = {"user": "somebody else"}
    scripted.update(DIFFERENT)
    scripted.post(UNKNOWN)
    scripted.allocation.set_desired(wanted(**B), now=1.0)
    scripted.update(DIFFERENT, at=10.0)
    scripted.post(UNKNOWN)
    scripted.update({**DIFFERENT, **theirs}, at=20.0)
    scripted.post(Accepted(200, None), at=20.0)
    assert scripted.read({**B, **theirs}, at=21.5).findings == ()
    undone = scripted.read(B, at=50.0)
    assert [(each.sequence, each.outcome) for each in undone.findings] == [(2, "stale_overwrite")]
    late_fields = scripted.read(A, at=70.0)
    assert (1, "late_applied") in [(each.sequence, each.outcome) for each in late_fields.findings]


def test_an_accepted_update_that_does_not_show_is_no_sure_landing_of_an_older_one() -> None:
    scripted = ScriptedAllocation()
    theirs = {"user": "somebody else"}
    scripted.update(DIFFERENT)
    scripted.post(UNKNOWN)
    scripted.update(DIFFERENT, at=10.0)
    scripted.post(Accepted(200, None), at=10.0)
    scripted.read({**A, **theirs}, at=11.5)
    scripted.allocation.set_desired(wanted(**B), now=20.0)
    scripted.update({**A, **theirs}, at=20.0)
    scripted.post(Accepted(200, None), at=20.0)
    for at, fields in ((21.0, A), (22.0, B)):  # back and forth: what was accepted is forgotten
        scripted.allocation.set_desired(wanted(**fields), now=at)
        scripted.read({**A, **theirs}, at=at)
    scripted.read({**B, **theirs}, at=40.0)
    late_fields = scripted.read(A, at=60.0)
    assert "stale_overwrite" in {each.outcome for each in late_fields.findings}


def test_what_an_update_that_is_not_honoured_explains_as_well_does_not_hide_the_landing_that_comes() -> None:
    scripted = ScriptedAllocation()
    theirs, before = {"user": "somebody else"}, {"region": "x", "version": "1"}
    scripted.update(before)
    scripted.post(UNKNOWN)
    scripted.allocation.set_desired(wanted(region="c", version="2"), now=1.0)
    scripted.update({**before, **theirs}, at=10.0)
    scripted.post(Accepted(200, None), at=10.0)
    scripted.read({**before, **theirs}, at=11.5)
    # The version is still what the first update carries too: it may have landed, in part undone by somebody.
    unclear = scripted.read({**before, **theirs}, at=10.0 + RULES.propagation_window_seconds)
    assert "late_applied" in {each.outcome for each in unclear.findings}
    late_fields = scripted.read(A, at=90.0)
    assert "stale_overwrite" in {each.outcome for each in late_fields.findings}


def test_a_foreign_change_that_the_open_update_itself_undoes_when_it_lands_is_told() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(UNKNOWN)
    assert scripted.read({**DIFFERENT, "user": "somebody else"}, at=4.0).findings == ()
    late_fields = scripted.read(A, at=7.0)
    assert [(each.sequence, each.outcome) for each in late_fields.findings] == [
        (1, "applied"),
        (1, "stale_overwrite"),
    ]
    assert late_fields.findings[1].waited_seconds == 7.0
    assert late_fields.update is None, "it is not ours to write"


def test_what_was_open_when_the_process_ended_waits_a_full_settle_time_from_the_new_start() -> None:
    scripted = ScriptedAllocation()
    record = scripted.update(DIFFERENT).record("g")
    allocation = new_allocation()
    allocation.outcome_unknown_since_restart(OpenIntent(7, ID, 0.0, record), 100.0)
    allocation.set_desired(wanted(**A), now=100.0)
    assert allocation.state is State.SETTLING
    assert allocation.queue_entry().at == 100.0 + RULES.settle_seconds
    scripted.allocation = allocation
    assert scripted.read(DIFFERENT, at=109.0).update is None
    assert verdict(scripted.read(DIFFERENT, at=110.0)).sequence == 7


@pytest.mark.parametrize("moment", ["given up", "accepted", "refused", "contested", "backing off"])
def test_what_a_lane_remembers_comes_back_equal(moment: str) -> None:
    scripted = ScriptedAllocation()
    if moment == "given up":
        scripted = given_up()
    elif moment in {"accepted", "refused"}:
        scripted.update(DIFFERENT)
        scripted.post(Accepted(200, None))
        scripted.read(DIFFERENT, at=1.5 if moment == "accepted" else 60.0)
    elif moment == "contested":
        for at in (0.0, 100.0, 200.0, 300.0):
            update = scripted.read(DIFFERENT, at=at).update
            if update is not None:
                scripted.intend(update)
                scripted.post(Accepted(200, None))
                scripted.read(A, at=at + 2)
    else:
        scripted.update(DIFFERENT)
        scripted.post(UNKNOWN)
        scripted.read(Missing(), at=10.0)
    kept = codecs.encode_allocation(scripted.allocation, codecs.Clocks(OFFSET, scripted.now))
    assert kept
    kept = json.loads(json.dumps(kept))
    again = new_allocation()
    clocks = codecs.Clocks(OFFSET + 5.0, scripted.now - 5.0)  # another process: its clock began elsewhere
    codecs.decode_allocation(again, kept, clocks)
    assert codecs.encode_allocation(again, clocks) == kept
    again.set_desired(wanted(**A), now=scripted.now - 5.0)
    before, scripted.allocation = scripted.allocation, again
    scripted.now -= 5.0
    update = scripted.read(DIFFERENT).update
    held = [
        before.read_back.field_records.blocked_until(each, scripted.now + 5.0, RULES)
        for each in again.changes
    ]
    assert (update is None) == (
        None not in held
        or bool(again.write_backoff.blocked_until(again.changes, scripted.now, begun=scripted.now))
    )


def test_what_was_refused_is_not_sent_again_by_a_daemon_that_is_restarted_twenty_times() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.post(Accepted(200, None))
    for restart in range(20):
        assert scripted.read(DIFFERENT, at=60.0 * (restart + 1)).update is None, restart
        kept = json.loads(
            json.dumps(codecs.encode_allocation(scripted.allocation, codecs.Clocks(OFFSET, scripted.now)))
        )
        scripted.allocation = new_allocation()
        codecs.decode_allocation(scripted.allocation, kept, codecs.Clocks(OFFSET, scripted.now))
        scripted.allocation.set_desired(wanted(**A), now=scripted.now)
    assert scripted.read(DIFFERENT).update is None
    assert scripted.condition() is Condition.IGNORED
