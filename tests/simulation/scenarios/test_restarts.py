"""Processes that end and disks that fail at the worst time: what is known, sent and waited for afterwards."""

import pytest

from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.schedule import DiskFault, DiskFaultKind, EndKind, EndProcess, Seam
from tests.simulation.engine.script import accepted, allocation, at, edit, run_script, unknown
from tests.simulation.oracles.run_record import near, written

SETTLE_SECONDS = 10.0
ENDS = pytest.mark.parametrize("how", [EndKind.KILL, EndKind.POWER])


@ENDS
def test_an_update_recorded_and_not_sent_before_a_crash_is_unknown_for_a_settle_time(
    shim: SqliteShim, how: EndKind
) -> None:
    run = run_script(shim, events=[at(0.0, EndProcess(how, 1.0), seam=Seam.POST)], until=60.0)
    recorded, sent = run.posts()
    _, start = run.starts()
    assert recorded.answer == "never left"
    assert run.reads(since=start, until=sent.sent) == [near(start + SETTLE_SECONDS)]
    assert sent.sent == near(start + SETTLE_SECONDS)
    assert run.outcomes() == [["not_applied"], ["applied"]]
    assert run.conditions(since=start) == ["OutcomeUnknown", "Pending", "InSync"]


@ENDS
def test_an_update_sent_and_not_answered_before_a_crash_is_unknown_for_a_settle_time(
    shim: SqliteShim, how: EndKind
) -> None:
    # Applied nine seconds after the second process started: a settle time from its sending would miss it.
    run = run_script(
        shim,
        updates={0: [accepted(applied=10.0)]},
        events=[at(0.0, EndProcess(how, 1.0), seam=Seam.POSTED)],
        until=60.0,
    )
    (sent,) = run.posts()
    _, start = run.starts()
    assert (sent.process, sent.answer) == (1, None)
    assert run.reads(since=start) == [near(start + SETTLE_SECONDS)]
    assert run.outcomes() == [["applied"]]
    assert run.conditions(since=start) == ["OutcomeUnknown", "InSync"]


def test_an_outcome_that_a_full_disk_cannot_store_waits_and_nothing_is_sent_meanwhile(
    shim: SqliteShim,
) -> None:
    run = run_script(
        shim,
        allocations=[allocation(0), allocation(1, declared={"region": "x"})],
        events=[at(0.0, DiskFault(DiskFaultKind.FULL, 30.0), seam=Seam.POSTED), at(5.0, edit("b", 1))],
        until=60.0,
    )
    (before,), (meanwhile,) = run.posts(0), run.posts(1)
    works_again = run.happened("the disk works")
    assert run.outcome.disk_faults > 0
    assert (before.answer, works_again) == ("accepted", near(30.0))
    assert works_again <= meanwhile.sent < works_again + 1.5
    (outcome,), (intent,) = run.updates(0), run.updates(1)
    assert [works_again <= seam < works_again + 1.5 for seam in written(outcome)] == [True]
    assert outcome.sequence < intent.sequence
    assert run.outcomes(0) == run.outcomes(1) == [["applied"]]
    assert run.conditions(0) == ["Pending", "InSync"]
    assert run.conditions(1, since=5.0) == ["Pending", "Blocked", "Pending", "InSync"]


def test_a_damaged_journal_is_set_aside_and_nothing_is_sent_for_a_settle_time(shim: SqliteShim) -> None:
    run = run_script(
        shim,
        updates={0: [unknown(applied=None)]},
        events=[at(5.0, EndProcess(EndKind.KILL, 1.0, damage=True))],
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


def test_a_stop_with_eight_slow_updates_ends_in_time_and_leaves_eight_open_intents(
    shim: SqliteShim,
) -> None:
    eight = range(8)
    run = run_script(
        shim,
        allocations=[allocation(key) for key in eight],
        updates={key: [accepted(60.0)] for key in eight},
        events=[at(15.0, EndProcess(EndKind.STOP, 100.0))],
        until=200.0,
    )
    (ended, _), (_, start) = run.events("stopped"), run.starts()
    assert (ended.at, ended.fields["open_intents"]) == (near(35.0), 8)
    for key in eight:
        (cut_off,) = run.posts(key)
        assert (cut_off.process, cut_off.answer) == (1, None)
        assert run.reads(key, since=start) == [near(start + SETTLE_SECONDS)]
        assert run.outcomes(key) == [["applied"]]
        assert run.conditions(key, since=start) == ["OutcomeUnknown", "InSync"]
