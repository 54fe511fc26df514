"""A lane through the situations that have a name, one example each; the machine covers the rest."""

from collections.abc import Mapping
from typing import Any

import pytest

from allocsync.planning.model import (
    Accepted,
    AllocationId,
    Desired,
    Failed,
    Json,
    Live,
    Missing,
    Mode,
    NotSent,
    OutcomeUnknown,
    Rejected,
    Snapshot,
    UpdateAnswer,
)
from allocsync.reconcile.condition import project
from allocsync.reconcile.decision import Decision, State, Update
from allocsync.reconcile.lane import Lane
from allocsync.reconcile.limiter import Slot
from allocsync.reconcile.queue import Priority
from allocsync.reconcile.rules import Rules
from allocsync.reconcile.status import Condition

ID = AllocationId("7b0c4c5e-1f0e-4c53-9a3b-0a4b8f2f7d11")
RULES = Rules()
RESYNC = 300.0
A = {"region": "a", "version": "1"}


def cloud(**leaves: Json) -> dict[str, Any]:
    return {
        "id": ID,
        "user": "u",
        "project": "p",
        "status": {"cloud": "RUNNING"},
        "urls": {"base": {"status": "RUNNING", "url": "x"}, "id": {"status": "RUNNING", "url": "y"}},
        **leaves,
    }


def wanted(mode: Mode = Mode.ENFORCE, /, **leaves: str) -> Desired:
    return Desired(ID, tuple(sorted(leaves.items())), mode)


class Told:
    """A lane and the clock it is told, with the arguments that do not matter filled in."""

    def __init__(self, desired: Desired | None = None) -> None:
        self.now = 0.0
        self.lane = Lane(id=ID, rules=RULES, look_at=0.0)
        self.lane.want(desired or wanted(**A), now=0.0)

    def look(self, answer: Snapshot | Mapping[str, Json], *, at: float | None = None) -> Decision:
        self.now = self.now if at is None else at
        snapshot = answer if isinstance(answer, Live | Missing | Failed) else Live(cloud(**answer))
        self.lane.begin_look()
        return self.lane.looked(
            snapshot, begun=self.now, now=self.now, delay_seconds=2.0, resync_seconds=RESYNC
        )

    def update(self, answer: Snapshot | Mapping[str, Json], *, at: float | None = None) -> Update:
        update = self.look(answer, at=at).update
        assert update is not None
        self.lane.intend(update)
        return update

    def post(self, answer: UpdateAnswer, *, at: float | None = None, delay_seconds: float = 2.0) -> None:
        self.now = self.now if at is None else at
        self.lane.posted(
            answer,
            now=self.now,
            delay_seconds=delay_seconds,
            confirm_seconds=1.5,
            resync_seconds=RESYNC,
        )

    def condition(self) -> Condition:
        return project(self.lane, self.now, RESYNC)[0]


UNKNOWN = OutcomeUnknown("504 Gateway Timeout", 504)
DIFFERENT = {"region": "x", "version": "1"}


def test_after_a_504_that_was_applied_one_read_settles_it_and_nothing_is_sent_again() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(UNKNOWN)
    assert told.condition() is Condition.UNKNOWN
    assert told.lane.turn().at == RULES.settle_seconds
    decision = told.look(A, at=10.0)
    assert decision.settled is not None
    assert decision.settled.outcome == "applied"
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
    assert decision.settled is not None
    assert decision.settled.outcome == "not_applied"
    assert decision.update is not None


def test_a_file_that_reverts_while_an_update_may_still_land_is_not_in_sync() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(UNKNOWN)
    told.lane.want(wanted(region="x", version="1"), now=1.0)
    assert told.look(DIFFERENT, at=1.0) == Decision()
    assert told.condition() is Condition.UNKNOWN
    landed = told.look(A, at=10.0)
    assert landed.settled is not None
    assert landed.settled.outcome == "applied"
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
    assert partial.settled is not None
    assert partial.settled.outcome == "applied_partial"
    assert partial.update is None
    assert told.lane.turn().at == RULES.grace_seconds
    assert told.look({"region": "a", "version": "1"}, at=60.0).update is None
    assert told.condition() is Condition.REFUSED


def test_an_echo_that_stores_nothing_is_refused_and_sent_again_after_six_hours_only() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(Accepted(200, cloud(**A)))
    assert told.lane.turn().at == 1.5
    assert told.look(DIFFERENT, at=1.5).update is None
    assert told.condition() is Condition.PENDING
    assert told.look(DIFFERENT, at=60.0).update is None
    assert told.condition() is Condition.REFUSED
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
        told.lane.intend(decision.update)
        told.post(Accepted(200, None))
        assert told.look(A, at=at + 2).update is None
    assert told.condition() is Condition.CONTESTED
    assert told.look(DIFFERENT, at=told.now + RULES.contested_first_seconds).update is not None


def test_the_edit_between_snapshot_and_sending_withdraws_the_update() -> None:
    told = Told()
    update = told.update(DIFFERENT)
    told.lane.want(wanted(region="b", version="1"), now=0.1)
    reason = told.lane.recheck(update, 0.1)
    assert reason == "the desired state changed"
    told.lane.withdraw(reason, now=0.1, delay_seconds=2.0)
    assert told.lane.turn().at == 0.1
    rebuilt = told.update(DIFFERENT, at=0.1)
    assert rebuilt.body["region"] == "b"
    told.lane.withdraw("again", now=0.2, delay_seconds=2.0)
    assert told.lane.turn().at == 2.2


def test_a_stale_snapshot_is_not_written_on() -> None:
    told = Told()
    update = told.update(DIFFERENT)
    assert told.lane.recheck(update, RULES.fresh_seconds) is None
    assert "older" in (told.lane.recheck(update, RULES.fresh_seconds + 0.1) or "")


def test_410_in_mid_unknown_voids_the_intent_and_nothing_is_sent_until_it_is_back() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(UNKNOWN)
    gone = told.look(Missing(), at=10.0)
    assert gone.settled is not None
    assert gone.settled.outcome == "void"
    assert told.condition() is Condition.MISSING
    assert [told.lane.turn().at - told.now, _again(told), _again(told)] == [60.0, 120.0, 240.0]
    back = told.look(DIFFERENT)
    assert back.update is not None
    assert not told.lane.leaves


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
    assert "urls.vanity.status" in told.lane.error


def test_a_merge_that_cannot_be_is_not_a_request() -> None:
    told = Told(wanted(Mode.ENFORCE, **{"urls.base.url": "mark.pieces.cloud"}))
    assert told.look({"urls": []}).update is None
    assert "not an object" in told.lane.error


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
    assert told.condition() is Condition.UNKNOWN
    decision = told.look(DIFFERENT, at=told.lane.turn().at)
    assert decision.settled is not None
    assert decision.update is None
    assert told.condition() is Condition.SUSPENDED


def test_a_disowned_allocation_is_read_back_and_never_sent_to() -> None:
    told = Told()
    told.update(DIFFERENT)
    told.post(UNKNOWN)
    told.lane.want(None, now=1.0)
    decision = told.look(DIFFERENT, at=told.lane.turn().at)
    assert decision.settled is not None
    assert decision.update is None
    assert told.condition() is Condition.HELD


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
    told.lane.unlisted(begun=3.0, now=3.1)
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
    assert told.condition() is Condition.UNKNOWN


def test_a_difference_that_bulk_shows_again_asks_for_no_second_look() -> None:
    told = Told(wanted(Mode.OBSERVE, **A))
    told.look(DIFFERENT)
    before = told.lane.turn().at
    told.lane.listed(cloud(**DIFFERENT), begun=1.0, now=1.1)
    assert told.lane.turn().at == before


def test_one_request_at_a_time() -> None:
    told = Told()
    told.lane.begin_look()
    with pytest.raises(ValueError, match="one request at a time"):
        told.lane.begin_look()
    told = Told()
    update = told.update(DIFFERENT)
    with pytest.raises(ValueError, match="cannot begin an update"):
        told.lane.intend(update)
    told.post(Accepted(200, None))
    with pytest.raises(ValueError, match="no update is under way"):
        told.post(Accepted(200, None))
