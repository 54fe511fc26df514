"""Runs one schedule: server, files, machine and events, until everything has converged without faults.

The rule: once the faults have ended, everything has to converge in time. Then the process is stopped, and the
oracles judge the load and the journal.

Left out: what is checked at each step (`promises`), and when everything counts as converged (`convergence`).
"""

import asyncio
import random
from contextlib import closing
from typing import Any

from allocsync.journal.database import NAME
from tests.simulation.disk.disk import Disk
from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine import virtual_time
from tests.simulation.engine.files import Files
from tests.simulation.engine.machine import Machine
from tests.simulation.engine.process import rows_of
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
    Schedule,
    Seam,
    SimultaneousEdits,
    SlowDisk,
    StrikeAfterAcceptance,
)
from tests.simulation.engine.server import Server, id_of
from tests.simulation.oracles import convergence
from tests.simulation.oracles.history_evidence import unsettled
from tests.simulation.oracles.load import measure_load
from tests.simulation.oracles.promises import PromiseOracle
from tests.simulation.oracles.write_gates import WriteGatesOracle
from tests.simulation.report.outcome import Outcome

QUIET_SECONDS = 5.0
STATUS_EVERY_SECONDS, STATUS_LATER_EVERY_SECONDS = 5.3, 17.3  # until the faults have ended, and then


class World:
    """One run. `outcome` has what is known of it so far."""

    def __init__(self, schedule: Schedule, disk: Disk) -> None:
        self._ended = asyncio.Event()
        self.outcome = Outcome(schedule.seed, on_breach=self._ended.set)
        self._schedule = schedule
        self._server = Server(schedule, self.outcome.note)
        self._files = Files(schedule.allocations)
        self._gates = WriteGatesOracle(
            schedule.closed_minutes, schedule.max_writes_per_hour, len(schedule.allocations)
        )
        self._promises = PromiseOracle(
            self._server,
            gates=self._gates,
            resync_seconds=schedule.resync_seconds,
            bulk=schedule.bulk != "off" and schedule.has_list_route,
            report_breach=self.outcome.report_breach,
            note=self.outcome.note,
        )
        self._machine = Machine(
            schedule,
            server=self._server,
            files=self._files,
            promises=self._promises,
            disk=disk,
            outcome=self.outcome,
            on_seam=self._on_seam,
        )
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
        if not self.outcome.breaches:
            self._check_load()
        if not self.outcome.breaches:
            with closing(rows_of(self._machine.disk.directory / NAME)) as journal:
                self._promises.journal_oracle.run_ended(
                    journal, settled=lambda truth: not unsettled(truth, self._server.history.gap_at)
                )
        return self._figures()

    def _observe_status(self) -> None:
        self._machine.observe_status()
        is_quiet = self._server.now() > self._schedule.faults_end_at
        seconds = STATUS_LATER_EVERY_SECONDS if is_quiet else STATUS_EVERY_SECONDS
        asyncio.get_running_loop().call_later(seconds, self._observe_status)

    def _check_load(self) -> None:
        sent = measure_load(
            self._server.history,
            self._gates,
            now=self._server.now(),
            resync_seconds=self._schedule.resync_seconds,
        )
        if sent.is_excessive:
            self.outcome.report_breach("P5", str(sent))

    async def _run_processes(self) -> None:
        await self._machine.run()
        self._ended.set()

    async def _converge(self) -> None:
        """Wait for the end of the faults and then for convergence; report a breach if it takes too long."""
        await asyncio.sleep(self._schedule.faults_end_at)
        while self._server.now() < self._server.faults_over_at:
            await asyncio.sleep(self._server.faults_over_at - self._server.now())
        begun, liveness = self._server.now(), self._promises.liveness
        within = 0.0
        while True:
            # Each time anew: a late write that a read shows lengthens the settle time.
            allowed = convergence.convergence_seconds(
                self._server.history,
                liveness,
                self._gates,
                now=self._server.now(),
                resync_seconds=self._schedule.resync_seconds,
            )
            within = max(within, allowed)
            await asyncio.sleep(QUIET_SECONDS)
            self._machine.approve()  # a person approves in the end what still awaits it
            left = convergence.differences(
                self._server, liveness, self._files.declared, self._promises.journal
            )
            if not left:
                self._machine.switch_off()
                return
            if self._server.now() > begun + within:
                self.outcome.report_breach(
                    "P1", f"not converged {within:.0f} s after the last fault: {'; '.join(left)}"
                )

    def _figures(self) -> Outcome:
        outcome, history = self.outcome, self._server.history
        outcome.requests, outcome.virtual_seconds = history.requests, self._server.now()
        outcome.updates = sum(len(truth.posts) for truth in history.truths.values())
        outcome.faults = self._server.faults
        outcome.disk_faults = sum(self._machine.disk.fault_counts.values())
        outcome.fired |= self._server.fired | self._server.request_faults.fired | self._gates.fired
        outcome.fired |= history.change_limit.fired
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


def simulate(schedule: Schedule, shim: SqliteShim) -> Outcome:
    """Run this schedule in virtual time."""
    with Disk(shim) as disk:
        world: World | None = None

        async def main() -> Outcome:
            nonlocal world
            world = World(schedule, disk)
            return await world.run()

        try:
            return virtual_time.run(main(), random.Random(schedule.seed))
        except virtual_time.StuckError as error:
            if world is None:
                raise
            world.outcome.breaches.append(("P1", f"the run is stuck: {error}"))
            return world.outcome
