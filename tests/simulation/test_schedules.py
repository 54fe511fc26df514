"""Thousands of schedules: whatever goes wrong, whoever dies and when, no promise is broken."""

from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.schedule import drawn
from tests.simulation.engine.world import simulate
from tests.simulation.report.figures import Figures, run_everywhere
from tests.simulation.report.timeline import timeline

SCHEDULES = 2_000


def test_no_promise_is_broken_in_two_thousand_schedules(shim: SqliteShim) -> None:
    figures = Figures()
    for chunk in run_everywhere(range(SCHEDULES)):
        figures.join(chunk)
    if figures.broken:
        seed = min(figures.broken)[0]
        shown = timeline(drawn(seed), simulate(drawn(seed), shim))
        raise AssertionError(f"{len(figures.broken)} of {SCHEDULES} schedules break a promise\n{shown}")
    assert figures.schedules == SCHEDULES
    # That there was something to break.
    assert figures.updates > 3 * SCHEDULES
    assert figures.faults > SCHEDULES
    assert figures.crashes > SCHEDULES
    assert figures.disk_faults > SCHEDULES
