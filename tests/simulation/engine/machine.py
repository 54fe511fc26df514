"""The machine that the daemon runs on: its disk, its wall clock, and one process after another.

The rule: a crash is not a cancellation. First the process loses its seams and the disk, then its tasks are
cancelled, so that nothing they do then has an effect.

Left out: one process (`process`), and the events of a run (`world`).
"""

import asyncio
import random
import traceback
from collections.abc import Callable

from allocsync.errors import AllocsyncError, NotAwaitingApprovalError
from allocsync.journal.database import NAME
from allocsync.model.ids import NotFound
from allocsync.reconcile.pause_control import Lifted
from tests.simulation.disk.disk import Disk, Fault
from tests.simulation.engine.files import Files
from tests.simulation.engine.process import DaemonProcess
from tests.simulation.engine.schedule import DiskFaultKind, EndKind, EndProcess, Schedule, Seam
from tests.simulation.engine.server import Server, id_of
from tests.simulation.oracles.promises import PromiseOracle
from tests.simulation.report.outcome import Outcome

WALL_SECONDS = 1.8e9
RESTART_SECONDS = 1.0  # until a process that ended by itself is started again
STOPPED_WITHIN_SECONDS = 20.0 + 5.0
FORMAT_NUMBER = slice(60, 64)  # the user version in SQLite's header
DAMAGED_BYTES = 30
CALLS_IN_A_COMMIT = 12  # of the disk, and some more
FAULTS = {
    DiskFaultKind.FULL: Fault.FULL,
    DiskFaultKind.IO_ERROR: Fault.IO_ERROR,
    DiskFaultKind.SYNC_ERROR: Fault.SYNC_ERROR,
    DiskFaultKind.READ_ONLY: Fault.READ_ONLY,
}


class Machine:
    """See the module. `process` is the process that runs, or the last one."""

    def __init__(
        self,
        schedule: Schedule,
        *,
        server: Server,
        files: Files,
        promises: PromiseOracle,
        disk: Disk,
        outcome: Outcome,
        on_seam: Callable[[Seam], None],
        clock_ahead_seconds: float = 0.0,
    ) -> None:
        """The wall clock is so many seconds ahead at the start."""
        self.disk = disk
        self.process: DaemonProcess | None = None
        self._schedule = schedule
        self._server = server
        self._files = files
        self._promises = promises
        self._outcome = outcome
        self._on_seam = on_seam
        self._rng = random.Random(schedule.seed + 1)
        self._wall_offset, self._wall_jump = WALL_SECONDS + clock_ahead_seconds, 0.0
        self._commit_seconds = 0.0
        self._damaged = False  # whether the journal ever was
        self._next_start = 0.0
        self._process_count = 0
        self._is_off = False
        self._task: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    # Processes.

    async def run(self) -> None:
        """Run one process after another, until `switch_off`."""
        while not self._is_off:
            await asyncio.sleep(max(0.0, self._next_start - self._server.now()))
            self._next_start = self._server.now() + RESTART_SECONDS
            await self._run_process()

    async def _run_process(self) -> None:
        self._process_count += 1
        self._move_wall_clock()
        self.process = process = DaemonProcess(
            self._process_count,
            schedule=self._schedule,
            server=self._server,
            promises=self._promises,
            directory=self.disk.directory,
            wall_offset=self._wall_offset,
            on_seam=self._on_seam,
            note=self._outcome.note,
        )
        process.commit_seconds = self._commit_seconds
        self._outcome.note("process", None, f"process {self._process_count} starts")
        process.deliver(self._files.revision())
        self._task = task = asyncio.get_running_loop().create_task(process.run())
        try:
            await asyncio.wait({task})
            self._check_end(process, task)
        finally:
            process.alive = False
            task.cancel()
            self.disk.check()
            self._promises.process_ended()

    def _check_end(self, process: DaemonProcess, task: "asyncio.Task[None]") -> None:
        """Report a breach if a process ended by itself, unless the damaged journal explains it."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, BaseExceptionGroup) and self._damaged and not error.split(AllocsyncError)[1]:
            self._outcome.note("process", None, f"ends by itself: {error.exceptions[0]}")
            return
        if process.alive and (error is not None or task.cancelled()):
            detail = (
                "the process was cancelled" if error is None else "".join(traceback.format_exception(error))
            )
            self._outcome.report_breach("P10", f"the process ended by itself: {detail[-1500:]}")

    def _move_wall_clock(self) -> None:
        if self._wall_jump:
            self._outcome.note("world", None, f"the wall clock has moved by {self._wall_jump:g} s")
        self._wall_offset += self._wall_jump
        self._promises.wall_clock_moved(self._wall_jump, self._wall_offset)
        self._wall_jump = 0.0

    def deliver_files(self) -> None:
        """The files have changed: give them to the running process."""
        if self.process is not None and self.process.alive:
            self.process.deliver(self._files.revision())

    def request_resync(self) -> None:
        """A person asks the running process to read everything."""
        if self.process is not None and self.process.alive and self.process.controller is not None:
            self._outcome.note("world", None, "a resync is requested")
            self._server.history.resync_requests.append(self._server.now())
            self.process.controller.sync()

    def approve(self) -> None:
        """A person approves the current files, which the running process was given, if they are held."""
        process = self.process
        if process is None or not process.alive or process.controller is None:
            return
        revision = self._files.revision()
        try:
            process.controller.rollout.approve(revision.id, "a person")
        except NotAwaitingApprovalError:
            self._promises.nothing_awaits_approval(revision)
            return
        self._outcome.note("world", None, f"{revision.id} is approved")
        self._outcome.fired.add("approval")
        self._promises.activated(revision, approved=True)

    def begin_pause(self, key: int | None, seconds: float) -> None:
        """A person pauses one allocation, or all."""
        process = self.process
        if process is None or not process.alive or process.controller is None:
            return
        name = None if key is None else id_of(key)
        begun = process.controller.pauses.begin(name, seconds=seconds, reason="a test", owner="a person")
        if not isinstance(begun, NotFound):
            self._outcome.note("world", name, f"paused for {seconds:g} s")
            self._outcome.fired.add("pause of all" if key is None else "pause of one")
            self._promises.pause_begun(name, seconds)

    def lift_pause(self, key: int | None) -> None:
        """A person lifts the pause of one allocation, or that of all."""
        process = self.process
        if process is None or not process.alive or process.controller is None:
            return
        name = None if key is None else id_of(key)
        lifted = process.controller.pauses.lift(name, by="a person")
        if isinstance(lifted, Lifted) and lifted.was_paused:
            self._outcome.note("world", name, "a pause is lifted")
            self._outcome.fired.add("pause lifted early")
            self._promises.pause_lifted(name)

    def retry(self, key: int | None) -> None:
        """A person asks the running process for another try of one allocation, or of all."""
        process = self.process
        if process is None or not process.alive or process.controller is None:
            return
        name = None if key is None else id_of(key)
        if not isinstance(process.controller.retry(name, by="a person"), NotFound):
            self._outcome.note("world", name, "a retry is requested")
            self._outcome.fired.add("retry of all" if key is None else "retry of one")
            self._promises.retried(name)

    def observe_status(self) -> None:
        """Have the oracles judge what the running process reports."""
        process = self.process
        if process is not None and process.alive and process.controller is not None:
            self._promises.status_reported(process.controller, process.wall_offset)

    def switch_off(self) -> None:
        """Send SIGTERM to the process, and start no other."""
        self._is_off = True
        if self.process is not None and self.process.alive:
            self._stop(self.process)

    # How processes end.

    def end(self, end: EndProcess) -> None:
        """End the running process in this way."""
        process = self.process
        if process is None or not process.alive:
            return
        self._next_start = self._server.now() + end.down_seconds
        self._wall_jump = end.wall_jump_seconds
        self._outcome.crashes += 1
        match end.how:
            case EndKind.STOP:
                self._stop(process)
            case EndKind.POWER_IN_COMMIT:
                self.disk.call_back_at(
                    self._rng.randint(1, CALLS_IN_A_COMMIT), lambda: self._crash(process, end)
                )
            case _:
                self._crash(process, end)

    def _stop(self, process: DaemonProcess) -> None:
        self._outcome.note("world", None, "SIGTERM")
        self._promises.liveness.process_ended()
        if process.controller is not None:
            process.controller.stop()
            self._stopping = asyncio.get_running_loop().create_task(self._check_stops(process))

    async def _check_stops(self, process: DaemonProcess) -> None:
        begun = self._server.now()
        await asyncio.sleep(STOPPED_WITHIN_SECONDS)
        await asyncio.sleep(3 * self._promises.commit_seconds)  # commits may have become slow meanwhile
        if process.alive:
            took = self._server.now() - begun
            self._outcome.report_breach("P9", f"the process has not ended {took:.0f} s after SIGTERM")

    def _crash(self, process: DaemonProcess, end: EndProcess) -> None:
        if not process.alive:
            return
        process.alive = False
        self._outcome.note("world", None, end.how.value)
        if end.how is EndKind.KILL:
            self.disk.crash_process()
        else:
            self.disk.cut_power(self._rng)
        # After the last process no other one would set the damaged journal aside.
        if end.damage and not self._is_off and self._has_journal():
            self._damage()
        self._promises.process_ended()
        if self._task is not None:
            self._task.cancel()

    # The disk.

    def _has_journal(self) -> bool:
        path = self.disk.directory / NAME
        return path.exists() and path.stat().st_size > DAMAGED_BYTES

    def _damage(self) -> None:
        """Damage the journal except for its format version: a newer format is rightly refused."""
        self._outcome.note("world", None, "the journal is damaged")
        self._damaged = True
        path = self.disk.directory / NAME
        number = path.read_bytes()[FORMAT_NUMBER]
        self.disk.corrupt(self._rng, number=DAMAGED_BYTES)
        data = path.read_bytes()
        if data[FORMAT_NUMBER] != number:
            path.write_bytes(data[: FORMAT_NUMBER.start] + number + data[FORMAT_NUMBER.stop :])

    def set_disk_fault(self, kind: DiskFaultKind, seconds: float) -> None:
        """Make the disk fail in this way for so many seconds."""
        self._outcome.note("world", None, f"the disk {kind.value}")
        self.disk.fault = FAULTS[kind]
        now, liveness = self._server.now(), self._promises.liveness
        liveness.disk_fails_until = now + seconds
        liveness.process_ends.disk_faults.append((now, now + seconds))
        asyncio.get_running_loop().call_later(seconds, self._end_disk_fault)

    def _end_disk_fault(self) -> None:
        self.disk.fault = None
        self._outcome.note("world", None, "the disk works")

    def slow_commits(self, commit_seconds: float, seconds: float) -> None:
        """Make each commit take `commit_seconds`, for `seconds`."""
        self._set_commit_seconds(commit_seconds)
        asyncio.get_running_loop().call_later(seconds, self._set_commit_seconds, 0.0)

    def _set_commit_seconds(self, commit_seconds: float) -> None:
        self._outcome.note("world", None, f"commits take {commit_seconds} s")
        self._commit_seconds = commit_seconds
        self._promises.commits_slowed(commit_seconds)
        if self.process is not None:
            self.process.commit_seconds = commit_seconds
