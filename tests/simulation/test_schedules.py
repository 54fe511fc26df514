"""Many schedules with faults, crashes and edits at any time: no promise is broken."""

from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.drawn_schedule import (
    REJECTIONS,
    draw_schedule,
)
from tests.simulation.engine.schedule import Operation, OutageKind, SecondKind
from tests.simulation.engine.world import simulate
from tests.simulation.report.figures import Figures, run_on_all_cores
from tests.simulation.report.timeline import timeline
from tests.support.tier import part_of

SCHEDULES = part_of(2_000)
LEAST_SHARE = 0.03  # of the schedules in which each kind happens
KINDS = (
    *("pause of all", "pause of one", "pause lifted early", "pause over a restart"),
    *("pause holds back an update", "write windows hold back an update", "write quota holds back an update"),
    *("change limit", "canaries", "approval", "approval by canaries"),
    *(f"{status}" for status in REJECTIONS),
    *("4xx with Retry-After", "4xx without Retry-After"),
    *(f"outage: {kind}" for kind in OutageKind),
    *(f"{operation} hangs" for operation in Operation),
    *("strike: value from before", "strike: third value", "other writer", "cache"),
    *("retry of one", "retry of all"),
    *(f"second allocsync: {kind}" for kind in SecondKind),
)


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
    shares = {kind: figures.fired[kind] / SCHEDULES for kind in KINDS}
    assert not {kind: share for kind, share in shares.items() if share < LEAST_SHARE}
