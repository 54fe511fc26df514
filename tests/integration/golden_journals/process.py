"""One process of the daemon on virtual time, from opening its journal to its orderly end.

The rule: the loop, the keeper, the journal's writer and its file are the real ones; only the API is scripted
and chance always gives the middle, so that the same script records the same rows. Time begins on a whole
second, and every script ends on one.

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
from allocsync.reconcile.controller import Controller
from allocsync.reconcile.events import Event
from allocsync.reconcile.operation import Operation
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.resync import BulkPolicy
from tests.support.scripted_api import ScriptedApi

T = TypeVar("T")
WALL_BEGINS = 1_700_000_000.0
CLOCK_BEGINS = 4_000.0  # the process's own clock, which counts from somewhere else
REQUEST_SECONDS = 0.25


@dataclass(slots=True)
class World:
    """State, API and clocks; `answers` are given in turn, then all is applied."""

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
        rest = self.answers.get(key)
        return rest.popleft() if rest else None

    def has(self, key: AllocationId, /, **fields: Json) -> None:
        """The API has this allocation; what is not named is the same for all."""
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
        """Somebody else, or an update that lands late, sets these fields."""
        self.api.truth[key] = {**self.api.truth[key], **fields}

    def now(self) -> float:
        """Seconds on the process's clock."""
        return asyncio.get_running_loop().time() + CLOCK_BEGINS

    def wall(self) -> float:
        """Seconds since the epoch."""
        return asyncio.get_running_loop().time() + self.wall_begins

    def uniform(self, low: float, high: float) -> float:
        """The middle, always."""
        return (low + high) / 2


def backoff(failures: int, retry_after_seconds: float | None) -> float:
    """What the server asked for, else 8 s, 64 s, 216 s."""
    return retry_after_seconds or 8.0 * failures**3


async def inline(work: Callable[[], T]) -> T:
    """Run what blocks at once: virtual time knows no threads."""
    return work()


@asynccontextmanager
async def process(world: World) -> AsyncIterator[tuple[Controller, Journal]]:
    """The daemon at work until the context ends; an update under way is cut off a second later."""
    file, restored = JournalFile.open(world.directory, wall=world.wall)
    try:
        async with Journal.running(file, execute=inline, now=world.now, wall=world.wall) as journal:
            controller = Controller(
                api=world.api,
                clock=world,
                journal=journal,
                observer=_unheard,
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


def _unheard(_event: Event) -> None:
    pass
