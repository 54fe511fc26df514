"""Many schedules with faults, crashes and edits at any time: no promise is broken."""

from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.schedule import draw_schedule
from tests.simulation.engine.world import simulate
from tests.simulation.report.figures import Figures, run_on_all_cores
from tests.simulation.report.timeline import timeline
from tests.support.tier import part_of

SCHEDULES = part_of(2_000)


def test_no_promise_is_broken_in_any_schedule(shim: SqliteShim) -> None:
    figures = Figures()
    for chunk in run_on_all_cores(range(SCHEDULES)):
        figures.join(chunk)
    if figures.breaches:
        seed = min(figures.breaches)[0]
        shown = timeline(draw_schedule(seed), simulate(draw_schedule(seed), shim))
        raise AssertionError(f"{len(figures.breaches)} of {SCHEDULES} schedules break a promise\n{shown}")
    assert figures.schedules == SCHEDULES
    # The schedules contained enough updates and faults to break one.
    assert figures.updates > 3 * SCHEDULES
    assert figures.faults > SCHEDULES
    assert figures.crashes > SCHEDULES
    assert figures.disk_faults > SCHEDULES
