"""Edits, pauses, bulk reads, wishes and oddities of the server: what waits, and what counts as seen."""

from itertools import pairwise

from allocsync.model.api_answers import OutcomeUnknown, Rejected
from allocsync.model.cloud import leaf
from allocsync.model.desired_state import Mode
from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.schedule import Foreign, Gone, Look, Seam
from tests.simulation.engine.script import (
    WELL,
    WRONG_ID,
    accepted,
    allocation,
    at,
    edit,
    failed,
    play,
    unknown,
)
from tests.simulation.faults.scripted_faults import Listed
from tests.simulation.oracles.run_record import answered, near

SETTLE_SECONDS = 10.0


def test_an_edit_between_snapshot_and_sending_withdraws_the_update_and_builds_another(
    shim: SqliteShim,
) -> None:
    run = play(shim, events=[at(0.0, edit("b"), seam=Seam.GOT)], until=60.0)
    (update,) = run.posts()
    withdrawn, sent = run.updates()
    assert [change.desired for change in (*withdrawn.changes, *sent.changes)] == ["a", "b"]
    assert run.outcomes() == [["not_sent"], ["applied"]]
    assert (update.intent, update.leaves) == (sent.sequence, {"region": "b"})
    assert len(run.reads(until=update.sent)) == 2
    assert update.sent == near(0.05)


def test_a_bulk_answer_that_was_asked_for_during_an_update_is_ignored_for_it(shim: SqliteShim) -> None:
    run = play(
        shim,
        allocations=[allocation(declared={"region": "x"})],
        updates={0: [accepted(2.0, lands=1.5)]},
        lists=[Listed(), Listed(2.0)],
        events=[at(60.0, edit("a")), at(60.5, Look())],
        bulk="auto",
        until=100.0,
    )
    (update,) = run.posts()
    _, stale = run.lists
    told = run.told("resync_finished")[1].at
    assert update.sent < stale < 61.0 < (update.applied or 0.0) < answered(update) < told
    (confirmed,) = run.reads(since=update.sent, until=100.0)
    assert confirmed >= answered(update) + 1.0
    assert run.conditions(since=60.0) == ["Pending", "InSync"]


def test_an_allocation_that_a_bulk_answer_leaves_out_is_looked_at_and_not_missing(shim: SqliteShim) -> None:
    run = play(
        shim,
        allocations=[allocation(key, declared={"region": "x"}) for key in range(2)],
        lists=[Listed(), Listed(omits=frozenset({0}))],
        events=[at(30.0, Look())],
        bulk="auto",
        until=80.0,
    )
    assert run.reads(0, since=30.0, until=80.0) == [near(30.0)]
    assert run.conditions(0) == ["Pending", "InSync"]
    assert len(run.told("resync_finished")) == 2


def test_a_suspension_while_an_outcome_is_open_stops_no_read_back_and_ends_with_a_fresh_look(
    shim: SqliteShim,
) -> None:
    run = play(
        shim,
        updates={0: [unknown(lands=None)]},
        events=[at(2.0, edit("a", mode=Mode.SUSPEND)), at(90.0, edit("a"))],
        until=120.0,
    )
    lost, again = run.posts()
    read_back = answered(lost) + SETTLE_SECONDS
    assert run.reads(since=lost.sent, until=again.sent) == [near(read_back), near(90.0)]
    assert again.sent == near(90.0)
    assert run.outcomes() == [["not_applied"], ["applied"]]
    assert run.conditions() == ["Pending", "OutcomeUnknown", "Suspended", "Pending", "InSync"]


def test_the_servers_wish_to_wait_is_kept_over_an_edit_and_for_five_minutes_at_most(
    shim: SqliteShim,
) -> None:
    def locked(wish: float | None) -> Rejected:
        return Rejected(423, "423 Locked", terminal=False, retry_after_seconds=wish)

    wishes = {0: 86_400.0, 1: 30.0, 2: None}
    run = play(
        shim,
        allocations=[allocation(key) for key in wishes],
        updates={key: [unknown(lands=None, ending=locked(wish))] for key, wish in wishes.items()},
        events=[at(60.0, edit("b"))],
        until=400.0,
    )
    waited = {}
    for key in wishes:
        rejected, again = run.posts(key)
        waited[key] = again.sent - answered(rejected)
        assert run.outcomes(key) == [["rejected"], ["applied"]]
    assert (waited[0], waited[1]) == (near(300.0), near(30.0))
    assert waited[2] < 2.1


def test_nothing_is_sent_to_an_allocation_that_is_gone_and_back_again_it_gets_what_it_lacks(
    shim: SqliteShim,
) -> None:
    run = play(
        shim,
        allocations=[allocation(0), allocation(1)],
        updates={0: [unknown(lands=3.0)], 1: [unknown(lands=None)]},
        events=[at(5.0, Gone(key, 3600.0)) for key in range(2)],
        until=4200.0,
    )
    (landed,), (lost, again) = run.posts(0), run.posts(1)
    back = 5.0 + 3600.0
    for key, update in ((0, landed), (1, lost)):
        read_back, *probes = run.reads(key, since=answered(update), until=again.sent + 0.5)
        assert read_back == near(answered(update) + SETTLE_SECONDS)
        waited = [later - earlier for earlier, later in pairwise([read_back, *probes])]
        assert waited == [near(60.0 * 2**number) for number in range(6)]
        assert probes[-2] < back < probes[-1]
    assert again.sent == near(probes[-1])
    assert leaf(run.cloud(0), "region") == leaf(run.cloud(1), "region") == "a"
    assert run.outcomes(0) == [["void"]]
    assert run.outcomes(1) == [["void"], ["applied"]]
    assert run.conditions(0) == ["Pending", "OutcomeUnknown", "Missing", "InSync"]
    assert run.conditions(1) == ["Pending", "OutcomeUnknown", "Missing", "Pending", "InSync"]


def test_an_answer_with_the_id_of_another_allocation_leaves_an_update_unknown_and_is_no_snapshot(
    shim: SqliteShim,
) -> None:
    run = play(
        shim,
        updates={0: [unknown(lands=None, ending=OutcomeUnknown(WRONG_ID, 200))]},
        reads={0: [failed(WRONG_ID, 200), WELL, failed(WRONG_ID, 200)]},
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


def test_a_drift_that_waits_for_its_repair_is_not_called_accepted(shim: SqliteShim) -> None:
    busy = Rejected(429, "429 Too Many Requests", terminal=False, retry_after_seconds=40.0)
    run = play(
        shim,
        allocations=[allocation(0), allocation(1, declared={"region": "x"})],
        updates={0: [unknown(lands=None, ending=busy)]},
        events=[at(5.0, Foreign(1, "region", "theirs")), at(6.0, Look())],
        until=60.0,
    )
    (repair,) = run.posts(1)
    assert repair.sent > 40.0
    changed = run.told("condition_changed", 1)
    assert [each.fields["reason"] for each in changed if 6.0 < each.at < repair.sent] == ["differs in region"]
