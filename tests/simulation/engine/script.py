"""Runs of which a test states every request's response and every event, instead of drawing them.

    run = run_script(shim, updates={0: [unknown(applied=3.0)]}, until=60.0)
    (update,) = run.posts()

The n-th request for an allocation gets the n-th response of its script. Without one, it gets the response of
the scripted faults, or else succeeds within a few hundredths of a second. By default an allocation has the
region x and declares the region a, and there are no heartbeats, whose reads no script foresees.

The rules: a script is used up. A response that no request gets and an event that still waits for its seam
fail the run, as does every broken promise. The timeline is printed in any case.

Left out: drawn runs (`schedule`, `request_faults`), and how a test reads the result (`run_record`).
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import TypeVar

from allocsync.journal import reader
from allocsync.model.api_answers import OutcomeUnknown
from allocsync.model.desired_state import Mode
from allocsync.model.times import WallTime
from tests.simulation.disk.disk import Disk
from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine import virtual_time
from tests.simulation.engine.history import History
from tests.simulation.engine.machine import WALL_SECONDS
from tests.simulation.engine.schedule import (
    Action,
    Allocation,
    Edit,
    Event,
    OtherWriter,
    Schedule,
    Seam,
    SecondAllocsync,
    SimultaneousEdits,
)
from tests.simulation.engine.world import World
from tests.simulation.faults.request_faults import (
    ACCEPTED,
    Answer,
    ReadResponse,
    RequestFaults,
    UpdateResponse,
)
from tests.simulation.faults.scripted_faults import ANSWERED, NO_FAULTS, SOON, ListResponse, ScriptedFaults
from tests.simulation.oracles.run_record import RunRecord
from tests.simulation.report.timeline import timeline

Line = TypeVar("Line")

LIVE = (("region", "x"), ("version", "x"), ("urls.vanity.url", "x"))
GATEWAY_TIMEOUT = OutcomeUnknown("504 Gateway Timeout", 504)
WRONG_ID = "200 OK, but with the id of another allocation"


# Responses.


def accepted(after: float = ANSWERED, *, applied: float | None = SOON, status: int = 200) -> UpdateResponse:
    """A 2xx after `after` seconds; the update is applied `applied` seconds after it was sent, or never."""
    return UpdateResponse(ACCEPTED, SOON, applied, after, status)


def unknown(after: float = 0.1, *, applied: float | None, answer: Answer = GATEWAY_TIMEOUT) -> UpdateResponse:
    """A 504 or another unknown outcome after `after` seconds; applied as in `accepted`."""
    return UpdateResponse(answer, SOON, applied, after)


def failed(reason: str, status: int | None = None) -> ReadResponse:
    """A read that fails."""
    return ReadResponse(SOON, ANSWERED, (reason, status, None))


READ_WITHOUT_FAULT = ReadResponse(SOON, ANSWERED)
LIST_WITHOUT_FAULT = ListResponse()


# Allocations and events.


def allocation(
    key: int = 0,
    *,
    declared: Mapping[str, str] | None = None,
    ignored_field: str = "",
    has_moving_timestamp: bool = False,
    mode: Mode = Mode.ENFORCE,
) -> Allocation:
    """An allocation with the region, version and vanity URL x that declares the region a, or `declared`."""
    fields = tuple((declared or {"region": "a"}).items())
    return Allocation(
        key=key,
        live=LIVE,
        declared=fields,
        ignored_field=ignored_field,
        has_moving_timestamp=has_moving_timestamp,
        mode=mode,
    )


def edit(region: str, key: int = 0, *, mode: Mode = Mode.ENFORCE) -> Edit:
    """The file declares this region now."""
    return Edit(key, (("region", region),), mode)


def edits(region: str, keys: Iterable[int], *, mode: Mode = Mode.ENFORCE) -> SimultaneousEdits:
    """The files declare this region of all these allocations now."""
    return SimultaneousEdits(tuple(edit(region, key, mode=mode) for key in keys))


def at(seconds: float, action: Action, *, seam: Seam | None = None) -> Event:
    """An event at this virtual time, or when the process next reaches the seam after it."""
    return Event(seconds, action, seam)


class _Listing(random.Random):
    """In place of random numbers: which allocations a list leaves out."""

    def __init__(self, omits: frozenset[int]) -> None:
        super().__init__()
        self._omits, self._number = omits, -1

    def random(self) -> float:
        self._number += 1
        return 0.0 if self._number in self._omits else 1.0


class ScriptedRequestFaults(RequestFaults):
    """Gives each request the response of the script. `lists` has the times of all lists."""

    def __init__(
        self,
        schedule: Schedule,
        updates: Mapping[int, Sequence[UpdateResponse]],
        reads: Mapping[int, Sequence[ReadResponse]],
        lists: Sequence[ListResponse],
        scripted_faults: ScriptedFaults,
    ) -> None:
        super().__init__(schedule)
        self._scripted_faults = scripted_faults
        self._updates = {key: list(lines) for key, lines in updates.items()}
        self._reads = {key: list(lines) for key, lines in reads.items()}
        self._lists = list(lists)
        self.lists: list[float] = []

    def read(self, key: int, now: float) -> ReadResponse:
        return _next(self._reads.get(key)) or self._scripted_faults.reads(key, now) or READ_WITHOUT_FAULT

    def update(self, allocation: Allocation, now: float) -> UpdateResponse:
        key = allocation.key
        return _next(self._updates.get(key)) or self._scripted_faults.updates(key, now) or accepted()

    def bulk(self, now: float) -> tuple[ReadResponse, random.Random]:
        self.lists.append(now)
        line = _next(self._lists) or self._scripted_faults.lists(now) or LIST_WITHOUT_FAULT
        fault = (line.fault, None, None) if line.fault else None
        return ReadResponse(SOON, line.after, fault), _Listing(line.omits)

    def unused(self) -> int:
        """The number of responses that no request got."""
        updates = sum(len(lines) for lines in self._updates.values())
        return updates + sum(len(lines) for lines in self._reads.values()) + len(self._lists)


def _next(lines: list[Line] | None) -> Line | None:
    return lines.pop(0) if lines else None


class HeaderDamagingDisk(Disk):
    """A disk whose damage is always noticed: it changes the first bytes, by which SQLite knows its files."""

    def corrupt(self, rng: random.Random, name: str = "journal.db", number: int = 16) -> list[int]:  # noqa: ARG002 - nothing is random
        path = self.directory / name
        content = bytearray(path.read_bytes())
        content[:number] = bytes(255 - byte for byte in content[:number])
        path.write_bytes(content)
        return list(range(number))


class _ScriptedWorld(World):
    """A run with scripted responses."""

    def __init__(
        self, schedule: Schedule, disk: Disk, second_disk: Disk, request_faults: ScriptedRequestFaults
    ) -> None:
        super().__init__(schedule, disk, second_disk)
        self._server.request_faults = request_faults

    @property
    def history(self) -> History:
        return self._server.history

    @property
    def directory(self) -> Path:
        return self._machine.disk.directory

    @property
    def waiting(self) -> int:
        return len(self._waiting)


def run_script(
    shim: SqliteShim,
    *,
    until: float,
    allocations: Sequence[Allocation] = (allocation(),),
    updates: Mapping[int, Sequence[UpdateResponse]] | None = None,
    reads: Mapping[int, Sequence[ReadResponse]] | None = None,
    lists: Sequence[ListResponse] = (),
    events: Sequence[Event] = (),
    scripted_faults: ScriptedFaults = NO_FAULTS,
    bulk: str = "off",
    resync_seconds: float = 300.0,
    heartbeat_seconds: float = inf,
    max_changes_percent: float = 100.0,
    canary: int = 0,
    max_writes_per_hour: int | None = None,
    closed_minutes: range | None = None,
    other_writer: OtherWriter | None = None,
    second: SecondAllocsync | None = None,
    cache_seconds: float = 0.0,
) -> RunRecord:
    """Run the script until `until`, and on until everything has converged. The settings are as in `Schedule`.

    Raises:
        AssertionError: a promise is broken, or a part of the script is unused.
    """
    schedule = Schedule(
        seed=1,
        allocations=tuple(allocations),
        fault_periods=(),
        events=tuple(events),
        faults_end_at=until,
        bulk=bulk,
        resync_seconds=resync_seconds,
        heartbeat_seconds=heartbeat_seconds,
        max_changes_percent=max_changes_percent,
        canary=canary,
        max_writes_per_hour=max_writes_per_hour,
        closed_minutes=closed_minutes,
        other_writer=other_writer,
        second=second,
        cache_seconds=cache_seconds,
    )
    request_faults = ScriptedRequestFaults(schedule, updates or {}, reads or {}, lists, scripted_faults)
    with HeaderDamagingDisk(shim) as disk, Disk(shim) as second_disk:
        worlds: list[_ScriptedWorld] = []

        async def main() -> None:
            worlds.append(_ScriptedWorld(schedule, disk, second_disk, request_faults))
            await worlds[0].run()

        try:
            virtual_time.run(main(), random.Random(schedule.seed))
        finally:
            for world in worlds:
                print(timeline(schedule, world.outcome))  # noqa: T201 - shown when the test fails
        (world,) = worlds
        assert not world.outcome.breaches, world.outcome.breaches[0]
        assert not request_faults.unused(), "some responses of the script were not used"
        assert not world.waiting, "an event still waits for its seam"
        with reader.opened(world.directory) as connection:
            assert reader.verify(connection).problems == ()
            journal = tuple(reader.updates(connection, reader.Query()))
            gaps = tuple(found - WallTime(WALL_SECONDS) for found, _ in reader.gaps(connection))
        files = tuple(sorted(each.name for each in world.directory.iterdir()))
        return RunRecord(world.outcome, world.history, journal, gaps, tuple(request_faults.lists), files)
