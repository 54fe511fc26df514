"""Storms in virtual time, with the limiter as it is and with each part of it replaced or switched off.

    python -m tests.benchmarks.virtual_storms [STORM...]       prints a table; a few minutes of real time

The loop, the queue and the limiter are the real ones, the API is a model that gets into trouble. A cell says
how many seconds after the end of the storm everything was in sync, and how many requests it took in all.

Left out: what the wire and the disk cost (`run`).
"""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import inf

import looptime

from allocsync.errors import BulkUnavailable
from allocsync.model.api_answers import Failed, OutcomeUnknown
from allocsync.model.condition import Condition
from allocsync.reconcile.operation import Slot
from allocsync.reconcile.resync import BulkPolicy
from allocsync.reconcile.scheduling import circuit_breaker, concurrency, retry_wakeup
from tests.support.failing_api import DEAD, TIMEOUT, Pressed, edits, named, now, real_run
from tests.support.scripted_api import Run, ScriptedApi, generation

GIVES_UP_SECONDS = 3600.0
NEVER = {"FAILURES": 1e9}
NO_SHARE = {"SHARE": 2.0}
NO_LATENCY = {"CALM": inf, "PRESSED": inf}
NO_SLOW_POOL = {"SLOW_SECONDS": inf, "SLOW_LEAST_SECONDS": inf, "SLOW_AT_FIRST_SECONDS": inf}
SIXTEEN = dict.fromkeys(Slot, 16)
FIXED = {"START": SIXTEEN, "FLOOR": SIXTEEN, "SHARE": 2.0, "CALM": -1.0, "PRESSED": inf}

# What is replaced, by name: constants of the limiter, of the breaker and of the recovery.
VARIANTS: Mapping[str, Mapping[str, object]] = {
    "as it is": {},
    "fixed 16, nothing else": {**FIXED, **NO_SLOW_POOL, **NEVER},
    "fixed 16 with the rest": FIXED,
    "halving at any share over a tenth": {
        "shrinks_to": lambda share: 0.5 if share > concurrency.SHARE else 1.0
    },
    "failures never lower it": NO_SHARE,
    "no latency rule": NO_LATENCY,
    "grows however slow": {"CALM": inf},
    "never shrinks for slowness": {"PRESSED": inf},
    "no slow pool": NO_SLOW_POOL,
    "slow after 5 s": {"SLOW_LEAST_SECONDS": 5.0, "SLOW_AT_FIRST_SECONDS": 5.0},
    "slow after 2 s": {"SLOW_SECONDS": 2.0, "SLOW_LEAST_SECONDS": 2.0},
    "no floor": {"FLOOR": dict.fromkeys(Slot, 1)},
    "a floor of 4 for reads too": {"FLOOR": dict.fromkeys(Slot, 4)},
    "no breaker": NEVER,
    "poison lengthens the interval": {"KEEPS_FAILING": 10**9},
    "backoffs outlast a storm": {"CALLS": 0},
    "each calls two": {"CALLS": 2},
}


@contextmanager
def replaced(constants: Mapping[str, object]) -> Iterator[None]:
    """Run with these in place of those of the modules."""
    modules = [
        (module, name)
        for name in constants
        for module in (concurrency, circuit_breaker, retry_wakeup)
        if hasattr(module, name)
    ]
    before = [(module, name, getattr(module, name)) for module, name in modules]
    for module, name in modules:
        setattr(module, name, constants[name])
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


async def until_in_sync(run: Run, api: ScriptedApi, since: float) -> str:
    """What a cell says."""
    number = len(api.truth)
    while run.count(Condition.IN_SYNC) < number and now() < since + GIVES_UP_SECONDS:
        await asyncio.sleep(0.25)
    missing = number - run.count(Condition.IN_SYNC)
    took = f"{max(0.0, now() - since):.0f} s" if not missing else f"{missing} never"
    return f"{took} · {len(api.looks) + len(api.posts):,}"


def refusing(percent: int, seconds: float = 0.1) -> Callable[[], Awaitable[str]]:
    """For a minute so many of all updates end after so long with a 504 and are not applied."""

    async def storm() -> str:
        keys, chance = named(1000), random.Random(5)
        api = ScriptedApi(keys=keys)
        api.look_seconds = lambda _: 0.02
        api.post_seconds = lambda _: seconds if now() < 60 else 0.1
        api.on_update = lambda _key, _body: (
            TIMEOUT if now() < 60 and chance.random() < percent / 100 else None
        )
        async with real_run(api) as run:
            run.loop.adopt(generation(keys=keys))
            return await until_in_sync(run, api, 60.0)

    return storm


def dead(number: int, seconds: float = 600.0) -> ScriptedApi:
    """An API that answers everything 502 for so long; a tenth differs."""
    keys = named(number)
    api = ScriptedApi(keys=keys)
    api.bulk_error = BulkUnavailable("502 Bad Gateway", supported=True)
    api.seconds = 0.05
    api.on_snapshot = lambda _: DEAD if now() < seconds else None
    for key in keys[::10]:
        api.truth[key] = {**api.truth[key], "region": "drift"}
    return api


async def outage() -> str:
    """Ten minutes of 502 for everything; ten thousand are due, a tenth of them differs."""
    api = dead(10_000)
    async with real_run(api, bulk=BulkPolicy.OFF) as run:
        run.loop.adopt(generation("live", named(10_000)))
        await asyncio.sleep(600)
        wasted = len(api.looks)
        return f"{await until_in_sync(run, api, 600.0)}, {wasted:,} in vain"


def pressable(number: int, quickest: float) -> Pressed:
    """An API that does less the more it is asked; a third differs."""
    keys = named(number)
    api = Pressed(keys, at_once=8, quickest=quickest)
    for key in keys[::3]:
        api.truth[key] = {**api.truth[key], "region": "drift"}
    return api


async def weaken(api: Pressed) -> None:
    """For half a minute it has a quarter of its strength."""
    await asyncio.sleep(2)
    api.at_once = 2
    await asyncio.sleep(30)
    api.at_once = 8


def pressed(number: int, quickest: float) -> Callable[[], Awaitable[str]]:
    """An API that does less the more it is asked, and for half a minute has a quarter of its strength."""

    async def storm() -> str:
        api = pressable(number, quickest)
        async with real_run(api, bulk=BulkPolicy.OFF) as run:
            run.loop.adopt(generation("live", named(number)))
            await weaken(api)
            return f"{await until_in_sync(run, api, 32.0)}, {api.timeouts:,} timed out"

    return storm


async def hanging() -> str:
    """Twenty of 220 hang for half a minute each: the 99th percentile of edits of the others.

    From a cold start and later; spread among them, and all in front of them.
    """
    taken = [*await edits(named(220)[::11]), *await edits(named(20))]
    return " / ".join(f"{found[int(0.99 * len(found))]:.1f}" for found in taken) + " s"


async def one_backend_dead() -> str:
    """A third of all connections is refused, for a minute."""
    keys, chance = named(1000), random.Random(6)
    api = ScriptedApi(keys=keys)
    api.look_seconds = lambda _: 0.02
    refused = Failed("refused", unreachable=True)
    api.on_snapshot = lambda _: refused if now() < 60 and chance.random() < 1 / 3 else None
    api.on_update = lambda _key, _body: (
        OutcomeUnknown("reset") if now() < 60 and chance.random() < 1 / 3 else None
    )
    async with real_run(api, bulk=BulkPolicy.OFF) as run:
        run.loop.adopt(generation(keys=keys))
        return await until_in_sync(run, api, 0.0)


STORMS: Mapping[str, Callable[[], Awaitable[str]]] = {
    "504 20 %": refusing(20),
    "504 50 %": refusing(50),
    "504 90 %": refusing(90),
    "504 all": refusing(100),
    "504 90 %, 10 s each": refusing(90, 10.0),
    "outage": outage,
    "pressed": pressed(3000, 0.05),
    "pressed, 0.8 s each": pressed(500, 0.8),
    "20 hang: p99": hanging,
    "a third refused": one_backend_dead,
}


def run_one(storm: Callable[[], Awaitable[str]]) -> str:
    """One cell, in a loop of its own whose time is virtual."""
    loop = looptime.new_event_loop(start=0.0)
    try:
        return loop.run_until_complete(storm())
    finally:
        loop.close()


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def main(names: list[str]) -> int:
    """Print the table."""
    chosen = {name: storm for name, storm in STORMS.items() if not names or name in names}
    say = sys.stdout.write
    say(_row(["", *chosen]) + _row(["---"] * (1 + len(chosen))))
    for variant, constants in VARIANTS.items():
        with replaced(constants):
            say(_row([variant, *map(run_one, chosen.values())]))
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
