"""Late writes: distinguished from conflicts, repaired, and restored after a restart; one example each."""

import json

import pytest

from allocsync.model.api_answers import Accepted, Missing
from allocsync.model.condition import Condition
from allocsync.model.intent_record import OpenIntent
from allocsync.model.times import Monotonic, WallTime
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
    scripted.receive(UNKNOWN)
    assert verdict(scripted.read(DIFFERENT, at=Monotonic(10.0))).outcome == "not_applied"
    return scripted


def test_a_late_application_after_a_lost_retry_lengthens_the_settle_time() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(UNKNOWN)
    scripted.update(DIFFERENT, at=Monotonic(10.0))
    scripted.receive(UNKNOWN, at=Monotonic(10.0))
    late = scripted.read(A, at=Monotonic(25.0))
    assert [(each.sequence, each.outcome) for each in late.findings] == [
        (1, "late_applied"),
        (2, "applied"),
    ]
    assert late.update is None
    assert scripted.allocation.read_back.settle_time.seconds(Monotonic(25.0)) == 50.0
    assert scripted.condition() is Condition.IN_SYNC


def test_a_retry_that_is_taken_for_a_late_application_lengthens_the_settle_time_only_once() -> None:
    scripted = ScriptedAllocation()
    for number in range(5):
        begun = 1000.0 * number
        scripted.update(DIFFERENT, at=Monotonic(begun))
        scripted.receive(UNKNOWN)
        settle_time = scripted.allocation.read_back.settle_time.seconds(Monotonic(begun))
        scripted.update(DIFFERENT, at=Monotonic(begun + settle_time))
        scripted.receive(UNKNOWN)
        late = scripted.read(A, at=Monotonic(begun + 2 * settle_time))
        assert late.findings[0].outcome == "late_applied"
    assert scripted.allocation.read_back.settle_time.seconds(Monotonic(5000.0)) == 4 * RULES.settle_seconds


def test_a_late_application_over_a_newer_update_is_repaired_and_is_no_conflict() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(UNKNOWN)
    scripted.allocation.set_desired(wanted(**B), now=Monotonic(1.0))
    scripted.update(DIFFERENT, at=Monotonic(10.0))
    scripted.receive(Accepted(200, cloud(**B)), at=Monotonic(12.0))
    assert scripted.read(B, at=Monotonic(13.5)).update is None
    late = scripted.read(A, at=Monotonic(25.0))
    assert verdict(late).outcome == "late_applied"
    assert verdict(late).sequence == 1
    assert late.update is not None
    assert late.update.body["region"] == "b"
    scripted.begin_update(late.update)
    scripted.receive(Accepted(200, cloud(**B)), at=Monotonic(25.0))
    scripted.read(B, at=Monotonic(26.5))
    assert scripted.condition() is Condition.IN_SYNC
    records = scripted.allocation.read_back.field_records.records
    assert not any(record.flips for record in records.values()), "it was counted as a conflict"


def test_an_accepted_value_that_shows_after_a_foreign_value_is_no_late_application() -> None:
    scripted = given_up()
    scripted.update(DIFFERENT, at=Monotonic(10.0))
    scripted.receive(Accepted(200, None), at=Monotonic(10.0))
    assert scripted.read({**DIFFERENT, "region": "theirs"}, at=Monotonic(11.5)).findings == ()
    assert scripted.read(A, at=Monotonic(13.0)).findings == ()


def test_a_foreign_change_that_a_late_application_undoes_is_reported_and_not_repaired() -> None:
    scripted = ScriptedAllocation()
    theirs = {"user": "somebody else"}
    scripted.update(DIFFERENT)
    scripted.receive(UNKNOWN)
    scripted.update({**DIFFERENT, **theirs}, at=Monotonic(10.0))
    scripted.receive(Accepted(200, None), at=Monotonic(10.0))
    assert scripted.read({**A, **theirs}, at=Monotonic(11.5)).update is None
    overwritten = scripted.read(A, at=Monotonic(25.0))
    assert [each.outcome for each in overwritten.findings] == ["stale_overwrite"]
    assert overwritten.update is None


def test_an_overwrite_is_attributed_to_the_update_whose_values_show_and_an_older_one_stays() -> None:
    scripted = ScriptedAllocation()
    theirs = {"user": "somebody else"}
    scripted.update(DIFFERENT)
    scripted.receive(UNKNOWN)
    scripted.allocation.set_desired(wanted(**B), now=Monotonic(1.0))
    scripted.update(DIFFERENT, at=Monotonic(10.0))
    scripted.receive(UNKNOWN)
    scripted.update({**DIFFERENT, **theirs}, at=Monotonic(20.0))
    scripted.receive(Accepted(200, None), at=Monotonic(20.0))
    assert scripted.read({**B, **theirs}, at=Monotonic(21.5)).findings == ()
    overwritten = scripted.read(B, at=Monotonic(50.0))
    assert [(each.sequence, each.outcome) for each in overwritten.findings] == [(2, "stale_overwrite")]
    late = scripted.read(A, at=Monotonic(70.0))
    assert (1, "late_applied") in [(each.sequence, each.outcome) for each in late.findings]


def test_an_accepted_update_that_does_not_show_is_no_certain_application_of_an_older_one() -> None:
    scripted = ScriptedAllocation()
    theirs = {"user": "somebody else"}
    scripted.update(DIFFERENT)
    scripted.receive(UNKNOWN)
    scripted.update(DIFFERENT, at=Monotonic(10.0))
    scripted.receive(Accepted(200, None), at=Monotonic(10.0))
    scripted.read({**A, **theirs}, at=Monotonic(11.5))
    scripted.allocation.set_desired(wanted(**B), now=Monotonic(20.0))
    scripted.update({**A, **theirs}, at=Monotonic(20.0))
    scripted.receive(Accepted(200, None), at=Monotonic(20.0))
    for at, fields in ((21.0, A), (22.0, B)):  # an edit and its reversal: the accepted values are forgotten
        scripted.allocation.set_desired(wanted(**fields), now=Monotonic(at))
        scripted.read({**A, **theirs}, at=Monotonic(at))
    scripted.read({**B, **theirs}, at=Monotonic(40.0))
    late = scripted.read(A, at=Monotonic(60.0))
    assert "stale_overwrite" in {each.outcome for each in late.findings}


def test_an_ambiguous_detection_does_not_hide_the_late_application_that_follows() -> None:
    scripted = ScriptedAllocation()
    theirs, before = {"user": "somebody else"}, {"region": "x", "version": "1"}
    scripted.update(before)
    scripted.receive(UNKNOWN)
    scripted.allocation.set_desired(wanted(region="c", version="2"), now=Monotonic(1.0))
    scripted.update({**before, **theirs}, at=Monotonic(10.0))
    scripted.receive(Accepted(200, None), at=Monotonic(10.0))
    scripted.read({**before, **theirs}, at=Monotonic(11.5))
    # The first update carries this version too, so it may have been applied and undone in part.
    ambiguous = scripted.read({**before, **theirs}, at=Monotonic(10.0 + RULES.propagation_window_seconds))
    assert "late_applied" in {each.outcome for each in ambiguous.findings}
    late = scripted.read(A, at=Monotonic(90.0))
    assert "stale_overwrite" in {each.outcome for each in late.findings}


def test_a_foreign_change_that_the_open_update_undoes_when_it_is_applied_is_reported() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(UNKNOWN)
    assert scripted.read({**DIFFERENT, "user": "somebody else"}, at=Monotonic(4.0)).findings == ()
    late = scripted.read(A, at=Monotonic(7.0))
    assert [(each.sequence, each.outcome) for each in late.findings] == [
        (1, "applied"),
        (1, "stale_overwrite"),
    ]
    assert late.findings[1].waited_seconds == 7.0
    assert late.update is None, "unmanaged fields are not repaired"


def test_an_update_open_at_the_end_of_a_process_waits_a_full_settle_time_after_the_restart() -> None:
    scripted = ScriptedAllocation()
    record = scripted.update(DIFFERENT).record("g")
    allocation = new_allocation()
    allocation.outcome_unknown_since_restart(OpenIntent(7, ID, WallTime(0.0), record), Monotonic(100.0))
    allocation.set_desired(wanted(**A), now=Monotonic(100.0))
    assert allocation.state is State.SETTLING
    assert allocation.queue_entry().at == Monotonic(100.0 + RULES.settle_seconds)
    scripted.allocation = allocation
    assert scripted.read(DIFFERENT, at=Monotonic(109.0)).update is None
    assert verdict(scripted.read(DIFFERENT, at=Monotonic(110.0))).sequence == 7


@pytest.mark.parametrize("moment", ["given up", "accepted", "ignored", "conflict", "backing off"])
def test_a_restored_allocation_decides_as_the_saved_one(moment: str) -> None:
    scripted = ScriptedAllocation()
    if moment == "given up":
        scripted = given_up()
    elif moment in {"accepted", "ignored"}:
        scripted.update(DIFFERENT)
        scripted.receive(Accepted(200, None))
        scripted.read(DIFFERENT, at=Monotonic(1.5))
        if moment == "ignored":
            scripted.update(DIFFERENT, at=Monotonic(60.0))
            scripted.receive(Accepted(200, None))
            scripted.read(DIFFERENT, at=Monotonic(120.0))
            assert scripted.condition() is Condition.IGNORED
    elif moment == "conflict":
        scripted.read(A)
        for at in (0.0, 100.0, 200.0):
            update = scripted.read(DIFFERENT, at=Monotonic(at)).update
            if update is not None:
                scripted.begin_update(update)
                scripted.receive(Accepted(200, None))
                scripted.read(A, at=Monotonic(at + 2))
    else:
        scripted.update(DIFFERENT)
        scripted.receive(UNKNOWN)
        scripted.read(Missing(), at=Monotonic(10.0))
    stored = codecs.encode_allocation(scripted.allocation, codecs.Clocks(OFFSET, scripted.now))
    assert stored
    stored = json.loads(json.dumps(stored))
    again = new_allocation()
    clocks = codecs.Clocks(
        OFFSET + 5.0, scripted.now - 5.0
    )  # another process, whose monotonic clock started at another time
    codecs.decode_allocation(again, stored, clocks)
    assert codecs.encode_allocation(again, clocks) == stored
    again.set_desired(wanted(**A), now=scripted.now - 5.0)
    before, scripted.allocation = scripted.allocation, again
    scripted.now -= 5.0
    update = scripted.read(DIFFERENT).update
    blocked = [
        before.read_back.field_records.blocked_until(each, scripted.now + 5.0) for each in again.changes
    ]
    assert (update is None) == (
        None not in blocked
        or bool(again.write_backoff.blocked_until(again.changes, scripted.now, begun=scripted.now))
    )
