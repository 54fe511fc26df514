"""One process of the daemon: the real client, controller and journal, between a gate and a disk.

The rule: a crash is not a cancellation. First the gate and the disk are closed to the process, then its tasks
are cancelled, so that nothing they do then has an effect.

Left out: what happens between processes (`world`).
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from allocsync.api.client import AllocationClient
from allocsync.journal.database import JournalFile
from allocsync.journal.writer import Journal
from allocsync.model.api_answers import Live, Snapshot, UpdateAnswer
from allocsync.model.cloud import Cloud
from allocsync.model.desired_state import Revision
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import Restored
from allocsync.model.times import Monotonic, WallTime
from allocsync.reconcile.controller import Controller
from allocsync.reconcile.events import Event
from allocsync.runtime.wiring import build_controller
from allocsync.settings.model import Settings
from tests.simulation.real_parts.network import GATE, Gate
from tests.simulation.real_parts.schedule import Seam

T = TypeVar("T")
WALL_SECONDS = 1.8e9  # since the epoch, at the start of the event loop


def wall() -> WallTime:
    """Seconds since the epoch, for everything in the run."""
    return WallTime(WALL_SECONDS + asyncio.get_running_loop().time())


class DaemonProcess:
    """See the module. `on_seam` is called at each seam, and may end the process."""

    def __init__(
        self,
        settings: Settings,
        *,
        directory: Path,
        seed: int,
        on_seam: Callable[[Seam], None],
        observe: Callable[[Event], None],
    ) -> None:
        self.gate = Gate()
        self.file: JournalFile | None = None
        self._settings = settings
        self._directory = directory
        self.rng = random.Random(seed)
        self._on_seam = on_seam
        self._observed = observe
        self._loop: Controller | None = None
        self._revisions: asyncio.Queue[Revision] = asyncio.Queue()

    async def run(self) -> None:
        """Run from the start of the process to its end."""
        GATE.set(self.gate)
        self.file, restored = JournalFile.open(self._directory, wall=wall)
        try:
            async with (
                Journal.running(self.file, execute=self._execute, now=self.now, wall=wall) as journal,
                AllocationClient.open(self._settings.api_url, wall=wall) as client,
            ):
                await self._reconcile(ClientWithSeams(client, self._pass_seam), journal, restored)
        finally:
            self.file.close()

    async def _reconcile(self, api: "ClientWithSeams", journal: Journal, restored: Restored) -> None:
        self._loop = loop = build_controller(
            self._settings, api=api, clock=self, observer=self._observe, journal=journal, restored=restored
        )
        async with asyncio.TaskGroup() as group:
            following = group.create_task(self._follow(loop))
            await loop.run()
            following.cancel()

    async def _follow(self, loop: Controller) -> None:
        while True:
            loop.activate(await self._revisions.get())

    def deliver(self, revision: Revision) -> None:
        """The files declare this revision now."""
        self._revisions.put_nowait(revision)

    def stop(self) -> None:
        """Send SIGTERM."""
        if self._loop is not None:
            self._loop.stop()

    def _observe(self, event: Event) -> None:
        if self.gate.open:
            self._observed(event)

    def _pass_seam(self, seam: Seam) -> None:
        self._require_alive()
        self._on_seam(seam)
        self._require_alive()

    def _require_alive(self) -> None:
        if not self.gate.open:
            raise asyncio.CancelledError

    def _execute(self, work: Callable[[], T]) -> Awaitable[T]:
        return self._executed(work)

    async def _executed(self, work: Callable[[], T]) -> T:
        self._pass_seam(Seam.RECORDING)
        await asyncio.sleep(self.rng.uniform(0.0, 0.004))
        self._require_alive()
        done = work()
        self._pass_seam(Seam.RECORDED)
        return done

    # Clock and randomness.

    def now(self) -> Monotonic:
        """Monotonic seconds, by the event loop's clock."""
        return Monotonic(asyncio.get_running_loop().time())

    def wall(self) -> WallTime:
        """Seconds since the epoch."""
        return wall()

    def uniform(self, low: float, high: float) -> float:
        """A random number in [low, high]."""
        return self.rng.uniform(low, high)


class ClientWithSeams:
    """The real client, with a seam around each request."""

    def __init__(self, client: AllocationClient, at: Callable[[Seam], None]) -> None:
        self._client = client
        self._pass_seam = at

    async def snapshot(self, allocation_id: AllocationId) -> Snapshot:
        """Read one allocation."""
        answer = await self._client.snapshot(allocation_id)
        self._pass_seam(Seam.READ)
        return answer

    async def update(self, allocation_id: AllocationId, body: Cloud) -> UpdateAnswer:
        """Send one update."""
        self._pass_seam(Seam.SENDING)
        answer = await self._client.update(allocation_id, body)
        self._pass_seam(Seam.SENT)
        return answer

    async def list(self) -> AsyncIterator[Live]:
        """Read all allocations in one list."""
        async for listed in self._client.list():
            yield listed
