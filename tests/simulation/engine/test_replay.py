"""A seed is a whole history: it replays exactly, a person can read it, and it can be made smaller."""

from dataclasses import replace

import pytest

from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.schedule import Ends, Event, How, Schedule, drawn
from tests.simulation.engine.world import simulate
from tests.simulation.mutants.journal_mutants import EARLY_READ_BACK
from tests.simulation.report.outcome import Note
from tests.simulation.report.shrink import shrunk
from tests.simulation.report.timeline import timeline
from tests.simulation.run import SEEDS_PER_MUTANT


def _plain(note: Note) -> Note:
    """Without what names a directory of this run."""
    return replace(note, what=note.what.partition("/")[0])


@pytest.mark.parametrize("seed", [3, 42, 84, 626])
def test_a_seed_replays_exactly(seed: int, shim: SqliteShim) -> None:
    first, second = (simulate(drawn(seed), shim) for _ in range(2))
    assert first.crashes
    assert [_plain(note) for note in first.notes] == [_plain(note) for note in second.notes]


def _found(shim: SqliteShim) -> Schedule:
    for seed in range(SEEDS_PER_MUTANT):
        if simulate(drawn(seed), shim).broken:
            return drawn(seed)
    raise AssertionError("the mutant was not found")


def test_a_schedule_that_breaks_a_promise_is_made_smaller_and_is_readable(shim: SqliteShim) -> None:
    with EARLY_READ_BACK.planted():
        schedule = _found(shim)
        small = shrunk(schedule, shim)
        outcome = simulate(small, shim)
    assert outcome.broken[0][0] == "R1"
    assert len(small.events) < len(schedule.events)
    assert any(isinstance(event.action, Ends) for event in small.events)
    told = timeline(small, outcome)
    assert f"seed {schedule.seed}" in told
    assert "left while the outcome of update" in told.splitlines()[-1]


def test_a_schedule_that_breaks_nothing_stays_as_it_is(shim: SqliteShim) -> None:
    assert shrunk(drawn(1), shim) == drawn(1)


def test_a_crash_reaches_neither_the_server_nor_the_journal(shim: SqliteShim) -> None:
    """Not even what a task does when it is cancelled."""
    schedule = replace(drawn(7), events=(Event(5.0, Ends(How.KILL, 2.0)), Event(20.0, Ends(How.POWER, 2.0))))
    outcome = simulate(schedule, shim)
    assert not outcome.broken
    assert outcome.crashes == 2
    dead = [note for note in outcome.notes if note.who in {"client", "daemon"} and 5.0 < note.at < 7.0]
    assert not dead
