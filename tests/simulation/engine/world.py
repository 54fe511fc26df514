"""Runs one schedule: the server, the files, the machine, and whatever is done to them; then the calm.

At the end of the calm everything must be in line; the process is stopped, and the journal is judged.
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
    Approve,
    DiskFails,
    Edit,
    Edits,
    Ends,
    Event,
    Foreign,
    Gone,
    Look,
    Schedule,
    Seam,
    SlowDisk,
)
from tests.simulation.engine.server import Server, id_of
from tests.simulation.oracles import convergence
from tests.simulation.oracles.history_evidence import unsettled
from tests.simulation.oracles.load import load
from tests.simulation.oracles.promises import Promises
from tests.simulation.report.outcome import Outcome

QUIET_SECONDS = 5.0


class World:
    """One run. `outcome` is what is known of it so far."""

    def __init__(self, schedule: Schedule, disk: Disk) -> None:
        self._ended = asyncio.Event()
        self.outcome = Outcome(schedule.seed, on_broken=self._ended.set)
        self._schedule = schedule
        self._server = Server(schedule, self.outcome.note)
        self._files = Files(schedule.allocations)
        self._promises = Promises(
            self._server,
            resync_seconds=schedule.resync_seconds,
            bulk=schedule.bulk != "off" and schedule.bulk_route,
            broken=self.outcome.broke,
            note=self.outcome.note,
        )
        self._machine = Machine(
            schedule,
            server=self._server,
            files=self._files,
            promises=self._promises,
            disk=disk,
            outcome=self.outcome,
            crossed=self._crossed,
        )
        self._waiting: list[Event] = []  # for a seam

    async def run(self) -> Outcome:
        """To the end, or to the first promise that is broken."""
        running = asyncio.get_running_loop()
        running.set_exception_handler(self._unhandled)
        for event in self._schedule.events:
            running.call_at(event.at, self._happens, event)
        tasks = {running.create_task(each) for each in (self._ended.wait(), self._lives(), self._calm())}
        while not self._ended.is_set():
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # an error of the judge's own ends the run
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not self.outcome.broken:
            self._is_no_more_than_needed()
        if not self.outcome.broken:
            with closing(rows_of(self._machine.disk.directory / NAME)) as journal:
                self._promises.audit.over(
                    journal, settled=lambda truth: not unsettled(truth, self._server.history.gap_at)
                )
        return self._figures()

    def _is_no_more_than_needed(self) -> None:
        sent = load(
            self._server.history, now=self._server.now(), resync_seconds=self._schedule.resync_seconds
        )
        if sent.is_too_much:
            self.outcome.broke("P5", str(sent))

    async def _lives(self) -> None:
        await self._machine.run()
        self._ended.set()

    async def _calm(self) -> None:
        """Once nothing goes wrong any more: see that everything comes into line in time, and end."""
        await asyncio.sleep(self._schedule.calm_at)
        while self._server.now() < self._server.calm_from:
            await asyncio.sleep(self._server.calm_from - self._server.now())
        begun, liveness = self._server.now(), self._promises.liveness
        within = 0.0
        while True:
            # Anew each time: what has landed late teaches a longer settle time once it is seen.
            allowed = convergence.in_line_within_seconds(
                self._server.history, liveness, self._schedule.resync_seconds
            )
            within = max(within, allowed)
            await asyncio.sleep(QUIET_SECONDS)
            left = convergence.out_of_line(self._server, liveness, self._files.wanted, self._promises.journal)
            if not left:
                self._machine.switch_off()
                return
            if self._server.now() > begun + within:
                self.outcome.broke("P1", f"not in line {within:.0f} s into the calm: {'; '.join(left)}")

    def _figures(self) -> Outcome:
        outcome, history = self.outcome, self._server.history
        outcome.requests, outcome.virtual_seconds = history.requests, self._server.now()
        outcome.updates = sum(len(truth.posts) for truth in history.truths.values())
        outcome.faults = self._server.faults
        outcome.disk_faults = sum(self._machine.disk.faulted.values())
        return outcome

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception") or context["message"]
        self.outcome.broke("P10", f"an error that nobody handled: {error!r}")

    # What happens.

    def _happens(self, event: Event) -> None:
        if event.seam is None:
            self._do(event.action)
        else:
            self._waiting.append(event)

    def _crossed(self, seam: Seam) -> None:
        if self._waiting and self._server.now() < self._schedule.calm_at:
            due = next((event for event in self._waiting if event.seam is seam), None)
            if due is not None:
                self._waiting.remove(due)
                self.outcome.note("world", None, f"as {seam.value}:")
                self._do(due.action)

    def _do(self, action: Action) -> None:
        match action:
            case Edit():
                self._edited(action)
            case Edits(edits):
                self._edited(*edits)
            case Approve():
                self._machine.approve()
            case Foreign(key, field, value):
                self._server.writes(id_of(key), field, value)
            case Gone(key, seconds):
                self._server.goes(id_of(key), seconds)
            case Ends():
                self._machine.end(action)
            case DiskFails(trouble, seconds):
                self._machine.trouble(trouble, seconds)
            case SlowDisk(commit_seconds, seconds):
                self._machine.slow(commit_seconds, seconds)
            case Look():
                self._machine.look()

    def _edited(self, *edits: Edit) -> None:
        for edit in edits:
            self._files.edit(edit)
            self.outcome.note("world", id_of(edit.key), f"edit: {dict(edit.leaves)} {edit.mode}")
        self._machine.edited()


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
            world.outcome.broken.append(("P1", f"the run is stuck: {error}"))
            return world.outcome
