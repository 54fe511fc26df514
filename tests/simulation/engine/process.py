"""One life of the daemon's process, between its seams: API, clock and chance, journal's executor, files.

All between them is the real code, its SQL on a real SQLite file included. A life that has ended reaches
nothing any more: whatever its tasks do while they are taken down stops at a seam.
"""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

from allocsync.errors import AllocsyncError, BulkUnavailable
from allocsync.journal.database import NAME, JournalFile
from allocsync.journal.writer import Journal
from allocsync.model.api_answers import Accepted, Failed, Live, Missing, Snapshot, UpdateAnswer
from allocsync.model.cloud import Cloud
from allocsync.model.desired_state import Generation
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import Restored
from allocsync.reconcile import events
from allocsync.reconcile.controller import Loop
from allocsync.runtime.wiring import build_loop
from allocsync.settings.model import Settings
from tests.simulation.engine.history import Get
from tests.simulation.engine.schedule import Schedule, Seam
from tests.simulation.engine.server import Server, number_of
from tests.simulation.oracles.promises import Promises

T = TypeVar("T")
DRAIN_SECONDS = 20.0
RESTLESS = 3600.0
OMITTED = 0.02  # the share of clouds that a bulk answer leaves out


class Life:
    """See the module. `wall_offset` is the wall clock less the loop's; `crossed` is told of each seam."""

    def __init__(
        self,
        number: int,
        *,
        schedule: Schedule,
        server: Server,
        promises: Promises,
        directory: Path,
        wall_offset: float,
        crossed: Callable[[Seam], None],
        note: Callable[..., None],
    ) -> None:
        self.number = number
        self.alive = True
        self.began = server.now()
        self.commit_seconds = 0.0
        self.wall_offset = wall_offset
        self.loop: Loop | None = None
        self.opened = False
        self._schedule = schedule
        self._server = server
        self._promises = promises
        self._directory = directory
        self._crossed = crossed
        self._note = note
        self._chance = random.Random(schedule.seed * 7919 + number)
        self._clock_begins = self._chance.uniform(0.0, 1e6) - self.began
        self._generations: asyncio.Queue[Generation] = asyncio.Queue()

    # Running.

    async def run(self) -> None:
        """From the start of the process to its end."""
        try:
            file, restored = JournalFile.open(self._directory, wall=self.wall)
        except AllocsyncError as error:
            self._note("process", None, f"cannot start: {error}")
            return
        self.opened = True
        if self._schedule.checkpoint_pages:
            file.connection.execute(f"PRAGMA wal_autocheckpoint = {self._schedule.checkpoint_pages}")
        self._promises.began(self.number, self._directory / NAME, restored, wall=self.wall())
        async with Journal.running(file, execute=self._execute, now=self.now, wall=self.wall) as journal:
            await self._reconcile(journal, restored)
        file.close()

    async def _reconcile(self, journal: Journal, restored: Restored) -> None:
        settings = Settings(
            bulk=self._schedule.bulk,  # type: ignore[arg-type] # one of its words
            resync_seconds=self._schedule.resync_seconds,
            max_changes_percent=self._schedule.max_changes_percent,
        )
        self.loop = loop = build_loop(
            settings, api=self, clock=self, observer=self._observe, journal=journal, restored=restored
        )
        journal.on_change = lambda problem: loop.journal_works() if problem is None else None
        async with asyncio.TaskGroup() as group:
            around = [group.create_task(self._follow(loop)), group.create_task(self._tend(journal))]
            await loop.run()
            for task in around:
                task.cancel()

    async def _follow(self, loop: Loop) -> None:
        while True:
            generation = await self._generations.get()
            self._alive()
            loop.adopt(generation)
            self._promises.adopted(generation)

    async def _tend(self, journal: Journal) -> None:
        while True:
            await journal.tend()
            await asyncio.sleep(RESTLESS)

    def told(self, generation: Generation) -> None:
        """The files say this now."""
        self._generations.put_nowait(generation)

    def _observe(self, event: events.Event) -> None:
        if self.alive:
            fields = dict(events.fields_of(event))
            self._note("daemon", fields.pop("allocation", None), event.name, fields)

    def _alive(self) -> None:
        if not self.alive:
            raise asyncio.CancelledError

    async def _passes(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._alive()

    def _cross(self, seam: Seam) -> None:
        self._alive()
        self._crossed(seam)
        self._alive()

    # Clock and chance.

    def now(self) -> float:
        """The process's clock begins anew in each life."""
        return self._server.now() + self._clock_begins

    def wall(self) -> float:
        """Seconds since the epoch, as this machine believes."""
        return self._server.now() + self.wall_offset

    def uniform(self, low: float, high: float) -> float:
        """A random number in [low, high]."""
        return self._chance.uniform(low, high)

    # The journal's executor.

    def _execute(self, work: Callable[[], T]) -> Awaitable[T]:
        return self._executed(work)

    async def _executed(self, work: Callable[[], T]) -> T:
        self._cross(Seam.COMMIT)
        await self._passes(self._chance.uniform(0.0, 0.004) + self.commit_seconds)
        try:
            done = work()
        finally:
            self._alive()  # the machine may have gone in the middle of it
        self._cross(Seam.COMMITTED)
        await self._passes(self._chance.uniform(0.0, 0.001))
        return done

    # The API.

    async def snapshot(self, allocation_id: AllocationId) -> Snapshot:
        """One read."""
        self._cross(Seam.GET)
        fate = self._server.fates.read(number_of(allocation_id), self._server.now())
        get = self._promises.reads(self.number, allocation_id)
        if fate.fault is not None:
            await self._passes(fate.answered_seconds)
            reason, status, after = fate.fault
            answer: Snapshot = Failed(reason, status, after)
        else:
            await self._passes(fate.served_seconds)
            get.served = self._server.history.order()
            cloud = self._server.served(allocation_id)
            await self._passes(fate.answered_seconds - fate.served_seconds)
            answer = self._served(get, cloud)
        self._cross(Seam.GOT)
        self._promises.read(get, answer)
        return answer

    @staticmethod
    def _served(get: Get, cloud: Cloud | None) -> Snapshot:
        get.cloud, get.gone = cloud, cloud is None
        return Missing() if cloud is None else Live(cloud)

    async def update(self, allocation_id: AllocationId, body: Cloud) -> UpdateAnswer:
        """One update."""
        self._cross(Seam.POST)
        fate = self._server.fates.update(self._server.allocations[allocation_id], self._server.now())
        post = self._promises.sends(self.number, allocation_id, body)
        self._server.takes(post, fate)
        try:
            await self._passes(fate.answered_seconds)
        except asyncio.CancelledError:
            if self.alive:
                self._promises.cut_off(post)
            raise
        answer: UpdateAnswer
        if isinstance(fate.ending, str):
            answer = Accepted(fate.status, body if fate.status == HTTPStatus.OK else None)
        else:
            answer = fate.ending
        self._cross(Seam.POSTED)
        self._promises.sent(post, answer)
        return answer

    async def list(self) -> AsyncIterator[Cloud]:
        """Everything."""
        self._cross(Seam.LIST)
        self._server.history.lists += 1
        begun = self._server.now()
        if not self._schedule.bulk_route:
            await self._passes(0.01)
            self._server.history.listed.append((self._server.now(), False))
            raise BulkUnavailable("404 Route not found", supported=False)
        fate, chance = self._server.fates.bulk(self._server.now())
        await self._passes(fate.served_seconds)
        served = [self._server.served(key) for key in self._server.allocations]
        await self._passes(fate.answered_seconds - fate.served_seconds)
        self._server.history.listed.append((self._server.now(), fate.fault is None))
        if fate.fault is not None:
            raise BulkUnavailable(fate.fault[0], supported=True)
        self._cross(Seam.LISTED)
        listed = [cloud for cloud in served if cloud is not None and chance.random() >= OMITTED]
        self._promises.liveness.listed(listed, begun)
        for cloud in listed:
            yield cloud


def rows_of(path: Path) -> sqlite3.Connection:
    """The journal, for judging it."""
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
