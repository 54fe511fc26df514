"""Makes a schedule that breaks a promise smaller: fewer events, fewer allocations, fewer faults.

The rule: the smaller schedule breaks the same promise. Responses to requests are drawn by allocation and
number, so leaving one thing out changes the others no more than the run itself does.
"""

from collections.abc import Iterator
from dataclasses import replace

from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.schedule import Schedule
from tests.simulation.engine.world import simulate

RUNS_MOST = 400


def shrink(schedule: Schedule, shim: SqliteShim) -> Schedule:
    """The smallest schedule found within some hundred runs; the same one if it breaks nothing."""
    promise = _first_breach(schedule, shim)
    if promise is None:
        return schedule
    runs = 0
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller_schedules(schedule):
            runs += 1
            if runs > RUNS_MOST:
                return schedule
            if _first_breach(candidate, shim) == promise:
                schedule, smaller = candidate, True
                break
    return schedule


def _first_breach(schedule: Schedule, shim: SqliteShim) -> str | None:
    broken = simulate(schedule, shim).breaches
    return broken[0][0] if broken else None


def _smaller_schedules(schedule: Schedule) -> Iterator[Schedule]:
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
    for index, period in enumerate(schedule.fault_periods):
        for part in ("reads", "lists", "updates"):
            if getattr(period, part):
                fault_periods = list(schedule.fault_periods)
                fault_periods[index] = replace(period, **{part: 0.0})
                yield replace(schedule, fault_periods=tuple(fault_periods))
    yield from _without_gates_and_others(schedule)
    if schedule.slow:
        yield replace(schedule, slow=False)


def _without_gates_and_others(schedule: Schedule) -> Iterator[Schedule]:
    for index in range(len(schedule.outages)):
        yield replace(schedule, outages=schedule.outages[:index] + schedule.outages[index + 1 :])
    for candidate in (
        replace(schedule, closed_minutes=None),
        replace(schedule, max_writes_per_hour=None),
        replace(schedule, max_changes_percent=100.0, canary=0),
        replace(schedule, other_writer=None),
        replace(schedule, second=None),
        replace(schedule, cache_seconds=0.0),
    ):
        if candidate != schedule:
            yield candidate
