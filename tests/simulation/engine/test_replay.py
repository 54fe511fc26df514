"""A seed determines a whole run: it replays exactly, is readable, and can be made smaller."""

from dataclasses import replace

import pytest

from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.drawn_schedule import draw_schedule
from tests.simulation.engine.schedule import EndKind, EndProcess, Event, Schedule
from tests.simulation.engine.world import simulate
from tests.simulation.mutants.journal_mutants import EARLY_READ_BACK
from tests.simulation.report.outcome import Note
from tests.simulation.report.shrink import shrink
from tests.simulation.report.timeline import timeline
from tests.simulation.run import SEEDS_PER_MUTANT


def _plain(note: Note) -> Note:
    """The note without the directory of this run."""
    return replace(note, what=note.what.partition("/")[0])


@pytest.mark.parametrize("seed", [23, 42, 84, 626])
def test_a_seed_replays_exactly(seed: int, shim: SqliteShim) -> None:
    first, second = (simulate(draw_schedule(seed), shim) for _ in range(2))
    assert first.crashes
    assert [_plain(note) for note in first.notes] == [_plain(note) for note in second.notes]


def _found(shim: SqliteShim) -> Schedule:
    for seed in range(SEEDS_PER_MUTANT):
        if simulate(draw_schedule(seed), shim).breaches:
            return draw_schedule(seed)
    raise AssertionError("the mutant was not found")


def test_a_schedule_that_breaks_a_promise_is_shrunk_and_shown_as_a_timeline(shim: SqliteShim) -> None:
    with EARLY_READ_BACK.planted():
        schedule = _found(shim)
        small = shrink(schedule, shim)
        outcome = simulate(small, shim)
    assert outcome.breaches[0][0] == "R1"
    assert len(small.events) < len(schedule.events)
    assert any(isinstance(event.action, EndProcess) for event in small.events)
    shown = timeline(small, outcome)
    assert f"seed {schedule.seed}" in shown
    assert "was sent while the outcome of update" in shown.splitlines()[-1]


def test_a_schedule_that_breaks_no_promise_is_not_shrunk(shim: SqliteShim) -> None:
    assert shrink(draw_schedule(1), shim) == draw_schedule(1)


def test_a_process_that_crashed_sends_and_records_nothing(shim: SqliteShim) -> None:
    """Not even what a task does when it is cancelled."""
    schedule = replace(
        draw_schedule(7),
        events=(Event(5.0, EndProcess(EndKind.KILL, 2.0)), Event(20.0, EndProcess(EndKind.POWER, 2.0))),
    )
    outcome = simulate(schedule, shim)
    assert not outcome.breaches
    assert outcome.crashes == 2
    after_crash = [note for note in outcome.notes if note.who in {"client", "daemon"} and 5.0 < note.at < 7.0]
    assert not after_crash
