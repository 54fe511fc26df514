"""Storms in virtual time, with the concurrency limits as they are and with each part of them replaced.

    python -m tests.benchmarks.virtual_storms [STORM...]       prints a table; takes a few minutes

The controller, the work queue and the concurrency limits are the product's; the API is a scripted one with
faults. A cell shows how many seconds after the end of the storm everything was in sync, and how many requests
were sent.

Left out: the cost of the network and the disk (`run`).
"""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import inf
from types import ModuleType

import looptime

from allocsync.errors import BulkUnavailable
from allocsync.model.api_answers import Failed, OutcomeUnknown
from allocsync.model.condition import Condition
from allocsync.reconcile.operation import Operation
from allocsync.reconcile.resync import BulkPolicy
from allocsync.reconcile.scheduling import circuit_breaker, concurrency, retry_wakeup
from tests.support.failing_api import DEAD, TIMEOUT, OverloadableApi, measure_edits, named, now, real_run
from tests.support.scripted_api import Run, ScriptedApi, revision

GIVE_UP_SECONDS = 3600.0
NEVER = {"MIN_FAILURES": 1e9}
NO_SHARE = {"TOLERATED_FAILURE_SHARE": 2.0}
NO_LATENCY = {"GROWTH_LATENCY_RATIO": inf, "SLOW_LATENCY_RATIO": inf}
NO_SLOW_POOL = {"SLOW_MAX_SECONDS": inf, "SLOW_MIN_SECONDS": inf, "SLOW_INITIAL_SECONDS": inf}
SIXTEEN = dict.fromkeys(Operation, 16)
FIXED = {
    "INITIAL_LIMIT": SIXTEEN,
    "MIN_LIMIT": SIXTEEN,
    "TOLERATED_FAILURE_SHARE": 2.0,
    "GROWTH_LATENCY_RATIO": -1.0,
    "SLOW_LATENCY_RATIO": inf,
}

# Replaced constants by name: of the concurrency limits, the circuit breaker and the retry wake-up.
VARIANTS: Mapping[str, Mapping[str, object]] = {
    "as it is": {},
    "fixed 16, nothing else": {**FIXED, **NO_SLOW_POOL, **NEVER},
    "fixed 16 with the rest": FIXED,
    "halving at any share over a tenth": {
        "shrink_factor": lambda share: 0.5 if share > concurrency.TOLERATED_FAILURE_SHARE else 1.0
    },
    "failures never lower it": NO_SHARE,
    "no latency rule": NO_LATENCY,
    "grows however slow": {"GROWTH_LATENCY_RATIO": inf},
    "never shrinks for slowness": {"SLOW_LATENCY_RATIO": inf},
    "no slow pool": NO_SLOW_POOL,
    "slow after 5 s": {"SLOW_MIN_SECONDS": 5.0, "SLOW_INITIAL_SECONDS": 5.0},
    "slow after 2 s": {"SLOW_MAX_SECONDS": 2.0, "SLOW_MIN_SECONDS": 2.0},
    "no floor": {"MIN_LIMIT": dict.fromkeys(Operation, 1)},
    "a floor of 4 for reads too": {"MIN_LIMIT": dict.fromkeys(Operation, 4)},
    "no breaker": NEVER,
    "poison lengthens the interval": {"KEEPS_FAILING": 10**9},
    "backoffs outlast a storm": {"WAKEUPS_PER_SUCCESS": 0},
    "each wakes two": {"WAKEUPS_PER_SUCCESS": 2},
}


@contextmanager
def replaced(constants: Mapping[str, object]) -> Iterator[None]:
    """Run with these constants in place of the modules' own.

    Raises:
        LookupError: no module has a constant of this name.
    """
    modules = [(_module_of(name), name) for name in constants]
    before = [(module, name, getattr(module, name)) for module, name in modules]
    for module, name in modules:
        setattr(module, name, constants[name])
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def _module_of(name: str) -> ModuleType:
    for module in (concurrency, circuit_breaker, retry_wakeup):
        if hasattr(module, name):
            return module
    raise LookupError(f"no module has a constant {name}")


async def wait_until_in_sync(run: Run, api: ScriptedApi, since: float) -> str:
    """Wait until everything is in sync, and return the text of the cell."""
    number = len(api.truth)
    while run.count(Condition.IN_SYNC) < number and now() < since + GIVE_UP_SECONDS:
        await asyncio.sleep(0.25)
    missing = number - run.count(Condition.IN_SYNC)
    took = f"{max(0.0, now() - since):.0f} s" if not missing else f"{missing} never"
    return f"{took} · {len(api.reads) + len(api.posts):,}"


def failing_updates(percent: int, seconds: float = 0.1) -> Callable[[], Awaitable[str]]:
    """A storm: for a minute `percent` of all updates end with a 504 after `seconds` and are not applied."""

    async def storm() -> str:
        keys, rng = named(1000), random.Random(5)
        api = ScriptedApi(keys=keys)
        api.read_seconds = lambda _: 0.02
        api.post_seconds = lambda _: seconds if now() < 60 else 0.1
        api.on_update = lambda _key, _body: TIMEOUT if now() < 60 and rng.random() < percent / 100 else None
        async with real_run(api) as run:
            run.controller.activate(revision(keys=keys))
            return await wait_until_in_sync(run, api, 60.0)

    return storm


def unreachable_api(number: int, seconds: float = 600.0) -> ScriptedApi:
    """An API that answers everything with a 502 for so many seconds; a tenth of the allocations differs."""
    keys = named(number)
    api = ScriptedApi(keys=keys)
    api.bulk_error = BulkUnavailable("502 Bad Gateway", supported=True)
    api.seconds = 0.05
    api.on_snapshot = lambda _: DEAD if now() < seconds else None
    for key in keys[::10]:
        api.truth[key] = {**api.truth[key], "region": "drift"}
    return api


async def outage() -> str:
    """Ten minutes of 502 for everything; ten thousand allocations, a tenth of them differs."""
    api = unreachable_api(10_000)
    async with real_run(api, bulk=BulkPolicy.OFF) as run:
        run.controller.activate(revision("live", named(10_000)))
        await asyncio.sleep(600)
        failed_reads = len(api.reads)
        return f"{await wait_until_in_sync(run, api, 600.0)}, {failed_reads:,} failed"


def overloadable_api(number: int, quickest: float) -> OverloadableApi:
    """An API that slows down with load; a third of the allocations differs."""
    keys = named(number)
    api = OverloadableApi(keys, at_once=8, quickest=quickest)
    for key in keys[::3]:
        api.truth[key] = {**api.truth[key], "region": "drift"}
    return api


async def reduce_capacity(api: OverloadableApi) -> None:
    """For half a minute the API has a quarter of its capacity."""
    await asyncio.sleep(2)
    api.at_once = 2
    await asyncio.sleep(30)
    api.at_once = 8


def overload(number: int, quickest: float) -> Callable[[], Awaitable[str]]:
    """A storm: an API that slows down with load has a quarter of its capacity for half a minute."""

    async def storm() -> str:
        api = overloadable_api(number, quickest)
        async with real_run(api, bulk=BulkPolicy.OFF) as run:
            run.controller.activate(revision("live", named(number)))
            await reduce_capacity(api)
            return f"{await wait_until_in_sync(run, api, 32.0)}, {api.timeouts:,} timed out"

    return storm


async def hanging_allocations() -> str:
    """Twenty of 220 allocations hang for half a minute each: the 99th percentile of edits of the others.

    From a cold start and later; with the twenty spread among the others, and before all of them.
    """
    taken = [*await measure_edits(named(220)[::11]), *await measure_edits(named(20))]
    return " / ".join(f"{found[int(0.99 * len(found))]:.1f}" for found in taken) + " s"


async def one_backend_dead() -> str:
    """A third of all connections is refused, for a minute."""
    keys, rng = named(1000), random.Random(6)
    api = ScriptedApi(keys=keys)
    api.read_seconds = lambda _: 0.02
    refused = Failed("refused", unreachable=True)
    api.on_snapshot = lambda _: refused if now() < 60 and rng.random() < 1 / 3 else None
    api.on_update = lambda _key, _body: (
        OutcomeUnknown("reset") if now() < 60 and rng.random() < 1 / 3 else None
    )
    async with real_run(api, bulk=BulkPolicy.OFF) as run:
        run.controller.activate(revision(keys=keys))
        return await wait_until_in_sync(run, api, 0.0)


STORMS: Mapping[str, Callable[[], Awaitable[str]]] = {
    "504 20 %": failing_updates(20),
    "504 50 %": failing_updates(50),
    "504 90 %": failing_updates(90),
    "504 all": failing_updates(100),
    "504 90 %, 10 s each": failing_updates(90, 10.0),
    "outage": outage,
    "pressed": overload(3000, 0.05),
    "pressed, 0.8 s each": overload(500, 0.8),
    "20 hang: p99": hanging_allocations,
    "a third refused": one_backend_dead,
}


def run_one(storm: Callable[[], Awaitable[str]]) -> str:
    """Run one storm on an event loop of its own with virtual time. Return the text of the cell."""
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
