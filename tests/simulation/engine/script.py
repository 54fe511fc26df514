"""A run that is told as a story: what each request meets, and what happens when, is written down, not drawn.

    run = play(shim, updates={0: [unknown(lands=3.0)]}, until=60.0)
    (update,) = run.posts()

The n-th request for an allocation meets the n-th line of its script; what no line speaks of meets the weather
if there is any, and else goes well, in a few hundredths of a second. Each allocation has the region x and
shall have the region a.

The rule: a script is used up. A line that no request met, or an event that waits for a seam to the end, fails
the run, and so does every promise that is broken on the way. The timeline is printed in any case.

Left out: what is drawn (`schedule`, `fates`), and how to ask what came of it (`account`).
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from allocsync.journal import reader
from allocsync.model.api_answers import OutcomeUnknown
from allocsync.model.desired_state import Mode
from tests.simulation.disk.disk import Disk
from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine import virtual_time
from tests.simulation.engine.history import History
from tests.simulation.engine.machine import WALL
from tests.simulation.engine.schedule import Action, Allocation, Edit, Edits, Event, Schedule, Seam
from tests.simulation.engine.world import World
from tests.simulation.faults.request_faults import ACCEPTED, Ending, Fates, ReadFate, UpdateFate
from tests.simulation.faults.scripted_faults import ANSWERED, FINE, SOON, Listed, Weather
from tests.simulation.oracles.run_record import Run
from tests.simulation.report.timeline import timeline

Line = TypeVar("Line")

LIVE = (("region", "x"), ("version", "x"), ("urls.vanity.url", "x"))
GATEWAY_TIMEOUT = OutcomeUnknown("504 Gateway Timeout", 504)
WRONG_ID = "200 OK, but with the id of another allocation"


# What requests meet.


def accepted(after: float = ANSWERED, *, lands: float | None = SOON) -> UpdateFate:
    """A 2xx after so long; it is carried out so long after it was sent, or never."""
    return UpdateFate(ACCEPTED, SOON, lands, after)


def unknown(after: float = 0.1, *, lands: float | None, ending: Ending = GATEWAY_TIMEOUT) -> UpdateFate:
    """A 504, or what else says nothing, after so long; carried out so long after it was sent, or never."""
    return UpdateFate(ending, SOON, lands, after)


def failed(reason: str, status: int | None = None) -> ReadFate:
    """A read without a usable answer."""
    return ReadFate(SOON, ANSWERED, (reason, status, None))


WELL = ReadFate(SOON, ANSWERED)
LISTED_WELL = Listed()


# What happens.


def allocation(
    key: int = 0,
    *,
    declared: Mapping[str, str] | None = None,
    deaf: str = "",
    ticking: bool = False,
    mode: Mode = Mode.ENFORCE,
) -> Allocation:
    """One that has the region, the version and the vanity URL x; and shall have the region a."""
    leaves = tuple((declared or {"region": "a"}).items())
    return Allocation(key=key, live=LIVE, declared=leaves, deaf=deaf, ticking=ticking, mode=mode)


def edit(region: str, key: int = 0, *, mode: Mode = Mode.ENFORCE) -> Edit:
    """The file declares this region now."""
    return Edit(key, (("region", region),), mode)


def edits(region: str, keys: Iterable[int], *, mode: Mode = Mode.ENFORCE) -> Edits:
    """The files declare this region of all of these now."""
    return Edits(tuple(edit(region, key, mode=mode) for key in keys))


def at(seconds: float, action: Action, *, seam: Seam | None = None) -> Event:
    """It happens then, or when the process comes to that seam the next time."""
    return Event(seconds, action, seam)


class _Listing(random.Random):
    """In the place of chance: which records a bulk read leaves out."""

    def __init__(self, omits: frozenset[int]) -> None:
        super().__init__()
        self._omits, self._number = omits, -1

    def random(self) -> float:
        self._number += 1
        return 0.0 if self._number in self._omits else 1.0


class ScriptedFates(Fates):
    """Gives each request what the script has for it. `lists` are the times of the bulk reads."""

    def __init__(
        self,
        schedule: Schedule,
        updates: Mapping[int, Sequence[UpdateFate]],
        reads: Mapping[int, Sequence[ReadFate]],
        lists: Sequence[Listed],
        weather: Weather,
    ) -> None:
        super().__init__(schedule)
        self._weather = weather
        self._updates = {key: list(lines) for key, lines in updates.items()}
        self._reads = {key: list(lines) for key, lines in reads.items()}
        self._lists = list(lists)
        self.lists: list[float] = []

    def read(self, key: int, now: float) -> ReadFate:
        return _next(self._reads.get(key)) or self._weather.reads(key, now) or WELL

    def update(self, allocation: Allocation, now: float) -> UpdateFate:
        key = allocation.key
        return _next(self._updates.get(key)) or self._weather.updates(key, now) or accepted()

    def bulk(self, now: float) -> tuple[ReadFate, random.Random]:
        self.lists.append(now)
        line = _next(self._lists) or self._weather.lists(now) or LISTED_WELL
        fault = (line.fault, None, None) if line.fault else None
        return ReadFate(SOON, line.after, fault), _Listing(line.omits)

    def unmet(self) -> int:
        """How many lines no request has met."""
        updates = sum(len(lines) for lines in self._updates.values())
        return updates + sum(len(lines) for lines in self._reads.values()) + len(self._lists)


def _next(lines: list[Line] | None) -> Line | None:
    return lines.pop(0) if lines else None


class WreckedDisk(Disk):
    """Its damage is seen whatever the seed: it strikes the first bytes, by which SQLite knows its files."""

    def flip(self, chance: random.Random, name: str = "journal.db", number: int = 16) -> list[int]:  # noqa: ARG002 - nothing is drawn
        path = self.directory / name
        content = bytearray(path.read_bytes())
        content[:number] = bytes(255 - byte for byte in content[:number])
        path.write_bytes(content)
        return list(range(number))


class _Played(World):
    """A run with a script in the place of chance."""

    def __init__(self, schedule: Schedule, disk: Disk, fates: ScriptedFates) -> None:
        super().__init__(schedule, disk)
        self._server.fates = fates

    @property
    def history(self) -> History:
        return self._server.history

    @property
    def directory(self) -> Path:
        return self._machine.disk.directory

    @property
    def waiting(self) -> int:
        return len(self._waiting)


def play(
    shim: SqliteShim,
    *,
    until: float,
    allocations: Sequence[Allocation] = (allocation(),),
    updates: Mapping[int, Sequence[UpdateFate]] | None = None,
    reads: Mapping[int, Sequence[ReadFate]] | None = None,
    lists: Sequence[Listed] = (),
    events: Sequence[Event] = (),
    weather: Weather = FINE,
    bulk: str = "off",
    resync_seconds: float = 300.0,
    max_changes_percent: float = 100.0,
) -> Run:
    """Run the script until this time, and on until all that can be in line is so."""
    schedule = Schedule(
        seed=1,
        allocations=tuple(allocations),
        spells=(),
        events=tuple(events),
        calm_at=until,
        bulk=bulk,
        resync_seconds=resync_seconds,
        max_changes_percent=max_changes_percent,
    )
    fates = ScriptedFates(schedule, updates or {}, reads or {}, lists, weather)
    with WreckedDisk(shim) as disk:
        worlds: list[_Played] = []

        async def main() -> None:
            worlds.append(_Played(schedule, disk, fates))
            await worlds[0].run()

        try:
            virtual_time.run(main(), random.Random(schedule.seed))
        finally:
            for world in worlds:
                print(timeline(schedule, world.outcome))  # noqa: T201 - shown where the test fails
        (world,) = worlds
        assert not world.outcome.broken, world.outcome.broken[0]
        assert not fates.unmet(), "no request met some lines of the script"
        assert not world.waiting, "an event waited for a seam to the end"
        with reader.opened(world.directory) as connection:
            assert reader.verify(connection).problems == ()
            journal = tuple(reader.updates(connection, reader.Query()))
            gaps = tuple(found - WALL for found, _ in reader.gaps(connection))
        files = tuple(sorted(each.name for each in world.directory.iterdir()))
        return Run(world.outcome, world.history, journal, gaps, tuple(fates.lists), files)
