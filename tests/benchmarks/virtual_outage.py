"""An outage and an overloaded server in virtual time: allocsync's controller and a script's loop.

The APIs are those of `virtual_storms`. allocsync's controller runs against each, and so does the loop of the
script peer (`peers/converge`) behind the same interface; it too waits on virtual time. Both read all
allocations one by one. The SDK cannot run here: it has its own sockets. The outage with ten thousand
allocations is allocsync's alone: the script would send three quarters of a million requests.

A failure report is false if the truth was as declared: here, for the allocations that did not differ at the
start.

Left out: the cost of the network and the disk (`storm`).
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from math import floor
from typing import Any

import looptime

from allocsync.model.api_answers import Accepted, Live
from allocsync.model.ids import AllocationId
from allocsync.reconcile import events
from allocsync.reconcile.resync import BulkPolicy
from tests.benchmarks.contenders import FAILED
from tests.benchmarks.peers.converge import READS, WRITES, Passes, TransientError
from tests.benchmarks.peers.script import Script
from tests.benchmarks.virtual_storms import overloadable_api, reduce_capacity, unreachable_api
from tests.support.failing_api import named, now, real_run
from tests.support.scripted_api import ScriptedApi, revision

GIVE_UP_SECONDS = 1_800.0


@dataclass(frozen=True, slots=True)
class Scene:
    """An API with a fault: how it is created, what happens to it, and when the fault ends in seconds."""

    make: Callable[[], ScriptedApi]
    trouble: Callable[[Any], Awaitable[None]]
    ends: float
    loops: tuple[str, ...] = ("allocsync", "script")


class ScriptOnScriptedApi(Script):
    """The script, on a scripted API instead of a session."""

    def __init__(self, api: ScriptedApi) -> None:
        self._api = api

    async def read(self, key: str) -> dict[str, Any]:
        """Read the live object."""
        answer = await self._api.snapshot(AllocationId(key))
        if not isinstance(answer, Live):
            raise TransientError(str(answer))
        return dict(answer.cloud)

    async def update(self, live: dict[str, Any]) -> None:
        """Send the whole object back."""
        answer = await self._api.update(AllocationId(str(live["id"])), live)
        if not isinstance(answer, Accepted):
            raise TransientError(str(answer))


async def run_allocsync(api: ScriptedApi, scene: Scene) -> list[str]:
    """Run allocsync's controller. Return the allocations that it reported as failed."""
    async with real_run(api, bulk=BulkPolicy.OFF) as run:
        run.controller.activate(revision("live", named(len(api.truth))))
        await scene.trouble(api)
        await wait_until_in_sync(api, scene.ends)
        changed = run.events(events.ConditionChanged)
    return [str(event.allocation) for event in changed if str(event.after) in FAILED]


async def run_script(api: ScriptedApi, scene: Scene) -> list[str]:
    """Run the script's loop. Return the allocations that it gave up."""
    random.seed(1)  # tenacity uses the global random numbers
    failed: list[str] = []

    def say(event: str, **fields: object) -> None:
        if event == "failed":
            failed.append(str(fields["id"]))

    passes = Passes(
        ScriptOnScriptedApi(api),
        {key: {"region": "live"} for key in api.truth},
        read_again=False,
        say=say,
        reads=asyncio.Semaphore(READS),
        writes=asyncio.Semaphore(WRITES),
    )
    running = asyncio.create_task(passes.run())
    await scene.trouble(api)
    await wait_until_in_sync(api, scene.ends)
    running.cancel()
    await asyncio.wait([running])
    return failed


async def wait_until_in_sync(api: ScriptedApi, since: float) -> None:
    """Wait until the truth is as declared, or for too long after the end of the fault."""
    while any(cloud["region"] != "live" for cloud in api.truth.values()) and now() < since + GIVE_UP_SECONDS:
        await asyncio.sleep(0.25)


LOOPS: Mapping[str, Callable[[ScriptedApi, Scene], Awaitable[list[str]]]] = {
    "allocsync": run_allocsync,
    "script": run_script,
}
SCENES: Mapping[str, Scene] = {
    "outage": Scene(lambda: unreachable_api(10_000), lambda _: asyncio.sleep(600), 600.0, ("allocsync",)),
    "outage, for both": Scene(lambda: unreachable_api(1_000), lambda _: asyncio.sleep(600), 600.0),
    "overloaded": Scene(lambda: overloadable_api(3_000, 0.05), reduce_capacity, 32.0),
}


async def _run_scene(scene: Scene, loop: str) -> dict[str, object]:
    api = scene.make()
    differing = {key for key, cloud in api.truth.items() if cloud["region"] != "live"}
    failed = await LOOPS[loop](api, scene)
    differing_at_end = sum(cloud["region"] != "live" for cloud in api.truth.values())
    at = [at for at, _ in (*api.reads, *api.posts)]
    counts = Counter(map(floor, at))
    after = {second: count for second, count in counts.items() if second >= scene.ends}
    return {
        "allocations": len(api.truth),
        "differed": len(differing),
        "ends": scene.ends,
        "recovery_seconds": None if differing_at_end else round(now() - scene.ends, 1),
        "never_in_sync": differing_at_end,
        "sent": len(at),
        "sent_during": sum(each < scene.ends for each in at),
        "failures": len(failed),
        "false_failures": sum(key not in differing for key in failed),
        "second_after": after.get(floor(scene.ends), 0),
        "most_after": max(after.values(), default=0),
        "per_second": [counts[second] for second in range(max(counts) + 1)],
    }


def run_scene(scene: Scene, loop: str) -> dict[str, object]:
    """Run one loop against one API, on an event loop with virtual time."""
    events = looptime.new_event_loop(start=0.0)
    try:
        return events.run_until_complete(_run_scene(scene, loop))
    finally:
        events.close()
