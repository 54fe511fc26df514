"""The walks of allocsync/README.md are what really runs: an edit to the wire, a 504 to its verdict."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from allocsync.api.client import AllocationClient
from allocsync.desired.loader import load
from allocsync.desired.watcher import DirectoryWatch
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Mode
from allocsync.reconcile.controller import Controller
from allocsync.reconcile.events import Event, UpdateIntended, UpdateSettled
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from allocsync.runtime.clock import SystemClock
from allocsync.runtime.wiring import build_controller, open_journal
from allocsync.settings.model import Settings
from tests.support.documents import ROOT
from tests.support.walk import Stop, Trace, stops

README = ROOT / "allocsync" / "README.md"
CLOUDS = sample_clouds(1, seed=3)
ID = str(CLOUDS[0]["id"])
EVENTUALLY_SECONDS = 20.0
QUIET_SECONDS = 0.5  # after the first convergence nothing is due for minutes

# What the stops call and no walk stops at: values, time, events, and pure functions of a stop.
VALUES = ("allocsync.model.", "allocsync.errors", "allocsync.runtime.clock", "allocsync.reconcile.events")
CALLED_BY_STOPS = {
    "allocsync.desired.watcher": ("allocsync.desired.files",),
    "allocsync.desired.loader": (
        *("allocsync.desired.file_cache", "allocsync.desired.source_text", "allocsync.desired.yaml_parser"),
        *("allocsync.desired.schema", "allocsync.desired.similar_ids"),
    ),
    "allocsync.reconcile.rollout.rollout": (
        *("allocsync.reconcile.rollout.change_review", "allocsync.reconcile.rollout.declarations"),
        *("allocsync.planning.change_limit", "allocsync.reconcile.rollout.canaries"),
    ),
    "allocsync.reconcile.allocation.managed_allocation": (
        *("allocsync.reconcile.allocation.read_back", "allocsync.reconcile.allocation.late_writes"),
        *("allocsync.reconcile.allocation.field_records", "allocsync.reconcile.allocation.write_backoff"),
        "allocsync.reconcile.allocation.propagation_window",
        *("allocsync.reconcile.allocation.settle_time", "allocsync.reconcile.allocation.updates"),
        *(
            "allocsync.planning.diff",
            "allocsync.planning.write_windows",
            "allocsync.reconcile.gates.write_gate",
        ),
        "allocsync.reconcile.gates.write_quota",
    ),
    "allocsync.reconcile.controller": (
        *("allocsync.reconcile.status.condition_tracker", "allocsync.reconcile.status.condition_rules"),
        *("allocsync.reconcile.status.field_reasons", "allocsync.reconcile.status.convergence"),
        *(
            "allocsync.reconcile.status.report",
            "allocsync.reconcile.resync",
            "allocsync.reconcile.pause_control",
            # At each turn: may the rest follow the canaries, and is the baseline to move?
            *("allocsync.reconcile.rollout.rollout", "allocsync.reconcile.rollout.change_review"),
            "allocsync.reconcile.rollout.canaries",
        ),
    ),
    "allocsync.reconcile.scheduling.scheduler": (
        *("allocsync.reconcile.scheduling.work_queue", "allocsync.reconcile.scheduling.concurrency"),
        *("allocsync.reconcile.scheduling.circuit_breaker", "allocsync.reconcile.scheduling.retry_wakeup"),
        *("allocsync.reconcile.scheduling.response_class", "allocsync.reconcile.operation"),
    ),
    "allocsync.reconcile.reconciler": (
        *("allocsync.reconcile.checkpoint", "allocsync.reconcile.checkpoint_codecs", "allocsync.api.backoff"),
        *("allocsync.reconcile.api_health", "allocsync.reconcile.scheduling.reachability"),
        "allocsync.reconcile.cached_reads",
    ),
    "allocsync.journal.writer": (
        *("allocsync.journal.database", "allocsync.journal.hash_chain", "allocsync.journal.checksum"),
        *("allocsync.journal.entries", "allocsync.journal.retention", "allocsync.runtime.wiring"),
    ),
    "allocsync.api.client": (
        *("allocsync.api.transport", "allocsync.api.responses", "allocsync.api.json_codec"),
        *("allocsync.api.credentials", "allocsync.addresses"),
        *("allocsync.api.http_date", "allocsync.api.evidence_time"),
    ),
}


@dataclass
class Running:
    """The real parts, on one allocation."""

    server: ReferenceServer
    file: Path
    controller: Controller = field(init=False)
    following: asyncio.Task[None] = field(init=False)
    events: list[Event] = field(default_factory=list)
    on_event: Callable[[Event], None] = lambda _event: None

    def observe(self, event: Event) -> None:
        """Note an event of the controller."""
        self.events.append(event)
        self.on_event(event)

    def declare(self, region: str) -> None:
        """Replace the file by one that declares this region."""
        new = self.file.with_suffix(".new")
        new.write_text(f"apiVersion: allocsync/v1\nallocations:\n  {ID}: {{region: {region}}}\n")
        os.replace(new, self.file)  # noqa: PTH105 - as an editor does

    async def until(self, happened: Callable[[], bool]) -> None:
        """Wait until this has happened."""
        async with asyncio.timeout(EVENTUALLY_SECONDS):
            while not happened():
                await asyncio.sleep(0.005)

    async def in_sync(self) -> None:
        """Wait until the allocation is in sync."""
        await self.until(lambda: self.controller.status().conditions[Condition.IN_SYNC] == 1)


@asynccontextmanager
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """Run everything between the file and the socket."""
    desired, state = tmp_path / "desired", tmp_path / "state"
    desired.mkdir()
    state.mkdir()
    settings = Settings(desired=desired, state_dir=state, settle_seconds=5, bulk="off")
    clock = SystemClock()
    async with (
        ReferenceServer.start(CLOUDS, log_all=True) as server,
        open_journal(settings, clock) as (journal, restored),
        AllocationClient.open(server.url) as api,
        asyncio.TaskGroup() as group,
    ):
        found = Running(server, desired / "a.yaml")
        found.controller = controller = build_controller(
            settings, api=api, clock=clock, observer=found.observe, journal=journal, restored=restored
        )
        found.declare(str(CLOUDS[0]["region"]))
        watch = DirectoryWatch(
            desired,
            default_mode=Mode.ENFORCE,
            on_change=lambda: None,
            on_loaded=lambda _loaded: None,
            on_rejected=lambda error: pytest.fail(str(error)),
            wall=clock.wall,
        )

        async def follow() -> None:
            while True:
                controller.activate(await watch.next())

        found.following, task = group.create_task(follow()), group.create_task(controller.run())
        await found.in_sync()
        yield found
        found.following.cancel()
        controller.stop()
        await task


async def trace_edit(tmp_path: Path) -> Trace:
    """Trace from the replacement of the file until the update is on the wire."""
    trace = Trace()
    with trace.installed():
        async with running(tmp_path) as run:
            await asyncio.sleep(QUIET_SECONDS)
            trace.recording = True
            run.declare("walked")
            await run.until(lambda: any(row["op"] == "update" for row in run.server.records))
            trace.recording = False
            await run.in_sync()
    return trace


async def trace_504(tmp_path: Path) -> Trace:
    """Trace from the request that is answered 504 until its verdict."""
    trace = Trace()
    with trace.installed():
        async with running(tmp_path) as run:
            run.server.set_faults({"update": {"timeout_after": 1}})

            def switch(event: Event) -> None:
                if isinstance(event, UpdateIntended):
                    trace.recording = True
                elif isinstance(event, UpdateSettled):
                    trace.recording = False

            run.on_event = switch
            run.following.cancel()  # its poll of the files is no part of this walk
            await asyncio.wait([run.following])
            run.declare("walked")
            run.controller.activate(load(run.file, default_mode=Mode.ENFORCE).revision)
            await run.until(lambda: any(isinstance(event, UpdateSettled) for event in run.events))
        assert run.server.fired["update.timeout_after"] == 1, "the fault happened"
    (settled,) = [event for event in run.events if isinstance(event, UpdateSettled)]
    assert settled.outcome == "applied"
    return trace


def unexplained(trace: Trace, walk: Iterable[Stop]) -> list[str]:
    """The modules of a trace that are no stop, nor called by one."""
    modules = {stop.module for stop in walk}
    called = {name for stop in modules for name in CALLED_BY_STOPS.get(stop, ())}
    return [
        name
        for name in trace.modules()
        if name not in modules and name not in called and not name.startswith(VALUES)
    ]


@pytest.mark.parametrize(
    ("heading", "record"),
    [
        pytest.param("The walk of an edit, from the file to the wire", trace_edit, id="edit"),
        pytest.param("The walk of a 504, from the answer to the verdict", trace_504, id="504"),
    ],
)
async def test_a_walk_in_the_readme_is_what_runs(
    tmp_path: Path, heading: str, record: Callable[[Path], Awaitable[Trace]]
) -> None:
    walk, trace = stops(README, heading), await record(tmp_path)
    print(f"{heading}: {len(trace.modules())} modules, {trace.returns()} returns")  # noqa: T201 - with -s
    assert 1 < len(walk) <= 10
    assert trace.passes(walk) is None
    assert not unexplained(trace, walk)
