"""Live state for commands that look once: in one bulk request where that works, otherwise one by one.

The rule: what a bulk answer lacks is read by itself, because absence is not 410; reads are tried again a few
times, and nothing is ever sent here.
"""

import asyncio
from collections.abc import Collection

from allocsync.api.backoff import FullJitter, read_with_retries
from allocsync.api.client import AllocationClient
from allocsync.errors import BulkUnavailable
from allocsync.model.api_answers import Live, Snapshot
from allocsync.model.ids import AllocationId
from allocsync.runtime.clock import SystemClock
from allocsync.runtime.wiring import READS
from allocsync.settings.model import Settings

ATTEMPTS = 3
FEW = 20  # so few are read one by one, without asking for everything


async def read(
    api: AllocationClient, ids: Collection[AllocationId], settings: Settings
) -> tuple[dict[AllocationId, Snapshot], str]:
    """A snapshot of each of these allocations, and how they were read, for people."""
    clock = SystemClock()
    begun = clock.now()
    snapshots: dict[AllocationId, Snapshot] = {}
    bulk = settings.bulk == "on" or (settings.bulk == "auto" and len(ids) > FEW)
    if bulk:
        wanted = set(ids)
        try:
            async for cloud in api.list():
                key = AllocationId(str(cloud.get("id")))
                if key in wanted:
                    snapshots[key] = Live(cloud)
        except BulkUnavailable:
            snapshots, bulk = {}, False
    rest = [key for key in ids if key not in snapshots]
    await _one_by_one(api, rest, snapshots, settings.concurrency_max or READS, clock)
    how = "one bulk request" if bulk else f"{len(rest):,} requests"
    if bulk and rest:
        how += f" and {len(rest):,} more"
    return snapshots, f"live read in {clock.now() - begun:.1f} s ({how})"


async def _one_by_one(
    api: AllocationClient,
    ids: Collection[AllocationId],
    snapshots: dict[AllocationId, Snapshot],
    concurrency: int,
    clock: SystemClock,
) -> None:
    waiting = iter(ids)
    wait = FullJitter(base_seconds=0.5, max_seconds=5.0, uniform=clock.uniform)

    async def reader() -> None:
        for key in waiting:
            snapshots[key] = await read_with_retries(api, key, wait=wait, attempts=ATTEMPTS)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(ids))):
            group.create_task(reader())
