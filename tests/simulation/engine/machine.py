"""The machine that the daemon runs on: its disk, its wall clock, and one process after another.

The rule: a crash is not a cancellation. First the dead process's seams are shut and the disk is taken away
from it, then its tasks are taken down.
"""

import asyncio
import random
import traceback
from collections.abc import Callable

from allocsync.errors import AllocsyncError
from allocsync.journal.database import NAME
from tests.simulation.disk.disk import Disk, Fault
from tests.simulation.engine.files import Files
from tests.simulation.engine.process import Life
from tests.simulation.engine.schedule import DiskTrouble, Ends, How, Schedule, Seam
from tests.simulation.engine.server import Server
from tests.simulation.oracles.promises import Promises
from tests.simulation.report.outcome import Outcome

WALL = 1.8e9
RESTART_SECONDS = 1.0  # what starts a process that has ended by itself waits so long
STOPPED_WITHIN_SECONDS = 20.0 + 5.0
FORMAT_NUMBER = slice(60, 64)  # of SQLite's header: the user version
FLIPS = 30  # of bits, when a journal is damaged
CALLS_IN_A_COMMIT = 12  # of the disk, and a few more
FAULTS = {
    DiskTrouble.FULL: Fault.FULL,
    DiskTrouble.IO_ERROR: Fault.IO_ERROR,
    DiskTrouble.SYNC_ERROR: Fault.SYNC_ERROR,
    DiskTrouble.READ_ONLY: Fault.READ_ONLY,
}


class Machine:
    """See the module. `life` is the process that runs, or ran last."""

    def __init__(
        self,
        schedule: Schedule,
        *,
        server: Server,
        files: Files,
        promises: Promises,
        disk: Disk,
        outcome: Outcome,
        crossed: Callable[[Seam], None],
    ) -> None:
        self.disk = disk
        self.life: Life | None = None
        self._schedule = schedule
        self._server = server
        self._files = files
        self._promises = promises
        self._outcome = outcome
        self._crossed = crossed
        self._chance = random.Random(schedule.seed + 1)
        self._wall_offset, self._wall_jump = WALL, 0.0
        self._commit_seconds = 0.0
        self._damaged = False  # the journal, ever
        self._next_start = 0.0
        self._lives = 0
        self._off = False
        self._task: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    # Lives.

    async def run(self) -> None:
        """One life after another, until `switch_off`."""
        while not self._off:
            await asyncio.sleep(max(0.0, self._next_start - self._server.now()))
            self._next_start = self._server.now() + RESTART_SECONDS
            await self._live()

    async def _live(self) -> None:
        self._lives += 1
        self._move_wall()
        self.life = life = Life(
            self._lives,
            schedule=self._schedule,
            server=self._server,
            promises=self._promises,
            directory=self.disk.directory,
            wall_offset=self._wall_offset,
            crossed=self._crossed,
            note=self._outcome.note,
        )
        life.commit_seconds = self._commit_seconds
        self._outcome.note("process", None, f"life {self._lives} starts")
        life.told(self._files.generation())
        self._task = task = asyncio.get_running_loop().create_task(life.run())
        try:
            await asyncio.wait({task})
            self._see_how_it_ended(life, task)
        finally:
            life.alive = False
            task.cancel()
            self.disk.check()
            self._promises.ended()

    def _see_how_it_ended(self, life: Life, task: "asyncio.Task[None]") -> None:
        """Whatever ends a process that nobody has ended is a breach."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, BaseExceptionGroup) and self._damaged and not error.split(AllocsyncError)[1]:
            self._outcome.note("process", None, f"ends by itself: {error.exceptions[0]}")
            return
        if life.alive and (error is not None or task.cancelled()):
            said = "it was cancelled" if error is None else "".join(traceback.format_exception(error))
            self._outcome.broke("P10", f"the process ended: {said[-1500:]}")

    def _move_wall(self) -> None:
        if self._wall_jump:
            self._outcome.note("world", None, f"the wall clock has moved by {self._wall_jump:g} s")
        self._promises.wall_jumps(self._wall_jump)
        self._wall_offset += self._wall_jump
        self._wall_jump = 0.0

    def edited(self) -> None:
        """The files have changed: the process that runs is told."""
        if self.life is not None and self.life.alive:
            self.life.told(self._files.generation())

    def look(self) -> None:
        """Somebody asks the process for a look at everything."""
        if self.life is not None and self.life.alive and self.life.loop is not None:
            self._outcome.note("world", None, "a look at everything is asked for")
            self._server.history.asked.append(self._server.now())
            self.life.loop.sync()

    def approve(self) -> None:
        """Somebody approves what the files say, of which the process that runs has been told."""
        if self.life is not None and self.life.alive and self.life.loop is not None:
            generation = self._files.generation()
            self._outcome.note("world", None, f"{generation.digest} is approved")
            self.life.loop.adoption.approve(generation.digest, "a person")
            self._promises.adopted(generation, approved=True)

    def switch_off(self) -> None:
        """SIGTERM, and no other life after this one."""
        self._off = True
        if self.life is not None and self.life.alive:
            self._stop(self.life)

    # How lives end.

    def end(self, ends: Ends) -> None:
        """End the process that runs, in this way."""
        life = self.life
        if life is None or not life.alive:
            return
        self._next_start = self._server.now() + ends.down_seconds
        self._wall_jump = ends.wall_jump_seconds
        self._outcome.crashes += 1
        match ends.how:
            case How.STOP:
                self._stop(life)
            case How.POWER_IN_COMMIT:
                self.disk.cut_at(self._chance.randint(1, CALLS_IN_A_COMMIT), lambda: self._crash(life, ends))
            case _:
                self._crash(life, ends)

    def _stop(self, life: Life) -> None:
        self._outcome.note("world", None, "SIGTERM")
        self._promises.liveness.ended()
        if life.loop is not None:
            life.loop.stop()
            self._stopping = asyncio.get_running_loop().create_task(self._stops(life))

    async def _stops(self, life: Life) -> None:
        begun = self._server.now()
        await asyncio.sleep(STOPPED_WITHIN_SECONDS)
        await asyncio.sleep(3 * self._promises.commit_seconds)  # the disk may have become slow meanwhile
        if life.alive:
            took = self._server.now() - begun
            self._outcome.broke("P9", f"the process has not ended {took:.0f} s after SIGTERM")

    def _crash(self, life: Life, ends: Ends) -> None:
        if not life.alive:
            return
        life.alive = False
        self._outcome.note("world", None, ends.how.value)
        if ends.how is How.KILL:
            self.disk.crash_process()
        else:
            self.disk.cut_power(self._chance)
        if ends.damage and not self._off and self._is_there():  # of the last life none comes to set it aside
            self._damage()
        self._promises.ended()
        if self._task is not None:
            self._task.cancel()

    # The disk.

    def _is_there(self) -> bool:
        path = self.disk.directory / NAME
        return path.exists() and path.stat().st_size > FLIPS

    def _damage(self) -> None:
        """Anything but the format's number: one that looks newer is refused, as it should be."""
        self._outcome.note("world", None, "the journal is damaged")
        self._damaged = True
        path = self.disk.directory / NAME
        number = path.read_bytes()[FORMAT_NUMBER]
        self.disk.flip(self._chance, number=FLIPS)
        data = path.read_bytes()
        if data[FORMAT_NUMBER] != number:
            path.write_bytes(data[: FORMAT_NUMBER.start] + number + data[FORMAT_NUMBER.stop :])

    def trouble(self, trouble: DiskTrouble, seconds: float) -> None:
        """The disk does this for so long."""
        self._outcome.note("world", None, f"the disk {trouble.value}")
        self.disk.fault = FAULTS[trouble]
        now, liveness = self._server.now(), self._promises.liveness
        liveness.trouble_until = now + seconds
        liveness.ended_at.troubles.append((now, now + seconds))
        asyncio.get_running_loop().call_later(seconds, self._healed)

    def _healed(self) -> None:
        self.disk.fault = None
        self._outcome.note("world", None, "the disk works")

    def slow(self, commit_seconds: float, seconds: float) -> None:
        """Commits take so long, for so long."""
        self._commits_take(commit_seconds)
        asyncio.get_running_loop().call_later(seconds, self._commits_take, 0.0)

    def _commits_take(self, commit_seconds: float) -> None:
        self._outcome.note("world", None, f"commits take {commit_seconds} s")
        self._commit_seconds = commit_seconds
        self._promises.slow_commits(commit_seconds)
        if self.life is not None:
            self.life.commit_seconds = commit_seconds
