"""Reads live state once, for commands: by the list where that works, otherwise one allocation at a time.

The rules: with `bulk: auto`, a few allocations are read one at a time, even if the list works. An allocation
that the list lacks is read by itself, because only a 410 says that it is gone.
Reads that fail are retried a few times, and no update is sent here.

Left out: which answers are retried (`api.backoff`), and the daemon's own reads (`reconcile`).
"""

import asyncio
from collections.abc import Collection

from allocsync.api.backoff import FullJitter, read_with_retries
from allocsync.api.client import AllocationClient
from allocsync.errors import BulkUnavailable
from allocsync.model.api_answers import Snapshot
from allocsync.model.ids import AllocationId
from allocsync.runtime.clock import SystemClock
from allocsync.runtime.wiring import READS
from allocsync.settings.model import Settings

ATTEMPTS = 3
ONE_BY_ONE_MAX = 20  # with `bulk: auto`, up to this many allocations are read without the list


async def read(
    api: AllocationClient, ids: Collection[AllocationId], settings: Settings
) -> tuple[dict[AllocationId, Snapshot], str]:
    """Read these allocations.

    Returns a snapshot of each, and a text for people that says how they were read and how long it took. A
    read that fails raises nothing: its snapshot is `Failed`.
    """
    clock = SystemClock()
    begun = clock.now()
    snapshots: dict[AllocationId, Snapshot] = {}
    bulk = settings.bulk == "on" or (settings.bulk == "auto" and len(ids) > ONE_BY_ONE_MAX)
    if bulk:
        wanted = set(ids)
        try:
            async for listed in api.list():
                key = AllocationId(str(listed.cloud.get("id")))
                if key in wanted:
                    snapshots[key] = listed
        except BulkUnavailable:
            snapshots, bulk = {}, False
    rest = [key for key in ids if key not in snapshots]
    await _one_by_one(api, rest, snapshots, settings.concurrency_max or READS, clock)
    how = "one list request" if bulk else f"{len(rest):,} requests"
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
