"""One run: the reference server, one process of the daemon after another, and the schedule's events.

The rule: nothing is judged here. The outcome has the server's log, the truth before and after, the journal as
a reader finds it, and when processes crashed.

Left out: judging it (`oracle`).
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from allocsync.journal.hash_chain import Checked
from allocsync.journal.reader import Query, RecordedUpdate, opened, updates, verify
from allocsync.model.cloud import Cloud, field_value
from allocsync.model.desired_state import Desired, Revision
from allocsync.model.ids import AllocationId
from allocsync.model.times import WallTime
from allocsync.reconcile import events
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from allocsync.settings.model import Settings
from tests.simulation.disk.disk import Disk
from tests.simulation.real_parts.event_loop import run
from tests.simulation.real_parts.network import Network
from tests.simulation.real_parts.process import DaemonProcess, wall
from tests.simulation.real_parts.schedule import (
    LATE_MOST_SECONDS,
    SLOWEST_SECONDS,
    EndKind,
    EndProcess,
    Schedule,
    Seam,
)

# P1: a probe, the longest backoff, the propagation window and a few requests; one resync is added.
IN_SYNC_SECONDS = 30.0 + 300.0 + 60.0 + 10.0
TICK_SECONDS = 1e-6
STOPPED_WITHIN_SECONDS = 25.0


@dataclass
class Outcome:
    """What is known of a run when it has ended. Times are seconds since the epoch, durations virtual."""

    schedule: Schedule
    seed: Mapping[str, Cloud]
    records: list[Mapping[str, Any]] = field(default_factory=list)
    truth: Mapping[str, Cloud] = field(default_factory=dict)
    declared: Mapping[AllocationId, Desired] = field(default_factory=dict)
    crashed: list[WallTime] = field(default_factory=list)
    fired: Counter[str] = field(default_factory=Counter)
    checked: Checked | None = None
    past: list[RecordedUpdate] = field(default_factory=list)
    in_sync_seconds: float | None = None  # since the last update was applied after the faults
    problems: list[str] = field(default_factory=list)
    notes: list[tuple[WallTime, str]] = field(default_factory=list)


def run_schedule(schedule: Schedule, disk: Disk) -> Outcome:
    """Run the schedule on this disk."""
    clouds = sample_clouds(len(schedule.declared), schedule.seed)
    outcome = Outcome(schedule, {str(cloud["id"]): cloud for cloud in clouds})
    network = Network()
    run(World(outcome, disk, network).run(), network)
    return outcome


class StrictlyIncreasingClock:
    """The server's clock: no two readings are equal, so the log shows what came first."""

    def __init__(self) -> None:
        self._last = WallTime(0.0)

    def __call__(self) -> WallTime:
        """Seconds since the epoch."""
        self._last = max(self._last + TICK_SECONDS, wall())
        return self._last


class World:
    """One run."""

    def __init__(self, outcome: Outcome, disk: Disk, network: Network) -> None:
        self._outcome = outcome
        self._schedule = outcome.schedule
        self._disk = disk
        self._network = network
        self._ids = [AllocationId(key) for key in outcome.seed]
        self._declared = {
            key: Desired(key, fields) for key, fields in zip(self._ids, self._schedule.declared, strict=True)
        }
        self._clock = StrictlyIncreasingClock()
        self._edits = 0
        self._process_count = 0
        self._process: DaemonProcess | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting_end: EndProcess | None = None  # the end that waits for its seam
        self._down_seconds = 0.0
        self._is_stopping = False

    async def run(self) -> None:
        """Run from the start of the first process to the end of the last."""
        async with ReferenceServer.start(
            self._outcome.seed.values(), log_all=True, wall=self._clock
        ) as server:
            self._server = server
            self._address = server.url.removeprefix("http://")
            async with asyncio.TaskGroup() as group:
                group.create_task(self._run_processes(server.url))
                for at, act in self._plan():
                    await asyncio.sleep(max(0.0, at - asyncio.get_running_loop().time()))
                    act()
                await self._converge()
            self._outcome.truth = dict(server.clouds)
            self._outcome.records = list(server.records)
            self._outcome.fired.update(server.fired)
        self._outcome.fired["refused"] = self._network.ignored
        with opened(self._disk.directory) as journal:
            self._outcome.checked = verify(journal)
            self._outcome.past = list(updates(journal, Query()))
        self._outcome.declared = self._declared

    def _plan(self) -> list[tuple[float, Callable[[], None]]]:
        schedule, set_field = self._schedule, self._server.set_field
        plan: list[tuple[float, Callable[[], None]]] = [(schedule.faults_end_at, self._end_faults)]
        plan += [
            (each.begin, partial(self._server.set_faults, each.faults)) for each in schedule.fault_periods
        ]
        plan += [(each.at, partial(self._edit, each.key, each.fields)) for each in schedule.edits]
        plan += [
            (each.at, partial(set_field, self._ids[each.key], each.field, each.value))
            for each in schedule.foreign
        ]
        plan += [(each.at, partial(self._end, each)) for each in schedule.ends]
        for each in schedule.unreachable:
            plan += [
                (each.begin, partial(self._set_reachable, refuses=True)),
                (each.end, partial(self._set_reachable, refuses=False)),
            ]
        return sorted(plan, key=lambda step: step[0])

    # Events.

    def _note(self, text: str) -> None:
        self._outcome.notes.append((wall(), text.replace(self._address, "the API")))

    def _edit(self, key: int, fields: tuple[tuple[str, str], ...]) -> None:
        self._declared[self._ids[key]] = Desired(self._ids[key], fields)
        self._edits += 1
        self._note(f"edit {self._ids[key][:8]} {dict(fields)}")
        if self._process is not None:
            self._process.deliver(self._revision())

    def _revision(self) -> Revision:
        return Revision(f"generation-{self._edits}", dict(self._declared))

    def _set_reachable(self, *, refuses: bool) -> None:
        self._note("connections are refused" if refuses else "connections are accepted again")
        self._network.refuses = refuses

    def _end_faults(self) -> None:
        self._note("no faults from now on")
        self._waiting_end = None
        self._network.refuses = False
        self._server.set_faults({})
        for key, fields in enumerate(self._schedule.final):
            self._edit(key, fields)

    # Processes.

    async def _run_processes(self, url: str) -> None:
        settings = Settings(
            api_url=url,
            bulk=self._schedule.bulk,  # type: ignore[arg-type] # one of its words
            resync_seconds=self._schedule.resync_seconds,
        )
        while not self._is_stopping:
            self._process_count += 1
            self._note(f"process {self._process_count} starts")
            self._process = process = DaemonProcess(
                settings,
                directory=self._disk.directory,
                seed=self._schedule.seed * 7919 + self._process_count,
                on_seam=self._on_seam,
                observe=self._observe,
            )
            process.deliver(self._revision())
            self._task = task = asyncio.get_running_loop().create_task(process.run())
            await asyncio.wait({task})
            self._check_end(process, task)
            self._process = None
            self._disk.check()
            await asyncio.sleep(self._down_seconds)

    def _check_end(self, process: DaemonProcess, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if process.gate.open and (error is not None or task.cancelled()):
            self._outcome.problems.append(f"the process ended by itself: {error!r}")
        process.gate.close()

    def _observe(self, event: events.Event) -> None:
        self._note(f"daemon {event.name} {dict(events.fields_of(event))}")

    def _end(self, end: EndProcess) -> None:
        if end.seam is None:
            self._end_now(end)
        else:
            self._waiting_end = end

    def _on_seam(self, seam: Seam) -> None:
        if self._waiting_end is not None and self._waiting_end.seam is seam:
            end, self._waiting_end = self._waiting_end, None
            self._end_now(end)

    def _end_now(self, end: EndProcess) -> None:
        process = self._process
        if process is None or not process.gate.open:
            return
        self._down_seconds = end.down_seconds
        self._note(f"{end.how} {end.seam or ''}")
        self._outcome.fired[end.how] += 1
        if end.how is EndKind.STOP:
            process.stop()
            return
        self._outcome.crashed.append(self._clock())
        process.gate.close()
        if end.how is EndKind.KILL:
            self._disk.crash_process()
        else:
            self._disk.cut_power(process.rng)
        if self._task is not None:
            self._task.cancel()

    # The end.

    async def _converge(self) -> None:
        await asyncio.sleep(SLOWEST_SECONDS + LATE_MOST_SECONDS)
        begun = asyncio.get_running_loop().time()
        within = IN_SYNC_SECONDS + self._schedule.resync_seconds
        while not self._is_converged() and asyncio.get_running_loop().time() < begun + within:
            await asyncio.sleep(1.0)
        if self._is_converged():
            self._outcome.in_sync_seconds = asyncio.get_running_loop().time() - begun
        self._is_stopping = True
        self._note("last SIGTERM")
        if self._process is not None and self._task is not None:
            self._process.stop()
            await asyncio.wait({self._task}, timeout=STOPPED_WITHIN_SECONDS)
            if not self._task.done():
                self._outcome.problems.append("the process does not end in time after SIGTERM")
                self._task.cancel()

    def _is_converged(self) -> bool:
        """Whether the truth is as declared and no intent is open."""
        process = self._process
        if process is None or process.file is None:
            return False
        left = process.file.connection.execute("SELECT count(*) FROM open_intents").fetchone()[0]
        return left == 0 and all(
            field_value(self._server.clouds[key], name) == value
            for key, desired in self._declared.items()
            for name, value in desired.fields
        )
