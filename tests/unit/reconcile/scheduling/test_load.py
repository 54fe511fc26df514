"""The load on a failing API in virtual time, with the real controller, limits and backoff."""

import asyncio
import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from allocsync.api.responses import parse_retry_after
from allocsync.errors import BulkUnavailable
from allocsync.model.api_answers import Failed, OutcomeUnknown, Rejected, RejectionClass, Snapshot
from allocsync.model.condition import Condition
from allocsync.model.times import WallTime
from allocsync.reconcile import events
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.resync import BulkPolicy
from allocsync.reconcile.scheduling.circuit_breaker import (
    PROBE_FIRST_SECONDS,
    PROBE_JITTER,
    PROBE_MAX_SECONDS,
)
from tests.support.failing_api import DEAD, TIMEOUT, OverloadableApi, measure_edits, named, now, real_run
from tests.support.scripted_allocation import cloud
from tests.support.scripted_api import KEYS, ScriptedApi, revision

pytestmark = pytest.mark.looptime
# tests/simulation/scenarios/test_load.py shows the same with a real journal, from the requests to the server.
shown_by_scenario = pytest.mark.slow

LEAST_INTERVAL = PROBE_FIRST_SECONDS * (1 - PROBE_JITTER)


def probes_allowed(seconds: float) -> int:
    """How many probes may go in so many seconds, as the interval doubles up to the longest."""
    return 5 + int(seconds / (PROBE_MAX_SECONDS * (1 - PROBE_JITTER)))


@shown_by_scenario
@pytest.mark.parametrize("bulk", [True, False])
async def test_failing_updates_do_not_delay_reads_and_send_one_probe_per_interval(*, bulk: bool) -> None:
    api = ScriptedApi(bulk=bulk)
    fired = 0

    def dead(_key: str, _body: object) -> OutcomeUnknown | None:
        nonlocal fired
        fired += now() < 300
        return TIMEOUT if now() < 300 else None

    api.on_update = dead
    async with real_run(api) as run:
        run.controller.activate(revision())
        await asyncio.sleep(300)
        (opened,) = run.events(events.BreakerOpened)
        assert opened.operation == "write"
        assert run.controller.status().breakers_open == {"read": False, "write": True}
        late = [at for at, _ in api.posts if at > 30]
        assert fired >= 10
        assert 0 < len(late) <= probes_allowed(270)
        assert all(later - earlier >= LEAST_INTERVAL for earlier, later in pairwise(late))
        if bulk:
            assert api.lists in {5, 6}
        else:
            assert {key for _, key in api.reads} == set(KEYS)
        await asyncio.sleep(60)
        assert run.count(Condition.IN_SYNC) == len(KEYS)
        (closed,) = run.events(events.BreakerClosed)
        assert closed.probes == len(run.events(events.ProbeStarted))


@shown_by_scenario
async def test_ten_thousand_allocations_are_in_sync_soon_after_an_outage_with_a_bounded_ramp() -> None:
    keys = named(10_000)
    api = ScriptedApi(keys=keys)
    api.bulk_error = BulkUnavailable("502 Bad Gateway", supported=True)
    api.seconds = 0.05
    succeeded_at: list[float] = []

    def dead(_key: str) -> Snapshot | None:
        if now() < 600:
            return DEAD
        succeeded_at.append(now())
        return None

    api.on_snapshot = dead
    for key in keys[::50]:
        api.truth[key] = {**api.truth[key], "region": "drift"}
    async with real_run(api) as run:
        run.controller.activate(revision("live", keys))
        await asyncio.sleep(600)
        in_outage = len(api.reads)
        assert in_outage > 20
        late = [at for at, _ in api.reads if at > 60]
        assert 0 < len(late) <= probes_allowed(540)
        assert run.count(Condition.FAILING) == 0
        while not succeeded_at:
            await asyncio.sleep(0.05)
        closed = succeeded_at[0]
        assert closed <= 600 + PROBE_MAX_SECONDS + 1
        max_in_flight = 0
        while now() < closed + 2:
            await asyncio.sleep(0.05)
            max_in_flight = max(max_in_flight, len(api.under_way))
            assert len(api.under_way) <= 4 + 4 + (now() - closed) / api.seconds
        assert max_in_flight > 10
        await asyncio.sleep(60)
        assert run.count(Condition.IN_SYNC) == len(keys)
        assert len(api.posts) == len(keys) / 50
        assert len(api.reads) - in_outage <= 1.2 * len(keys) + 20


@shown_by_scenario
async def test_an_api_that_is_slower_the_more_requests_it_has_recovers() -> None:
    keys = named(3_000)
    api = OverloadableApi(keys, at_once=8)
    async with real_run(api, bulk=BulkPolicy.OFF) as run:
        run.controller.activate(revision("live", keys))
        await asyncio.sleep(2)
        api.at_once = 2  # a quarter of its capacity, for a while
        await asyncio.sleep(30)
        api.at_once = 8
        assert api.timeouts
        await asyncio.sleep(5)
        before = run.count(Condition.IN_SYNC)
        await asyncio.sleep(10)
        at_best = 10 * api.at_once / api.quickest
        assert run.count(Condition.IN_SYNC) - before > at_best / 4


@shown_by_scenario
async def test_twenty_hanging_allocations_hardly_delay_the_healthy_ones() -> None:
    at_start, later = await measure_edits(())
    assert (at_start[-1], later[-1]) < (1.0, 1.0)
    among_others, before_others = named(220)[::11], named(20)
    for hanging, max_seconds in ((among_others, 2.0), (before_others, 12.0)):
        from_start, after = await measure_edits(hanging)
        assert from_start[-1] <= max_seconds
        assert after[int(0.99 * len(after))] <= later[-1] + 1.0


async def test_more_hanging_updates_than_slots_leave_slots_for_later_edits() -> None:
    _, beside = await measure_edits(named(260)[::4])
    assert beside[len(beside) // 2] <= 1.0


@shown_by_scenario
async def test_updates_go_on_while_nine_of_ten_fail() -> None:
    keys = named(100)
    api = ScriptedApi(keys=keys)
    chance = random.Random(4)
    fired = 0

    def mostly(_key: str, _body: object) -> OutcomeUnknown | None:
        nonlocal fired
        if chance.random() < 0.1:
            return None
        fired += 1
        return TIMEOUT

    api.on_update = mostly
    api.post_seconds = lambda _: 1.0
    async with real_run(api) as run:
        run.controller.activate(revision(keys=keys))
        converged = []
        for _ in range(12):
            await asyncio.sleep(600)
            converged.append(run.count(Condition.IN_SYNC))
        assert converged == sorted(converged)
        assert converged[0] > len(keys) / 2
        assert converged[-1] > 0.98 * len(keys)
        assert fired > 8 * converged[-1]
        assert not run.events(events.BreakerOpened)


@pytest.mark.parametrize(
    ("header", "min_seconds", "max_seconds"),
    [
        ("86400", 300.0, 301.0),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0.0, 2.1),
        ("soon", 0.0, 2.1),
        ("-5", 0.0, 2.1),
        ("", 0.0, 2.1),
    ],
)
async def test_retry_after_is_kept_up_to_five_minutes(
    header: str, min_seconds: float, max_seconds: float
) -> None:
    api = ScriptedApi()
    after = parse_retry_after(header, date=None, wall=WallTime(1e9))
    locked = Rejected(423, "423 Locked", RejectionClass.NOT_NOW, retry_after_seconds=after)
    api.on_update = lambda _key, _body: locked if len(api.posts) == 1 else None
    async with real_run(api, bulk=BulkPolicy.OFF) as run:
        run.controller.activate(revision(keys=KEYS[:1]))
        await asyncio.sleep(400)
        (first, _), (second, _) = api.posts
        assert min_seconds <= second - first <= max_seconds
        assert run.count(Condition.IN_SYNC) == 1


@pytest.mark.parametrize("of", ["everything", "updates"])
@pytest.mark.parametrize(
    "unreachable",
    [pytest.param(False, id="401", marks=shown_by_scenario), pytest.param(True, id="no connection")],
)
async def test_an_unavailable_api_gets_one_probe_per_interval(of: str, *, unreachable: bool) -> None:
    keys = named(500)
    api = ScriptedApi(keys=keys)
    status = None if unreachable else 401
    ends = 600.0
    fired = 0

    def unavailable(answer: Callable[[], object]) -> Callable[..., object]:
        def answered(*_: object) -> object:
            nonlocal fired
            fired += now() < ends
            return answer() if now() < ends else None

        return answered

    failed = Failed("no", status, unreachable=unreachable)
    rejected = Rejected(401, "401 Unauthorized", RejectionClass.OTHER)
    unknown = OutcomeUnknown("302 Found", 302)
    api.on_update = unavailable(lambda: rejected if status else unknown)  # type: ignore[assignment]  # as the interface's
    if of == "everything":
        api.on_snapshot = unavailable(lambda: failed)  # type: ignore[assignment]  # likewise
        api.bulk_error = BulkUnavailable("401 Unauthorized", supported=True)
    async with real_run(api) as run:
        run.controller.activate(revision(keys=keys))
        await asyncio.sleep(ends)
        requests = api.posts if of == "updates" else api.reads
        assert 10 <= fired <= 10 + 4 + probes_allowed(ends)
        assert fired == len(requests)
        assert run.count(Condition.FAILING) == 0
        assert run.controller.status().limits["write" if of == "updates" else "read"] == 1
        assert [event.operation for event in run.events(events.BreakerOpened)] == [
            "write" if of == "updates" else "read"
        ]
        api.bulk_error = None
        await asyncio.sleep(PROBE_MAX_SECONDS + 30)
        assert run.count(Condition.IN_SYNC) == len(keys)


async def test_edits_in_an_outage_wait_for_the_probes() -> None:
    api = ScriptedApi()
    api.on_update = lambda _key, _body: TIMEOUT
    async with real_run(api) as run:
        for number in range(240):
            run.controller.activate(revision(f"edit{number}"))
            await asyncio.sleep(0.5)
        assert run.events(events.BreakerOpened)
        late = [at for at, _ in api.posts if at > 20]
        assert 0 < len(late) <= probes_allowed(100)
        read_backs = 2 * len(api.posts)
        assert len(api.reads) <= len(KEYS) + len(api.posts) + read_backs + 20


async def test_probes_without_an_update_do_not_delay_the_reads_of_edits_while_updates_fail() -> None:
    api = ScriptedApi(keys=KEYS[:1])
    api.on_update = lambda _key, _body: Rejected(401, "401 Unauthorized", RejectionClass.OTHER)
    async with real_run(api, bulk=BulkPolicy.OFF) as run:
        run.controller.activate(revision("mars", KEYS[:1]))
        await asyncio.sleep(4)
        assert run.controller.status().breakers_open == {"read": False, "write": True}
        for number in range(10):
            await asyncio.sleep(5)
            posts = len(api.posts)
            # Another client makes the change first.
            api.truth[KEYS[0]] = {**cloud(region=f"edit{number}"), "id": KEYS[0]}
            edited, reads = now(), len(api.reads)
            run.controller.activate(revision(f"edit{number}", KEYS[:1]))
            await asyncio.sleep(5)
            assert number == 0 or api.reads[reads][0] <= edited + PROBE_FIRST_SECONDS
            assert len(api.posts) == posts
        assert run.controller.status().breakers_open["write"]
        assert len(run.events(events.ProbeStarted)) > 10


async def test_an_urgent_allocation_that_keeps_failing_is_not_every_probe() -> None:
    api = ScriptedApi()
    api.on_snapshot = lambda key: DEAD if 10 < now() < 700 or key == KEYS[0] else None
    async with real_run(api, bulk=BulkPolicy.OFF) as run:
        run.controller.activate(revision("live", KEYS[1:]))
        await asyncio.sleep(20)
        run.controller.activate(revision("live"))  # an edit is more urgent than all the others
        await asyncio.sleep(680)
        assert run.controller.status().breakers_open["read"]
        assert sum(key == KEYS[0] for _, key in api.reads) > 1
        await asyncio.sleep(2 * PROBE_MAX_SECONDS)
        assert not run.controller.status().breakers_open["read"]


async def test_a_429_to_a_read_delays_all_reads_for_its_retry_after() -> None:
    api = ScriptedApi()
    busy = Failed("429 Too Many Requests", 429, 30.0)
    api.on_snapshot = lambda _: busy if len(api.reads) == 1 else None
    async with real_run(api, bulk=BulkPolicy.OFF) as run:
        run.controller.activate(revision("live", KEYS[:1]))
        await asyncio.sleep(1)
        run.controller.activate(revision("live"))
        await asyncio.sleep(28)
        assert len(api.reads) == 1
        await asyncio.sleep(Parameters().settle_seconds)
        assert run.count(Condition.IN_SYNC) == len(KEYS)
