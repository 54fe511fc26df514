"""One process of the daemon on virtual time, from opening its journal to its orderly end.

The rule: the controller, the checkpoint, the journal's writer and its file are the real ones. The API is
scripted and random numbers are always the middle of their range, so that a script always records the same
rows. Time starts on a whole second, and every script ends on one.

Left out: what happens while it runs (`scenarios`).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from allocsync.journal.database import JournalFile
from allocsync.journal.writer import Journal
from allocsync.model.api_answers import UpdateAnswer
from allocsync.model.cloud import Cloud, Json
from allocsync.model.ids import AllocationId
from allocsync.model.times import Monotonic, WallTime
from allocsync.reconcile.controller import Controller
from allocsync.reconcile.events import Event
from allocsync.reconcile.operation import Operation
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.resync import BulkPolicy
from tests.support.scripted_api import ScriptedApi

T = TypeVar("T")
WALL_BEGINS = 1_700_000_000.0
CLOCK_BEGINS = 4_000.0  # the monotonic clock of the process starts at another number
REQUEST_SECONDS = 0.25


@dataclass(slots=True)
class World:
    """The state directory, the API and the clocks of a process.

    `answers` has the responses to the next updates of each allocation; every later update is applied.
    """

    directory: Path
    rules: Parameters
    wall_begins: float = WALL_BEGINS
    answers: dict[str, deque[UpdateAnswer]] = field(default_factory=dict)
    update_seconds: dict[str, float] = field(default_factory=dict)
    api: ScriptedApi = field(default_factory=lambda: ScriptedApi(bulk=False, keys=()))

    def __post_init__(self) -> None:
        """Connect the API to the script."""
        self.api.seconds = REQUEST_SECONDS
        self.api.post_seconds = lambda key: self.update_seconds.get(key, REQUEST_SECONDS)
        self.api.on_update = self._answer

    def _answer(self, key: str, _body: Cloud) -> UpdateAnswer | None:
        remaining = self.answers.get(key)
        return remaining.popleft() if remaining else None

    def has(self, key: AllocationId, /, **fields: Json) -> None:
        """Create this allocation in the API; all fields that are not named have default values."""
        address = {"status": "RUNNING", "url": "https://allocation.example"}
        self.api.truth[key] = {
            "id": key,
            "user": "user",
            "project": "project",
            "status": {"cloud": "RUNNING"},
            "urls": {"base": address, "id": address},
            "quota": {"cpu": 4 * "x", "note": "nobody declares this"},
            **fields,
        }

    def changes(self, key: AllocationId, /, **fields: Json) -> None:
        """Set these fields of an allocation, as another writer or a late application does."""
        self.api.truth[key] = {**self.api.truth[key], **fields}

    def now(self) -> Monotonic:
        """Monotonic time of the process, in seconds."""
        return Monotonic(asyncio.get_running_loop().time() + CLOCK_BEGINS)

    def wall(self) -> WallTime:
        """Wall time, in seconds since the epoch."""
        return WallTime(asyncio.get_running_loop().time() + self.wall_begins)

    def uniform(self, low: float, high: float) -> float:
        """The middle of the range."""
        return (low + high) / 2


def backoff(failures: int, retry_after_seconds: float | None) -> float:
    """The backoff in seconds: Retry-After if there is one, else 8, 64, 216 and so on."""
    return retry_after_seconds or 8.0 * failures**3


async def inline(work: Callable[[], T]) -> T:
    """Run blocking work at once: virtual time has no threads."""
    return work()


@asynccontextmanager
async def process(world: World) -> AsyncIterator[tuple[Controller, Journal]]:
    """Run the daemon until the context ends; an update under way is cut off a second later."""
    file, restored = JournalFile.open(world.directory, wall=world.wall)
    try:
        async with Journal.running(file, execute=inline, now=world.now, wall=world.wall) as journal:
            controller = Controller(
                api=world.api,
                clock=world,
                journal=journal,
                observer=_ignore_event,
                rules=world.rules,
                limits=dict.fromkeys(Operation, 8),
                backoff=backoff,
                bulk=BulkPolicy.OFF,
                restored=restored,
                drain_seconds=1.0,
            )
            running = asyncio.create_task(controller.run())
            try:
                yield controller, journal
            finally:
                controller.stop()
                await running
    finally:
        file.close()


def _ignore_event(_event: Event) -> None:
    pass
