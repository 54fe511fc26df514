"""Processes that end and disks that fail at the worst moment: what is known, sent and waited for after it."""

from itertools import pairwise

import pytest

from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.schedule import DiskFails, DiskTrouble, Ends, How, Seam
from tests.simulation.engine.script import accepted, allocation, at, edit, play, unknown
from tests.simulation.oracles.run_record import answered, near, written

SETTLE_SECONDS, GRACE_SECONDS, HOUR_SECONDS = 10.0, 60.0, 3600.0
KILL = Ends(How.KILL, 1.0)
ENDS = pytest.mark.parametrize("how", [How.KILL, How.POWER])


@pytest.mark.parametrize("restarts", [0, 20])
def test_a_value_that_is_echoed_and_not_stored_is_sent_every_six_hours_through_any_restarts(
    shim: SqliteShim, restarts: int
) -> None:
    kills = [at(2200.0 * number, KILL) for number in range(1, restarts + 1)]
    run = play(shim, allocations=[allocation(deaf="region")], events=kills, until=12.5 * HOUR_SECONDS)
    assert len(run.starts()) == restarts + 1
    waited = [later.sent - answered(earlier) for earlier, later in pairwise(run.posts())]
    assert waited == [near(GRACE_SECONDS + 6 * HOUR_SECONDS)] * 2
    assert {post.answer for post in run.posts()} == {"accepted"}
    assert run.outcomes() == [["applied", "not_applied"]] * 3
    assert run.conditions()[:3] == ["Pending", "Ignored", "Pending"]
    assert run.conditions()[-2:] == ["Pending", "Ignored"]


@ENDS
def test_an_update_that_was_recorded_and_not_sent_before_the_end_is_unknown_for_a_full_settle_time(
    shim: SqliteShim, how: How
) -> None:
    run = play(shim, events=[at(0.0, Ends(how, 1.0), seam=Seam.POST)], until=60.0)
    recorded, sent = run.posts()
    _, start = run.starts()
    assert recorded.answer == "never left"
    assert run.reads(since=start, until=sent.sent) == [near(start + SETTLE_SECONDS)]
    assert sent.sent == near(start + SETTLE_SECONDS)
    assert run.outcomes() == [["not_applied"], ["applied"]]
    assert run.conditions(since=start) == ["OutcomeUnknown", "Pending", "InSync"]


@ENDS
def test_an_update_that_was_sent_and_not_answered_before_the_end_is_unknown_for_a_full_settle_time(
    shim: SqliteShim, how: How
) -> None:
    # It lands nine seconds into the second life: a settle time from its sending would overlook it.
    run = play(
        shim,
        updates={0: [accepted(lands=10.0)]},
        events=[at(0.0, Ends(how, 1.0), seam=Seam.POSTED)],
        until=60.0,
    )
    (sent,) = run.posts()
    _, start = run.starts()
    assert (sent.life, sent.answer) == (1, None)
    assert run.reads(since=start) == [near(start + SETTLE_SECONDS)]
    assert run.outcomes() == [["applied"]]
    assert run.conditions(since=start) == ["OutcomeUnknown", "InSync"]


def test_an_outcome_that_a_full_disk_cannot_take_waits_for_it_and_nothing_is_sent_meanwhile(
    shim: SqliteShim,
) -> None:
    run = play(
        shim,
        allocations=[allocation(0), allocation(1, declared={"region": "x"})],
        events=[at(0.0, DiskFails(DiskTrouble.FULL, 30.0), seam=Seam.POSTED), at(5.0, edit("b", 1))],
        until=60.0,
    )
    (before,), (meanwhile,) = run.posts(0), run.posts(1)
    healed = run.happened("the disk works")
    assert run.outcome.disk_faults > 0
    assert (before.answer, healed) == ("accepted", near(30.0))
    assert healed <= meanwhile.sent < healed + 1.5
    (outcome,), (intent,) = run.updates(0), run.updates(1)
    assert [healed <= moment < healed + 1.5 for moment in written(outcome)] == [True]
    assert outcome.sequence < intent.sequence
    assert run.outcomes(0) == run.outcomes(1) == [["applied"]]
    assert run.conditions(0) == ["Pending", "InSync"]
    assert run.conditions(1, since=5.0) == ["Pending", "Blocked", "Pending", "InSync"]


def test_a_damaged_journal_is_set_aside_and_nothing_is_sent_for_a_settle_time(shim: SqliteShim) -> None:
    run = play(
        shim,
        updates={0: [unknown(lands=None)]},
        events=[at(5.0, Ends(How.KILL, 1.0, damage=True))],
        until=60.0,
    )
    lost, again = run.posts()
    _, start = run.starts()
    assert lost.answer == "unknown"
    assert run.gaps == (near(start),)
    assert any(name.startswith("journal.db.damaged-") for name in run.files)
    assert run.reads(since=start)[0] == near(start)
    assert again.sent == near(start + SETTLE_SECONDS)
    assert run.outcomes() == [["applied"]]


def test_a_stop_with_eight_slow_updates_under_way_ends_in_time_and_leaves_eight_open_intents(
    shim: SqliteShim,
) -> None:
    eight = range(8)
    run = play(
        shim,
        allocations=[allocation(key) for key in eight],
        updates={key: [accepted(60.0)] for key in eight},
        events=[at(15.0, Ends(How.STOP, 100.0))],
        until=200.0,
    )
    (ended, _), (_, start) = run.told("stopped"), run.starts()
    assert (ended.at, ended.fields["open_intents"]) == (near(35.0), 8)
    for key in eight:
        (cut_off,) = run.posts(key)
        assert (cut_off.life, cut_off.answer) == (1, None)
        assert run.reads(key, since=start) == [near(start + SETTLE_SECONDS)]
        assert run.outcomes(key) == [["applied"]]
        assert run.conditions(key, since=start) == ["OutcomeUnknown", "InSync"]
