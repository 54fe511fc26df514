"""Runs one schedule: server, files, machine and events, until everything has converged without faults.

The rule: once the faults have ended, everything has to converge in time. Then the process is stopped, and the
oracles judge the load and the journal.

Left out: what is checked at each step (`promises`), and when everything counts as converged (`convergence`).
"""

import asyncio
import random
from contextlib import ExitStack
from typing import Any

from allocsync.model.ids import AllocationId
from tests.simulation.disk.disk import Disk
from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine import virtual_time
from tests.simulation.engine.files import Files
from tests.simulation.engine.installation import Installation, build_second, follow_files
from tests.simulation.engine.schedule import (
    Action,
    AllocationGone,
    Approve,
    BeginPause,
    DiskFault,
    Edit,
    EndProcess,
    Event,
    ForeignWrite,
    LiftPause,
    RejectNextUpdate,
    RequestResync,
    Retry,
    Schedule,
    Seam,
    SecondKind,
    SimultaneousEdits,
    SlowDisk,
    StrikeAfterAcceptance,
)
from tests.simulation.engine.server import id_of
from tests.simulation.report.outcome import Outcome

QUIET_SECONDS = 5.0
STATUS_EVERY_SECONDS, STATUS_LATER_EVERY_SECONDS = 5.3, 17.3  # until the faults have ended, and then


class World:
    """One run. `outcome` has what is known of it so far."""

    def __init__(self, schedule: Schedule, disk: Disk, second_disk: Disk | None = None) -> None:
        """`second_disk` is the disk of the second allocsync, if the schedule has one."""
        self._ended = asyncio.Event()
        self.outcome = Outcome(schedule.seed, on_breach=self._ended.set)
        self._schedule = schedule
        self._files = Files(schedule.allocations)
        first = Installation(
            schedule, files=self._files, disk=disk, outcome=self.outcome, on_seam=self._on_seam
        )
        self._first, self._server, self._machine = first, first.server, first.machine
        self._second: Installation | None = None
        if schedule.second is not None and second_disk is not None:
            self._second = build_second(
                schedule, schedule.second, first=first, disk=second_disk, outcome=self.outcome.of_second()
            )
        self._installations = [first, *([self._second] if self._second is not None else [])]
        self._waiting: list[Event] = []  # events that wait for their seam

    async def run(self) -> Outcome:
        """Run to the end, or to the first broken promise."""
        running = asyncio.get_running_loop()
        running.set_exception_handler(self._unhandled)
        for event in self._schedule.events:
            running.call_at(event.at, self._start_event, event)
        if self._schedule.other_writer is not None:
            writer = self._schedule.other_writer
            running.call_at(writer.begin, self._server.run_other_writer, writer)
        running.call_at(STATUS_EVERY_SECONDS, self._observe_status)
        tasks = {
            running.create_task(each)
            for each in (self._ended.wait(), self._run_processes(), self._converge())
        }
        while not self._ended.is_set():
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # an error of an oracle ends the run
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in self._installations:
            if not self.outcome.breaches:
                each.check_end()
        return self._figures()

    def _observe_status(self) -> None:
        for each in self._installations:
            each.machine.observe_status()
        is_quiet = self._server.now() > self._schedule.faults_end_at
        seconds = STATUS_LATER_EVERY_SECONDS if is_quiet else STATUS_EVERY_SECONDS
        asyncio.get_running_loop().call_later(seconds, self._observe_status)

    async def _run_processes(self) -> None:
        second = self._schedule.second
        begins = (0.0, *([second.begin] if second is not None else []))
        await asyncio.gather(
            *(each.run_from(begin) for each, begin in zip(self._installations, begins, strict=True))
        )
        self._ended.set()

    async def _converge(self) -> None:
        """Wait for the end of the faults and then for convergence; report a breach if it takes too long."""
        await asyncio.sleep(self._schedule.faults_end_at)
        while self._server.now() < (
            over_at := max(each.server.faults_over_at for each in self._installations)
        ):
            await asyncio.sleep(over_at - self._server.now())
        begun, within, disputed = self._server.now(), 0.0, self._disputed()
        while True:
            # Each time anew: a late write that a read shows lengthens the settle time.
            within = max(within, *(each.convergence_seconds() for each in self._installations))
            await asyncio.sleep(QUIET_SECONDS)
            self._machine.approve()  # a person approves in the end what still awaits it
            left = [line for each in self._installations for line in each.differences(disputed)]
            if not left:
                second = self._schedule.second
                await asyncio.sleep(second.dispute_seconds if second is not None and disputed else 0.0)
                for each in self._installations:
                    each.machine.switch_off()
                return
            if self._server.now() > begun + within:
                self.outcome.report_breach(
                    "P1", f"not converged {within:.0f} s after the last fault: {'; '.join(left)}"
                )

    def _disputed(self) -> frozenset[AllocationId]:
        """The allocations of which the two daemons want different values, so that they never converge."""
        wanted = self._schedule.second.wanted if self._schedule.second is not None else ()
        return frozenset(id_of(key) for key, kind, _ in wanted if kind is SecondKind.OTHER_VALUE)

    def _kinds_of_second(self) -> set[str]:
        """The kinds of allocations to which the second allocsync has sent an update."""
        if self._second is None or self._schedule.second is None:
            return set()
        truths = self._second.server.history.truths
        wanted = self._schedule.second.wanted
        return {f"second allocsync: {kind}" for key, kind, _ in wanted if truths[id_of(key)].posts}

    def _figures(self) -> Outcome:
        outcome, history = self.outcome, self._server.history
        outcome.requests, outcome.virtual_seconds = history.requests, self._server.now()
        outcome.updates = sum(len(truth.posts) for truth in history.truths.values())
        outcome.faults = self._server.faults
        outcome.disk_faults = sum(self._machine.disk.fault_counts.values())
        outcome.fired |= self._server.fired | self._server.request_faults.fired | self._first.gates.fired
        outcome.fired |= history.change_limit.fired | self._kinds_of_second()
        return outcome

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception") or context["message"]
        self.outcome.report_breach("P10", f"an unhandled error: {error!r}")

    # Events.

    def _start_event(self, event: Event) -> None:
        if event.seam is None:
            self._do(event.action)
        else:
            self._waiting.append(event)

    def _on_seam(self, seam: Seam) -> None:
        if self._waiting and self._server.now() < self._schedule.faults_end_at:
            due = next((event for event in self._waiting if event.seam is seam), None)
            if due is not None:
                self._waiting.remove(due)
                self.outcome.note("world", None, f"at a seam: {seam.value}")
                self._do(due.action)

    def _do(self, action: Action) -> None:
        match action:
            case Edit():
                self._edit(action)
            case SimultaneousEdits(edits):
                self._edit(*edits)
            case Approve():
                self._machine.approve()
            case EndProcess():
                self._machine.end(action)
            case RequestResync():
                self._machine.request_resync()
            case BeginPause(paused, seconds):
                self._machine.begin_pause(paused, seconds)
            case LiftPause(paused):
                self._machine.lift_pause(paused)
            case Retry(retried):
                self._machine.retry(retried)
            case _:
                self._cause_fault(action)

    def _cause_fault(
        self,
        fault: ForeignWrite
        | AllocationGone
        | DiskFault
        | SlowDisk
        | RejectNextUpdate
        | StrikeAfterAcceptance,
    ) -> None:
        match fault:
            case ForeignWrite(key, field, value):
                self._server.write_field(id_of(key), field, value)
            case AllocationGone(key, seconds):
                self._server.remove_for(id_of(key), seconds)
            case DiskFault(kind, seconds):
                self._machine.set_disk_fault(kind, seconds)
            case SlowDisk(commit_seconds, seconds):
                self._machine.slow_commits(commit_seconds, seconds)
            case RejectNextUpdate():
                self._server.request_faults.reject_next_update(fault)
            case StrikeAfterAcceptance():
                self._server.strike_after_acceptance(fault)

    def _edit(self, *edits: Edit) -> None:
        for edit in edits:
            self._files.edit(edit)
            self.outcome.note("world", id_of(edit.key), f"edit: {dict(edit.fields)} {edit.mode}")
        self._machine.deliver_files()
        if self._second is not None and self._schedule.second is not None:
            follow_files(self._second, self._schedule.second, self._files)


def simulate(schedule: Schedule, shim: SqliteShim) -> Outcome:
    """Run this schedule in virtual time."""
    with ExitStack() as stack:
        disk = stack.enter_context(Disk(shim))
        second_disk = stack.enter_context(Disk(shim)) if schedule.second is not None else None
        world: World | None = None

        async def main() -> Outcome:
            nonlocal world
            world = World(schedule, disk, second_disk)
            return await world.run()

        try:
            return virtual_time.run(main(), random.Random(schedule.seed))
        except virtual_time.StuckError as error:
            if world is None:
                raise
            world.outcome.breaches.append(("P1", f"the run is stuck: {error}"))
            return world.outcome
