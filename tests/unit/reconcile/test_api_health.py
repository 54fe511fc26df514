"""How soon an outage of the API is told, what is no outage, and how soon work goes on after it."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from allocsync.errors import BulkUnavailable
from allocsync.model.api_answers import (
    Failed,
    NotSent,
    OutcomeUnknown,
    Rejected,
    RejectionClass,
    Snapshot,
    UpdateAnswer,
)
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Desired, Mode, Revision
from allocsync.model.ids import AllocationId
from allocsync.reconcile import events
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.resync import FALL_BACK_SECONDS, BulkPolicy
from tests.support.failing_api import now
from tests.support.scripted_api import (
    KEYS,
    WALL_OFFSET_SECONDS,
    CreepingClock,
    Run,
    ScriptedApi,
    revision,
)

pytestmark = pytest.mark.looptime

TOLD_WITHIN_SECONDS = 30.0
QUIET_SECONDS = 100.0  # everything is in sync by then, and only resyncs and heartbeats go on
HANG_SECONDS = {"read": 10.0, "update": 75.0, "list": 120.0}  # the client's own deadlines


def broken(api: ScriptedApi, how: str) -> None:
    """Break the API from now on."""
    reasons: dict[str, Callable[[], Snapshot]] = {
        "is killed": lambda: Failed("no connection", unreachable=True),
        "answers 401": lambda: Failed("401 Unauthorized", 401),
        "answers 503": lambda: Failed("503 Service Unavailable", 503),
        "answers somebody else's data": lambda: Failed("200 OK, but it has another id", 200),
        "hangs": lambda: Failed("no answer within 10 s"),
    }
    api.on_snapshot = lambda _key: reasons[how]()
    api.bulk_error = BulkUnavailable(how, supported=True)
    if how == "hangs":
        api.read_seconds = lambda _key: HANG_SECONDS["read"]
        api.list_seconds = lambda: HANG_SECONDS["list"]


def mended(api: ScriptedApi) -> None:
    """Let the API work again, from the next request on."""
    api.on_snapshot, api.bulk_error = lambda _key: None, None
    api.read_seconds, api.list_seconds = lambda _key: api.seconds, lambda: api.seconds


@pytest.mark.parametrize("bulk", [True, False])
@pytest.mark.parametrize(
    "how", ["is killed", "answers 401", "answers 503", "answers somebody else's data", "hangs"]
)
async def test_an_outage_is_told_within_thirty_seconds_and_its_end_at_once(how: str, *, bulk: bool) -> None:
    api = ScriptedApi(bulk=bulk)
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(QUIET_SECONDS)
        assert run.count(Condition.IN_SYNC) == len(KEYS)
        assert run.controller.api_status().reachable
        began = now()
        broken(api, how)
        while not run.events(events.ApiUnreachable) and now() < began + 2 * TOLD_WITHIN_SECONDS:
            await asyncio.sleep(0.1)
        assert now() - began <= TOLD_WITHIN_SECONDS
        (told,) = run.events(events.ApiUnreachable)
        status = run.controller.api_status()
        assert status.reachable is False
        assert status.since == told.since
        assert status.last_confirmed_at is not None
        assert status.reason == told.reason
        assert began <= float(told.since) - WALL_OFFSET_SECONDS <= now(), (
            "since the first failed request began"
        )
        for _ in range(100):
            await asyncio.sleep(7)
            status = run.controller.api_status()
            assert status.reachable is False
            assert status.next_attempt_at is not None
            wait_seconds = float(status.next_attempt_at) - WALL_OFFSET_SECONDS - now()
            assert 0 <= wait_seconds <= Parameters().heartbeat_seconds, "it is tried again soon"
        key = KEYS[7]
        api.truth[key] = {**api.truth[key], "region": "drift"}
        mended(api)
        ended = now()
        await asyncio.sleep(HANG_SECONDS["read"] + 2 * Parameters().heartbeat_seconds)
        (ended_event,) = run.events(events.ApiReachable)
        assert ended_event.unreachable_seconds == pytest.approx(ended - began, abs=40)
        assert run.controller.api_status().reachable
        await asyncio.sleep(HANG_SECONDS["list"] if bulk and how == "hangs" else 60.0)
        assert run.count(Condition.IN_SYNC) == len(KEYS)
        assert api.truth[key]["region"] == "live"


async def test_a_heartbeat_goes_at_once_though_the_clock_moves_on_while_it_is_queued() -> None:
    api = ScriptedApi()
    async with Run(api, clock=CreepingClock()) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(QUIET_SECONDS)
        broken(api, "is killed")
        began, reads = now(), len(api.reads)
        await asyncio.sleep(Parameters().heartbeat_seconds + 1)
        assert len(api.reads) > reads, "a heartbeat was due"
        (told,) = run.events(events.ApiUnreachable)
        assert float(told.since) - WALL_OFFSET_SECONDS - began <= Parameters().heartbeat_seconds + 0.1


async def test_an_api_that_is_dead_from_the_start_is_told_within_thirty_seconds() -> None:
    api = ScriptedApi()
    broken(api, "is killed")
    async with Run(api) as run:
        assert run.controller.api_status().reachable is None
        run.controller.activate(revision())
        await asyncio.sleep(TOLD_WITHIN_SECONDS)
        assert run.controller.api_status().reachable is False
        assert run.controller.api_status().last_confirmed_at is None


async def test_a_single_allocation_shows_an_outage_too() -> None:
    api = ScriptedApi(bulk=False, keys=KEYS[:1])
    async with Run(api) as run:
        run.controller.activate(revision("live", KEYS[:1]))
        await asyncio.sleep(QUIET_SECONDS)
        broken(api, "hangs")
        await asyncio.sleep(TOLD_WITHIN_SECONDS + HANG_SECONDS["read"])
        assert run.controller.api_status().reachable is False


@pytest.mark.parametrize(("poisoned", "number"), [(1, 40), (2, 40), (20, 400)])
async def test_allocations_that_always_fail_are_no_outage(poisoned: int, number: int) -> None:
    keys = tuple(AllocationId(f"{each:04}") for each in range(number))
    api = ScriptedApi(bulk=False, keys=keys)
    async with Run(api) as run:
        run.controller.activate(revision("live", keys))
        await asyncio.sleep(QUIET_SECONDS)
        poison = {*keys[:poisoned]}
        api.on_snapshot = lambda key: Failed("500", 500) if key in poison else None
        await asyncio.sleep(400)
        told = len(run.events(events.ApiUnreachable))
        assert told <= poisoned / 2, "at the most when two begin to fail, until the next heartbeat"
        assert sum(event.unreachable_seconds for event in run.events(events.ApiReachable)) <= 13 * told
        failed = [event for event in run.events(events.ReadFinished) if event.answer == "failed"]
        assert {event.allocation for event in failed} == poison
        await asyncio.sleep(3600)
        assert len(run.events(events.ApiUnreachable)) == told
        assert run.controller.api_status().reachable


@pytest.mark.parametrize(
    "answer",
    [
        OutcomeUnknown("504 Gateway Timeout", 504),
        OutcomeUnknown("no answer within 75 s"),
        Rejected(429, "429 Too Many Requests", RejectionClass.NOT_NOW),
    ],
)
async def test_updates_that_all_fail_are_no_outage_while_reads_work(answer: UpdateAnswer) -> None:
    api = ScriptedApi()
    api.on_update = lambda _key, _body: answer
    async with Run(api) as run:
        run.controller.activate(revision())
        await asyncio.sleep(600)
        assert len(api.posts) >= 10, "updates were tried"
        assert not run.events(events.ApiUnreachable)
        assert run.controller.api_status().reachable


@pytest.mark.parametrize("how", ["fails at once", "hangs"])
async def test_a_list_that_is_broken_for_ever_hides_nothing_and_delays_nothing(how: str) -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(QUIET_SECONDS)
        api.bulk_error = BulkUnavailable("500 Internal Server Error", supported=True)
        if how == "hangs":
            api.list_seconds = lambda: HANG_SECONDS["list"]
        await asyncio.sleep(60)  # a list is due by now
        began, first = now(), len(api.reads)
        for key in KEYS:
            api.truth[key] = {**api.truth[key], "region": "drift"}
        await asyncio.sleep(FALL_BACK_SECONDS + 5)
        assert api.reads[first:], "work goes on within 15 s"
        await asyncio.sleep(330)
        assert {row["region"] for row in api.truth.values()} == {"live"}, "each was read within a resync"
        for _ in range(100):
            await asyncio.sleep(61)
            assert run.count(Condition.IN_SYNC) == len(KEYS), "each is read often enough for its condition"
        assert not run.events(events.ApiUnreachable), "a list that fails is no outage"
        per_resync = Counter(key for at, key in api.reads if at > began + 600)
        resyncs = (now() - began - 600) / 300
        assert max(per_resync.values()) <= 3 * resyncs, "the heartbeats add a few reads, no storm"


@pytest.mark.parametrize("how", ["fails at once", "hangs"])
async def test_the_first_work_is_done_within_fifteen_seconds_whatever_the_list_does(how: str) -> None:
    api = ScriptedApi()
    api.bulk_error = BulkUnavailable("500 Internal Server Error", supported=True)
    if how == "hangs":
        api.list_seconds = lambda: HANG_SECONDS["list"]
    async with Run(api, backoff=lambda failures, _: min(2.0**failures, 300.0)) as run:
        run.controller.activate(revision())
        await asyncio.sleep(15)
        assert run.count(Condition.IN_SYNC) == len(KEYS)
        assert {row["region"] for row in api.truth.values()} == {"wanted"}


async def test_a_list_that_takes_forty_seconds_is_no_outage_and_is_used() -> None:
    api = ScriptedApi()
    api.list_seconds = lambda: 40.0
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(500)
        reads, lists = len(api.reads), api.lists
        await asyncio.sleep(2000)
        assert api.lists - lists == pytest.approx(20, abs=2)
        assert not run.events(events.ListUnavailable)
        assert not run.events(events.ApiUnreachable)
        heartbeats = 2 * 2000 / Parameters().heartbeat_seconds
        checks = 3 * (api.lists - lists)
        assert len(api.reads) - reads <= heartbeats + checks, "no allocation is read for want of the list"


async def test_a_slow_api_is_no_outage() -> None:
    api = ScriptedApi(bulk=False)
    api.read_seconds = lambda _key: 8.0
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(1200)
        assert not run.events(events.ApiUnreachable)
        assert run.count(Condition.IN_SYNC) == len(KEYS)


async def test_a_heartbeat_reads_the_two_that_were_read_the_longest_ago() -> None:
    api = ScriptedApi()
    async with Run(api, bulk=BulkPolicy.ON) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(QUIET_SECONDS)
        first = len(api.reads)
        await asyncio.sleep(600)
        beats = Counter(round(at / Parameters().heartbeat_seconds) for at, _ in api.reads[first:])
        assert len(beats) >= 40, "most ten seconds have a heartbeat"
        assert max(beats.values()) <= 2
        a_minute = [key for at, key in api.reads[first:] if at <= QUIET_SECONDS + 45]
        assert len({*a_minute}) == len(a_minute), "no allocation is read twice between two lists"


async def test_suspended_allocations_are_never_read_as_a_heartbeat() -> None:
    api = ScriptedApi(bulk=False)
    wanted = {key: Desired(key, (("region", "live"),), Mode.SUSPEND) for key in KEYS}
    async with Run(api) as run:
        run.controller.activate(Revision("suspended", wanted))
        await asyncio.sleep(600)
        assert not api.reads
        assert run.controller.api_status().reachable is None


async def test_an_outage_is_told_although_all_allocations_but_one_are_suspended() -> None:
    api = ScriptedApi(bulk=False)
    wanted = {key: Desired(key, (("region", "live"),), Mode.SUSPEND) for key in KEYS}
    wanted[KEYS[0]] = Desired(KEYS[0], (("region", "live"),))
    broken(api, "answers 503")
    async with Run(api) as run:
        run.controller.activate(Revision("one is read", wanted))
        await asyncio.sleep(TOLD_WITHIN_SECONDS)
        assert {key for _, key in api.reads} == {KEYS[0]}
        assert run.controller.api_status().reachable is False


async def test_the_observed_revision_is_the_newest_that_every_allocation_was_compared_with() -> None:
    api = ScriptedApi(bulk=False)
    slow = KEYS[3]
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        assert run.controller.status().observed_revision is None
        await asyncio.sleep(5)
        first = run.controller.status().observed_revision
        assert first == revision("live").id
        api.read_seconds = lambda key: 9.0 if key == slow else 0.01
        run.controller.activate(revision("wanted"))
        await asyncio.sleep(5)
        status = run.controller.status()
        assert (status.active_revision, status.observed_revision) == (revision("wanted").id, first)
        await asyncio.sleep(20)
        assert run.controller.status().observed_revision == revision("wanted").id


async def test_the_next_read_is_never_in_the_past_and_says_what_it_waits_for() -> None:
    api = ScriptedApi(bulk=False)
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(QUIET_SECONDS)
        calm = list(run.controller.allocations())
        assert {row.waits_for for row in calm} == {"the resync"}
        broken(api, "is killed")
        seen: set[str] = set()
        for _ in range(300):
            await asyncio.sleep(1.7)
            for row in run.controller.allocations():
                seen.add(row.waits_for)
                assert row.next_read_at is not None
                assert float(row.next_read_at) - WALL_OFFSET_SECONDS >= now() - 1e-6
                assert row.waits_for
        assert "the next probe" in seen
        assert any(text.startswith("the backoff after") for text in seen)


async def test_every_wait_of_an_allocation_has_an_end_that_is_named() -> None:
    api = ScriptedApi(bulk=False)
    unknown, limited, gone = KEYS[:3]
    del api.truth[gone]
    api.on_update = lambda key, _: OutcomeUnknown("504", 504) if key == unknown else None
    api.on_snapshot = lambda key: Failed("503", 503, retry_after_seconds=100.0) if key == limited else None
    async with Run(api) as run:
        run.controller.activate(revision())
        await asyncio.sleep(5)
        found = {row.id: row.waits_for for row in run.controller.allocations()}
        assert found[unknown] == "the settle time"
        assert found[limited] == "Retry-After of the API"
        assert found[gone] == "the next probe of a missing allocation"
        assert all(row.next_read_at is not None for row in run.controller.allocations())


async def test_the_failures_of_a_released_allocation_are_forgotten() -> None:
    api = ScriptedApi(bulk=False)
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        api.on_snapshot = lambda key: Failed("500", 500) if key in KEYS[:3] else None
        await asyncio.sleep(QUIET_SECONDS)
        found = run.controller._api_health.reachability  # noqa: SLF001 - no output names them
        assert {key for key in KEYS if found.is_failing(key)} == {*KEYS[:3]}
        run.controller.activate(revision("live", KEYS[3:]))
        await asyncio.sleep(HANG_SECONDS["update"])
        assert not any(found.is_failing(key) for key in KEYS)


async def test_an_update_that_was_not_sent_says_nothing_about_the_api() -> None:
    api = ScriptedApi(bulk=False)
    api.on_update = lambda _key, _body: NotSent("the body cannot be written as JSON", terminal=True)
    async with Run(api) as run:
        run.controller.activate(revision())
        await asyncio.sleep(60)
        assert api.posts
        assert run.controller.api_status().reachable
        assert not run.events(events.ApiUnreachable)
