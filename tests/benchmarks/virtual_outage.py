"""An outage of everything and a server that gives way under load, in virtual time: our loop, a script's.

The APIs are those of `storms`. Against each runs allocsync's loop, and then the loop of the script peer
(`peers/converge`) behind the same seam, which waits with tenacity on virtual time as well. In both cases
everything is looked at one by one. The SDK cannot be put there: it brings its own sockets. The outage with
ten thousand is allocsync's alone: the script would ask three quarters of a million times.

A failure is reported falsely when the truth was as declared: here that is what did not differ at the start.

Left out: what the wire and the disk cost (`storm`).
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
from tests.benchmarks.virtual_storms import dead, pressable, weaken
from tests.support.failing_api import named, now, real_run
from tests.support.scripted_api import ScriptedApi, generation

GIVES_UP_SECONDS = 1_800.0


@dataclass(frozen=True, slots=True)
class Scene:
    """An API in trouble: how it is made, what happens to it, when that is over."""

    make: Callable[[], ScriptedApi]
    trouble: Callable[[Any], Awaitable[None]]
    ends: float
    loops: tuple[str, ...] = ("allocsync", "script")


class Modelled(Script):
    """The script, on a model instead of a session."""

    def __init__(self, api: ScriptedApi) -> None:
        self._api = api

    async def read(self, key: str) -> dict[str, Any]:
        """The live object."""
        answer = await self._api.snapshot(AllocationId(key))
        if not isinstance(answer, Live):
            raise TransientError(str(answer))
        return dict(answer.cloud)

    async def update(self, live: dict[str, Any]) -> None:
        """Send it back whole."""
        answer = await self._api.update(AllocationId(str(live["id"])), live)
        if not isinstance(answer, Accepted):
            raise TransientError(str(answer))


async def ours(api: ScriptedApi, scene: Scene) -> list[str]:
    """Our loop; the allocations that it said have failed."""
    async with real_run(api, bulk=BulkPolicy.OFF) as run:
        run.loop.adopt(generation("live", named(len(api.truth))))
        await scene.trouble(api)
        await in_sync(api, scene.ends)
        changed = run.events(events.ConditionChanged)
    return [str(event.allocation) for event in changed if str(event.after) in FAILED]


async def script(api: ScriptedApi, scene: Scene) -> list[str]:
    """The script's loop; the allocations that it gave up."""
    random.seed(1)  # tenacity's chance is everybody's
    failed: list[str] = []

    def say(event: str, **fields: object) -> None:
        if event == "failed":
            failed.append(str(fields["id"]))

    passes = Passes(
        Modelled(api),
        {key: {"region": "live"} for key in api.truth},
        read_again=False,
        say=say,
        reads=asyncio.Semaphore(READS),
        writes=asyncio.Semaphore(WRITES),
    )
    running = asyncio.create_task(passes.run())
    await scene.trouble(api)
    await in_sync(api, scene.ends)
    running.cancel()
    await asyncio.wait([running])
    return failed


async def in_sync(api: ScriptedApi, since: float) -> None:
    """Until the truth is as declared, or too long after the end of the trouble."""
    while any(cloud["region"] != "live" for cloud in api.truth.values()) and now() < since + GIVES_UP_SECONDS:
        await asyncio.sleep(0.25)


LOOPS: Mapping[str, Callable[[ScriptedApi, Scene], Awaitable[list[str]]]] = {
    "allocsync": ours,
    "script": script,
}
SCENES: Mapping[str, Scene] = {
    "outage": Scene(lambda: dead(10_000), lambda _: asyncio.sleep(600), 600.0, ("allocsync",)),
    "outage, for both": Scene(lambda: dead(1_000), lambda _: asyncio.sleep(600), 600.0),
    "overloaded": Scene(lambda: pressable(3_000, 0.05), weaken, 32.0),
}


async def _played(scene: Scene, loop: str) -> dict[str, object]:
    api = scene.make()
    differing = {key for key, cloud in api.truth.items() if cloud["region"] != "live"}
    failed = await LOOPS[loop](api, scene)
    wrong = sum(cloud["region"] != "live" for cloud in api.truth.values())
    at = [at for at, _ in (*api.looks, *api.posts)]
    counts = Counter(map(floor, at))
    after = {second: count for second, count in counts.items() if second >= scene.ends}
    return {
        "allocations": len(api.truth),
        "differed": len(differing),
        "ends": scene.ends,
        "recovery_seconds": None if wrong else round(now() - scene.ends, 1),
        "never_in_sync": wrong,
        "sent": len(at),
        "sent_during": sum(each < scene.ends for each in at),
        "failures": len(failed),
        "false_failures": sum(key not in differing for key in failed),
        "second_after": after.get(floor(scene.ends), 0),
        "most_after": max(after.values(), default=0),
        "per_second": [counts[second] for second in range(max(counts) + 1)],
    }


def play(scene: Scene, loop: str) -> dict[str, object]:
    """One loop against one API, on an event loop whose time is virtual."""
    events = looptime.new_event_loop(start=0.0)
    try:
        return events.run_until_complete(_played(scene, loop))
    finally:
        events.close()
