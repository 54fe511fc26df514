"""One process of the daemon, between its seams: API, clock, randomness, the journal's executor and the files.

The rules: everything between the seams is the product's code, including its SQL on a real SQLite file. A
process that has ended has no effect any more: each of its tasks stops at the next seam.

Left out: what happens between processes (`machine`).
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
from allocsync.model.desired_state import Revision
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import Restored
from allocsync.model.times import Monotonic, WallTime
from allocsync.reconcile import events
from allocsync.reconcile.controller import Controller
from allocsync.reconcile.parameters import Parameters
from allocsync.runtime.wiring import build_controller
from allocsync.settings.model import Settings
from tests.simulation.engine.history import Get
from tests.simulation.engine.schedule import Schedule, Seam
from tests.simulation.engine.server import Server, number_of
from tests.simulation.oracles.promises import PromiseOracle

T = TypeVar("T")
DRAIN_SECONDS = 20.0
JOURNAL_TICK_SECONDS = 3600.0  # between two calls of the journal's maintenance
OMITTED = 0.02  # the share of allocations that a list leaves out


class DaemonProcess:
    """See the module. `on_seam` is called at each seam.

    `wall_offset` is the wall clock's time minus virtual time, in seconds.
    """

    def __init__(
        self,
        number: int,
        *,
        schedule: Schedule,
        server: Server,
        promises: PromiseOracle,
        directory: Path,
        wall_offset: float,
        on_seam: Callable[[Seam], None],
        note: Callable[..., None],
    ) -> None:
        self.number = number
        self.alive = True
        self.began = server.now()
        self.commit_seconds = 0.0
        self.wall_offset = wall_offset
        self.controller: Controller | None = None
        self.opened = False
        self._schedule = schedule
        self._server = server
        self._promises = promises
        self._directory = directory
        self._on_seam = on_seam
        self._note = note
        self._rng = random.Random(schedule.seed * 7919 + number)
        self._clock_begins = self._rng.uniform(0.0, 1e6) - self.began
        self._revisions: asyncio.Queue[Revision] = asyncio.Queue()

    # Running.

    async def run(self) -> None:
        """Run from the start of the process to its end."""
        try:
            file, restored = JournalFile.open(self._directory, wall=self.wall)
        except AllocsyncError as error:
            self._note("process", None, f"cannot start: {error}")
            return
        self.opened = True
        if self._schedule.checkpoint_pages:
            file.connection.execute(f"PRAGMA wal_autocheckpoint = {self._schedule.checkpoint_pages}")
        self._promises.process_started(self.number, self._directory / NAME, restored, wall=self.wall())
        async with Journal.running(file, execute=self._execute, now=self.now, wall=self.wall) as journal:
            await self._reconcile(journal, restored)
        file.close()

    async def _reconcile(self, journal: Journal, restored: Restored) -> None:
        settings = Settings(
            bulk=self._schedule.bulk,  # type: ignore[arg-type] # one of its words
            resync_seconds=self._schedule.resync_seconds,
            max_changes_percent=self._schedule.max_changes_percent,
            canary=self._schedule.canary,
            max_writes_per_hour=self._schedule.max_writes_per_hour,
            write_windows=windows_text(self._schedule.closed_minutes),
        )
        self.controller = loop = build_controller(
            settings,
            api=self,
            clock=self,
            observer=self._observe,
            journal=journal,
            restored=restored,
            defaults=Parameters(heartbeat_seconds=self._schedule.heartbeat_seconds),
        )
        journal.on_change = lambda problem: loop.journal_works() if problem is None else None
        async with asyncio.TaskGroup() as group:
            around = [
                group.create_task(self._follow(loop)),
                group.create_task(self._run_journal_ticks(journal)),
            ]
            await loop.run()
            for task in around:
                task.cancel()

    async def _follow(self, loop: Controller) -> None:
        while True:
            revision = await self._revisions.get()
            self._require_alive()
            loop.activate(revision)
            self._promises.activated(revision)

    async def _run_journal_ticks(self, journal: Journal) -> None:
        while True:
            await journal.enforce_retention()
            await asyncio.sleep(JOURNAL_TICK_SECONDS)

    def deliver(self, revision: Revision) -> None:
        """The files declare this revision now."""
        self._revisions.put_nowait(revision)

    def _observe(self, event: events.Event) -> None:
        if self.alive:
            fields = dict(events.fields_of(event))
            self._note("daemon", fields.pop("allocation", None), event.name, fields)

    def _require_alive(self) -> None:
        if not self.alive:
            raise asyncio.CancelledError

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._require_alive()

    def _pass_seam(self, seam: Seam) -> None:
        self._require_alive()
        self._on_seam(seam)
        self._require_alive()

    # Clock and randomness.

    def now(self) -> Monotonic:
        """Monotonic seconds, from another starting point in each process."""
        return Monotonic(self._server.now() + self._clock_begins)

    def wall(self) -> WallTime:
        """Seconds since the epoch, by this machine's wall clock."""
        return WallTime(self._server.now() + self.wall_offset)

    def uniform(self, low: float, high: float) -> float:
        """A random number in [low, high]."""
        return self._rng.uniform(low, high)

    # The journal's executor.

    def _execute(self, work: Callable[[], T]) -> Awaitable[T]:
        return self._executed(work)

    async def _executed(self, work: Callable[[], T]) -> T:
        self._pass_seam(Seam.COMMIT)
        await self._sleep(self._rng.uniform(0.0, 0.004) + self.commit_seconds)
        try:
            done = work()
        finally:
            self._require_alive()  # the machine may have lost its power during the work
        self._pass_seam(Seam.COMMITTED)
        await self._sleep(self._rng.uniform(0.0, 0.001))
        return done

    # The API.

    async def snapshot(self, allocation_id: AllocationId) -> Snapshot:
        """Read one allocation."""
        self._pass_seam(Seam.GET)
        response = self._server.request_faults.read(number_of(allocation_id), self._server.now())
        get = self._promises.read_sent(self.number, allocation_id)
        if response.fault is not None:
            await self._sleep(response.answered_seconds)
            reason, status, after = response.fault
            answer: Snapshot = Failed(reason, status, after, unreachable=response.refused)
        else:
            await self._sleep(response.served_seconds)
            cloud = self._server.serve(get)
            await self._sleep(response.answered_seconds - response.served_seconds)
            answer = self._served(get, cloud)
        self._pass_seam(Seam.GOT)
        self._promises.read_answered(get, answer)
        return answer

    @staticmethod
    def _served(get: Get, cloud: Cloud | None) -> Snapshot:
        get.cloud, get.gone = cloud, cloud is None
        return Missing(get.age_seconds) if cloud is None else DaemonProcess.live_of(cloud, get.age_seconds)

    @staticmethod
    def live_of(cloud: Cloud, age_seconds: float) -> Live:
        """The answer to a read of something that was true so long ago."""
        return Live(cloud, evidence_age_seconds=age_seconds)

    async def update(self, allocation_id: AllocationId, body: Cloud) -> UpdateAnswer:
        """Send one update."""
        self._pass_seam(Seam.POST)
        response = self._server.request_faults.update(
            self._server.allocations[allocation_id], self._server.now()
        )
        post = self._promises.update_sent(self.number, allocation_id, body)
        self._server.receive_update(post, response)
        try:
            await self._sleep(response.answered_seconds)
        except asyncio.CancelledError:
            if self.alive:
                self._promises.update_cut_off(post)
            raise
        answer: UpdateAnswer
        if isinstance(response.answer, str):
            answer = Accepted(response.status, body if response.status == HTTPStatus.OK else None)
        else:
            answer = response.answer
        self._pass_seam(Seam.POSTED)
        self._promises.update_answered(post, answer)
        if isinstance(answer, Accepted):
            self._server.update_accepted(post)
        return answer

    async def list(self) -> AsyncIterator[Live]:
        """Read all allocations in one list."""
        self._pass_seam(Seam.LIST)
        begun = self._server.now()
        if not self._schedule.has_list_route:
            self._server.list_begun(begun)
            await self._sleep(0.01)
            self._server.history.list_ends.append((self._server.now(), False))
            raise BulkUnavailable("404 Route not found", supported=False)
        response, rng = self._server.request_faults.bulk(begun)
        self._server.list_begun(begun + response.answered_seconds)
        await self._sleep(response.served_seconds)
        served = [self._server.current_cloud(key) for key in self._server.allocations]
        await self._sleep(response.answered_seconds - response.served_seconds)
        self._server.history.list_ends.append((self._server.now(), response.fault is None))
        if response.fault is not None:
            raise BulkUnavailable(response.fault[0], supported=True)
        self._pass_seam(Seam.LISTED)
        listed = [cloud for cloud in served if cloud is not None and rng.random() >= OMITTED]
        self._promises.liveness.list_answered(listed, begun)
        for cloud in listed:
            yield Live(cloud)


def windows_text(closed_minutes: range | None) -> str | None:
    """The setting of write windows that are closed in these minutes of each hour; None without any."""
    if closed_minutes is None:
        return None
    hours = range(24)
    begins = (60 * hour + closed_minutes.stop for hour in hours)
    ends = (60 * hour + closed_minutes.start for hour in (*hours[1:], 24))
    return ", ".join(
        f"{begin // 60:02}:{begin % 60:02}-{end // 60 % 24:02}:{end % 60:02}"
        for begin, end in zip(begins, ends, strict=True)
    )


def rows_of(path: Path) -> sqlite3.Connection:
    """A read-only connection to the journal, for the oracles."""
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
