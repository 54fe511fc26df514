"""One life of the daemon's process: the real client, loop and journal, between a gate and a disk.

The rule: a crash is not a cancellation. First the gate and the disk are shut, so that whatever the dead
process's tasks still do reaches nobody; then they are taken down.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from allocsync.api.client import AllocationClient
from allocsync.journal.database import JournalFile
from allocsync.journal.writer import Journal
from allocsync.model.api_answers import Snapshot, UpdateAnswer
from allocsync.model.cloud import Cloud
from allocsync.model.desired_state import Generation
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import Restored
from allocsync.reconcile.controller import Loop
from allocsync.reconcile.events import Event
from allocsync.runtime.wiring import build_loop
from allocsync.settings.model import Settings
from tests.simulation.real_parts.network import GATE, Gate
from tests.simulation.real_parts.schedule import Moment

T = TypeVar("T")
WALL = 1.8e9  # of the loop's beginning, in seconds since the epoch


def wall() -> float:
    """Seconds since the epoch, as everybody in the run believes."""
    return WALL + asyncio.get_running_loop().time()


class Life:
    """See the module. `comes_to` is told of each moment before the process goes on, and may end it."""

    def __init__(
        self,
        settings: Settings,
        *,
        directory: Path,
        seed: int,
        comes_to: Callable[[Moment], None],
        observe: Callable[[Event], None],
    ) -> None:
        self.gate = Gate()
        self.file: JournalFile | None = None
        self._settings = settings
        self._directory = directory
        self.chance = random.Random(seed)
        self._comes_to = comes_to
        self._observed = observe
        self._loop: Loop | None = None
        self._generations: asyncio.Queue[Generation] = asyncio.Queue()

    async def run(self) -> None:
        """From the start of the process to its end."""
        GATE.set(self.gate)
        self.file, restored = JournalFile.open(self._directory, wall=wall)
        try:
            async with (
                Journal.running(self.file, execute=self._execute, now=self.now, wall=wall) as journal,
                AllocationClient.open(self._settings.api_url, wall=wall) as client,
            ):
                await self._reconcile(Watched(client, self._at), journal, restored)
        finally:
            self.file.close()

    async def _reconcile(self, api: "Watched", journal: Journal, restored: Restored) -> None:
        self._loop = loop = build_loop(
            self._settings, api=api, clock=self, observer=self._observe, journal=journal, restored=restored
        )
        async with asyncio.TaskGroup() as group:
            following = group.create_task(self._follow(loop))
            await loop.run()
            following.cancel()

    async def _follow(self, loop: Loop) -> None:
        while True:
            loop.adopt(await self._generations.get())

    def told(self, generation: Generation) -> None:
        """The files say this now."""
        self._generations.put_nowait(generation)

    def stop(self) -> None:
        """SIGTERM."""
        if self._loop is not None:
            self._loop.stop()

    def _observe(self, event: Event) -> None:
        if self.gate.open:
            self._observed(event)

    def _at(self, moment: Moment) -> None:
        self._alive()
        self._comes_to(moment)
        self._alive()

    def _alive(self) -> None:
        if not self.gate.open:
            raise asyncio.CancelledError

    def _execute(self, work: Callable[[], T]) -> Awaitable[T]:
        return self._executed(work)

    async def _executed(self, work: Callable[[], T]) -> T:
        self._at(Moment.RECORDING)
        await asyncio.sleep(self.chance.uniform(0.0, 0.004))
        self._alive()
        done = work()
        self._at(Moment.RECORDED)
        return done

    # Clock and chance.

    def now(self) -> float:
        """Seconds on the loop's clock."""
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        """Seconds since the epoch."""
        return wall()

    def uniform(self, low: float, high: float) -> float:
        """A random number in [low, high]."""
        return self.chance.uniform(low, high)


class Watched:
    """The real client, with a word at each moment."""

    def __init__(self, client: AllocationClient, at: Callable[[Moment], None]) -> None:
        self._client = client
        self._at = at

    async def snapshot(self, allocation_id: AllocationId) -> Snapshot:
        """One read."""
        answer = await self._client.snapshot(allocation_id)
        self._at(Moment.READ)
        return answer

    async def update(self, allocation_id: AllocationId, body: Cloud) -> UpdateAnswer:
        """One update."""
        self._at(Moment.SENDING)
        answer = await self._client.update(allocation_id, body)
        self._at(Moment.SENT)
        return answer

    async def list(self) -> AsyncIterator[Cloud]:
        """Everything."""
        async for cloud in self._client.list():
            yield cloud
