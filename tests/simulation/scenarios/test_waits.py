"""Edits, pauses, lists, Retry-After and unusual answers: what waits, and what counts as read."""

from itertools import pairwise

from allocsync.model.api_answers import OutcomeUnknown, Rejected, RejectionClass
from allocsync.model.cloud import field_value
from allocsync.model.desired_state import Mode
from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.schedule import AllocationGone, ForeignWrite, RequestResync, Seam
from tests.simulation.engine.script import (
    READ_WITHOUT_FAULT,
    WRONG_ID,
    accepted,
    allocation,
    at,
    edit,
    failed,
    run_script,
    unknown,
)
from tests.simulation.faults.scripted_faults import ListResponse
from tests.simulation.oracles.run_record import answered, near

SETTLE_SECONDS = 10.0


def test_an_edit_after_the_snapshot_replaces_the_update_before_it_is_sent(
    shim: SqliteShim,
) -> None:
    run = run_script(shim, events=[at(0.0, edit("b"), seam=Seam.GOT)], until=60.0)
    (update,) = run.posts()
    withdrawn, sent = run.updates()
    assert [change.desired for change in (*withdrawn.changes, *sent.changes)] == ["a", "b"]
    assert run.outcomes() == [["not_sent"], ["applied"]]
    assert (update.intent, update.fields) == (sent.sequence, {"region": "b"})
    assert len(run.reads(until=update.sent)) == 2
    assert update.sent == near(0.05)


def test_a_list_requested_during_an_update_is_ignored_for_its_allocation(shim: SqliteShim) -> None:
    run = run_script(
        shim,
        allocations=[allocation(declared={"region": "x"})],
        updates={0: [accepted(2.0, applied=1.5)]},
        lists=[ListResponse(), ListResponse(2.0)],
        events=[at(60.0, edit("a")), at(60.5, RequestResync())],
        bulk="auto",
        until=100.0,
    )
    (update,) = run.posts()
    _, stale = run.lists
    resync_finished_at = run.events("resync_finished")[1].at
    assert update.sent < stale < 61.0 < (update.applied or 0.0) < answered(update) < resync_finished_at
    (confirmed,) = run.reads(since=update.sent, until=100.0)
    assert confirmed >= answered(update) + 1.0
    assert run.conditions(since=60.0) == ["Pending", "InSync"]


def test_an_allocation_that_a_list_leaves_out_is_read_and_not_reported_missing(shim: SqliteShim) -> None:
    run = run_script(
        shim,
        allocations=[allocation(key, declared={"region": "x"}) for key in range(2)],
        lists=[ListResponse(), ListResponse(omits=frozenset({0}))],
        events=[at(30.0, RequestResync())],
        bulk="auto",
        until=80.0,
    )
    assert run.reads(0, since=30.0, until=80.0) == [near(30.0)]
    assert run.conditions(0) == ["Pending", "InSync"]
    assert len(run.events("resync_finished")) == 2


def test_suspending_an_allocation_does_not_stop_a_read_back_and_resuming_reads_it_again(
    shim: SqliteShim,
) -> None:
    run = run_script(
        shim,
        updates={0: [unknown(applied=None)]},
        events=[at(2.0, edit("a", mode=Mode.SUSPEND)), at(90.0, edit("a"))],
        until=120.0,
    )
    lost, again = run.posts()
    read_back = answered(lost) + SETTLE_SECONDS
    assert run.reads(since=lost.sent, until=again.sent) == [near(read_back), near(90.0)]
    assert again.sent == near(90.0)
    assert run.outcomes() == [["not_applied"], ["applied"]]
    assert run.conditions() == ["Pending", "OutcomeUnknown", "Suspended", "Pending", "InSync"]


def test_retry_after_is_kept_across_an_edit_and_for_five_minutes_at_most(
    shim: SqliteShim,
) -> None:
    def locked(retry_after_seconds: float | None) -> Rejected:
        return Rejected(423, "423 Locked", RejectionClass.NOT_NOW, retry_after_seconds=retry_after_seconds)

    waits = {0: 86_400.0, 1: 30.0, 2: None}
    run = run_script(
        shim,
        allocations=[allocation(key) for key in waits],
        updates={key: [unknown(applied=None, answer=locked(seconds))] for key, seconds in waits.items()},
        events=[at(60.0, edit("b"))],
        until=400.0,
    )
    waited = {}
    for key in waits:
        rejected, again = run.posts(key)
        waited[key] = again.sent - answered(rejected)
        assert run.outcomes(key) == [["rejected"], ["applied"]]
    assert (waited[0], waited[1]) == (near(300.0), near(30.0))
    assert waited[2] < 2.1


def test_a_missing_allocation_is_not_written_until_it_is_back(
    shim: SqliteShim,
) -> None:
    run = run_script(
        shim,
        allocations=[allocation(0), allocation(1)],
        updates={0: [unknown(applied=3.0)], 1: [unknown(applied=None)]},
        events=[at(5.0, AllocationGone(key, 3600.0)) for key in range(2)],
        until=4200.0,
    )
    (applied_late,), (lost, again) = run.posts(0), run.posts(1)
    back = 5.0 + 3600.0
    for key, update in ((0, applied_late), (1, lost)):
        read_back, *probes = run.reads(key, since=answered(update), until=again.sent + 0.5)
        assert read_back == near(answered(update) + SETTLE_SECONDS)
        waited = [later - earlier for earlier, later in pairwise([read_back, *probes])]
        assert waited == [near(60.0 * 2**number) for number in range(6)]
        assert probes[-2] < back < probes[-1]
    assert again.sent == near(probes[-1])
    assert field_value(run.cloud(0), "region") == field_value(run.cloud(1), "region") == "a"
    assert run.outcomes(0) == [["void"]]
    assert run.outcomes(1) == [["void"], ["applied"]]
    assert run.conditions(0) == ["Pending", "OutcomeUnknown", "Missing", "InSync"]
    assert run.conditions(1) == ["Pending", "OutcomeUnknown", "Missing", "Pending", "InSync"]


def test_an_answer_with_another_id_is_an_unknown_outcome_and_no_snapshot(
    shim: SqliteShim,
) -> None:
    run = run_script(
        shim,
        updates={0: [unknown(applied=None, answer=OutcomeUnknown(WRONG_ID, 200))]},
        reads={0: [failed(WRONG_ID, 200), READ_WITHOUT_FAULT, failed(WRONG_ID, 200)]},
        until=60.0,
    )
    update, again = run.posts()
    first, second, *_ = run.reads()
    assert first < second < update.sent < first + 2.1
    third, fourth = run.reads(since=update.sent, until=again.sent)
    assert third == near(answered(update) + SETTLE_SECONDS)
    assert third < fourth < third + 2.1
    assert run.outcomes() == [["not_applied"], ["applied"]]
    assert run.conditions() == ["Pending", "OutcomeUnknown", "Pending", "InSync"]


def test_drift_that_waits_for_its_update_is_not_reported_as_accepted(shim: SqliteShim) -> None:
    busy = Rejected(429, "429 Too Many Requests", RejectionClass.NOT_NOW, retry_after_seconds=40.0)
    run = run_script(
        shim,
        allocations=[allocation(0), allocation(1, declared={"region": "x"})],
        updates={0: [unknown(applied=None, answer=busy)]},
        events=[at(5.0, ForeignWrite(1, "region", "theirs")), at(6.0, RequestResync())],
        until=60.0,
    )
    (repair,) = run.posts(1)
    assert repair.sent > 40.0
    changed = run.events("condition_changed", 1)
    assert [each.fields["reason"] for each in changed if 6.0 < each.at < repair.sent] == ["differs in region"]
