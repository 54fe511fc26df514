"""One run: the reference server, one life of the daemon after another, and what the schedule does to them.

The rule: nothing is judged here. What is handed over is the server's log, the truth at both ends, the
journal as a reader finds it, and when which life ended.

Left out: judging it (`verdict`).
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from allocsync.journal.hash_chain import Checked
from allocsync.journal.reader import Query, RecordedUpdate, opened, updates, verify
from allocsync.model.cloud import Cloud, leaf
from allocsync.model.desired_state import Desired, Generation
from allocsync.model.ids import AllocationId
from allocsync.reconcile import events
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from allocsync.settings.model import Settings
from tests.simulation.disk.disk import Disk
from tests.simulation.real_parts.event_loop import run
from tests.simulation.real_parts.life import Life, wall
from tests.simulation.real_parts.network import Network
from tests.simulation.real_parts.schedule import (
    LATE_MOST_SECONDS,
    SLOWEST_SECONDS,
    Ends,
    How,
    Moment,
    Schedule,
)

# Of P1: a probe, the longest backoff, grace, and a few requests each; one resync comes on top.
IN_SYNC_SECONDS = 30.0 + 300.0 + 60.0 + 10.0
TICK_SECONDS = 1e-6
STOPPED_WITHIN_SECONDS = 25.0


@dataclass
class Outcome:
    """What is known of a run when it is over. Times are seconds since the epoch, durations virtual."""

    schedule: Schedule
    seed: Mapping[str, Cloud]
    records: list[Mapping[str, Any]] = field(default_factory=list)
    truth: Mapping[str, Cloud] = field(default_factory=dict)
    wanted: Mapping[AllocationId, Desired] = field(default_factory=dict)
    crashed: list[float] = field(default_factory=list)
    fired: Counter[str] = field(default_factory=Counter)
    checked: Checked | None = None
    past: list[RecordedUpdate] = field(default_factory=list)
    in_sync_seconds: float | None = None  # after the calm and the last landing
    problems: list[str] = field(default_factory=list)
    notes: list[tuple[float, str]] = field(default_factory=list)


def play(schedule: Schedule, disk: Disk) -> Outcome:
    """Run the schedule."""
    clouds = sample_clouds(len(schedule.declared), schedule.seed)
    outcome = Outcome(schedule, {str(cloud["id"]): cloud for cloud in clouds})
    network = Network()
    run(World(outcome, disk, network).run(), network)
    return outcome


class Ticking:
    """The server's clock, on which no two readings are the same: what came first is in the log."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self) -> float:
        """Seconds since the epoch."""
        self._last = max(self._last + TICK_SECONDS, wall())
        return self._last


class World:
    """Everything in one run."""

    def __init__(self, outcome: Outcome, disk: Disk, network: Network) -> None:
        self._outcome = outcome
        self._schedule = outcome.schedule
        self._disk = disk
        self._network = network
        self._keys = [AllocationId(key) for key in outcome.seed]
        self._wanted = {
            key: Desired(key, leaves) for key, leaves in zip(self._keys, self._schedule.declared, strict=True)
        }
        self._clock = Ticking()
        self._edits = 0
        self._lives = 0
        self._life: Life | None = None
        self._living: asyncio.Task[None] | None = None
        self._ends: Ends | None = None  # waits for its moment
        self._down_seconds = 0.0
        self._off = False

    async def run(self) -> None:
        """From the first start to the end of the last life."""
        async with ReferenceServer.start(
            self._outcome.seed.values(), log_all=True, wall=self._clock
        ) as server:
            self._server = server
            self._where = server.url.removeprefix("http://")
            async with asyncio.TaskGroup() as group:
                group.create_task(self._lives_on(server.url))
                for at, does in self._plan():
                    await asyncio.sleep(max(0.0, at - asyncio.get_running_loop().time()))
                    does()
                await self._calm()
            self._outcome.truth = dict(server.clouds)
            self._outcome.records = list(server.records)
            self._outcome.fired.update(server.fired)
        self._outcome.fired["refused"] = self._network.refused
        with opened(self._disk.directory) as journal:
            self._outcome.checked = verify(journal)
            self._outcome.past = list(updates(journal, Query()))
        self._outcome.wanted = self._wanted

    def _plan(self) -> list[tuple[float, Callable[[], None]]]:
        schedule, set_field = self._schedule, self._server.set_field
        plan: list[tuple[float, Callable[[], None]]] = [(schedule.calm_at, self._calms)]
        plan += [(each.begin, partial(self._server.set_faults, each.faults)) for each in schedule.spells]
        plan += [(each.at, partial(self._edit, each.key, each.leaves)) for each in schedule.edits]
        plan += [
            (each.at, partial(set_field, self._keys[each.key], each.field, each.value))
            for each in schedule.foreign
        ]
        plan += [(each.at, partial(self._end, each)) for each in schedule.ends]
        for each in schedule.unreachable:
            plan += [
                (each.begin, partial(self._reach, refuses=True)),
                (each.end, partial(self._reach, refuses=False)),
            ]
        return sorted(plan, key=lambda step: step[0])

    # What happens.

    def _note(self, text: str) -> None:
        self._outcome.notes.append((wall(), text.replace(self._where, "the API")))

    def _edit(self, key: int, leaves: tuple[tuple[str, str], ...]) -> None:
        self._wanted[self._keys[key]] = Desired(self._keys[key], leaves)
        self._edits += 1
        self._note(f"edit {self._keys[key][:8]} {dict(leaves)}")
        if self._life is not None:
            self._life.told(self._generation())

    def _generation(self) -> Generation:
        return Generation(f"generation-{self._edits}", dict(self._wanted))

    def _reach(self, *, refuses: bool) -> None:
        self._note("connections are refused" if refuses else "the server listens again")
        self._network.refuses = refuses

    def _calms(self) -> None:
        self._note("calm")
        self._ends = None
        self._network.refuses = False
        self._server.set_faults({})
        for key, leaves in enumerate(self._schedule.last):
            self._edit(key, leaves)

    # Lives.

    async def _lives_on(self, url: str) -> None:
        settings = Settings(
            api_url=url,
            bulk=self._schedule.bulk,  # type: ignore[arg-type] # one of its words
            resync_seconds=self._schedule.resync_seconds,
        )
        while not self._off:
            self._lives += 1
            self._note(f"life {self._lives} starts")
            self._life = life = Life(
                settings,
                directory=self._disk.directory,
                seed=self._schedule.seed * 7919 + self._lives,
                comes_to=self._comes_to,
                observe=self._observe,
            )
            life.told(self._generation())
            self._living = task = asyncio.get_running_loop().create_task(life.run())
            await asyncio.wait({task})
            self._see_how_it_ended(life, task)
            self._life = None
            self._disk.check()
            await asyncio.sleep(self._down_seconds)

    def _see_how_it_ended(self, life: Life, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if life.gate.open and (error is not None or task.cancelled()):
            self._outcome.problems.append(f"the process ended by itself: {error!r}")
        life.gate.shut()

    def _observe(self, event: events.Event) -> None:
        self._note(f"daemon {event.name} {dict(events.fields_of(event))}")

    def _end(self, ends: Ends) -> None:
        if ends.moment is None:
            self._end_now(ends)
        else:
            self._ends = ends

    def _comes_to(self, moment: Moment) -> None:
        if self._ends is not None and self._ends.moment is moment:
            ends, self._ends = self._ends, None
            self._end_now(ends)

    def _end_now(self, ends: Ends) -> None:
        life = self._life
        if life is None or not life.gate.open:
            return
        self._down_seconds = ends.down_seconds
        self._note(f"{ends.how} {ends.moment or ''}")
        self._outcome.fired[ends.how] += 1
        if ends.how is How.STOP:
            life.stop()
            return
        self._outcome.crashed.append(self._clock())
        life.gate.shut()
        if ends.how is How.KILL:
            self._disk.crash_process()
        else:
            self._disk.cut_power(life.chance)
        if self._living is not None:
            self._living.cancel()

    # The end.

    async def _calm(self) -> None:
        await asyncio.sleep(SLOWEST_SECONDS + LATE_MOST_SECONDS)
        begun = asyncio.get_running_loop().time()
        within = IN_SYNC_SECONDS + self._schedule.resync_seconds
        while not self._settled() and asyncio.get_running_loop().time() < begun + within:
            await asyncio.sleep(1.0)
        if self._settled():
            self._outcome.in_sync_seconds = asyncio.get_running_loop().time() - begun
        self._off = True
        self._note("SIGTERM, the last")
        if self._life is not None and self._living is not None:
            self._life.stop()
            await asyncio.wait({self._living}, timeout=STOPPED_WITHIN_SECONDS)
            if not self._living.done():
                self._outcome.problems.append("it does not end within its time after SIGTERM")
                self._living.cancel()

    def _settled(self) -> bool:
        """Whether the truth is as wanted and no intent is open."""
        life = self._life
        if life is None or life.file is None:
            return False
        left = life.file.connection.execute("SELECT count(*) FROM open_intents").fetchone()[0]
        return left == 0 and all(
            leaf(self._server.clouds[key], name) == value
            for key, desired in self._wanted.items()
            for name, value in desired.leaves
        )
