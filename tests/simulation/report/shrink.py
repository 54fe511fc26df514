"""Makes a schedule that breaks a promise smaller: fewer events, fewer allocations, less weather.

The rule: what is left breaks the same promise. What single requests meet is drawn by allocation and number,
so that taking one thing out leaves the others as they were, as far as the run itself does.
"""

from collections.abc import Iterator
from dataclasses import replace

from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.schedule import Schedule
from tests.simulation.engine.world import simulate

RUNS_MOST = 400


def shrunk(schedule: Schedule, shim: SqliteShim) -> Schedule:
    """The smallest that was found within some hundred runs; the same if it breaks nothing."""
    promise = _broken(schedule, shim)
    if promise is None:
        return schedule
    runs = 0
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(schedule):
            runs += 1
            if runs > RUNS_MOST:
                return schedule
            if _broken(candidate, shim) == promise:
                schedule, smaller = candidate, True
                break
    return schedule


def _broken(schedule: Schedule, shim: SqliteShim) -> str | None:
    broken = simulate(schedule, shim).broken
    return broken[0][0] if broken else None


def _smaller(schedule: Schedule) -> Iterator[Schedule]:
    size = len(schedule.events)
    step = size
    while step:
        for begin in range(0, size, step):
            yield schedule.without(range(begin, min(begin + step, size)))
        step //= 2
    for allocation in schedule.allocations if len(schedule.allocations) > 1 else ():
        left = tuple(each for each in schedule.allocations if each is not allocation)
        events = tuple(
            event for event in schedule.events if getattr(event.action, "key", None) != allocation.key
        )
        yield replace(schedule, allocations=left, events=events)
    for index, spell in enumerate(schedule.spells):
        for part in ("reads", "lists", "updates"):
            if getattr(spell, part):
                spells = list(schedule.spells)
                spells[index] = replace(spell, **{part: 0.0})
                yield replace(schedule, spells=tuple(spells))
    if schedule.slow:
        yield replace(schedule, slow=False)
