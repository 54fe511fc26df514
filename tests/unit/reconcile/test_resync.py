"""Resyncs while other things happen: edits during a list, and allocations that keep their own time."""

import asyncio
from collections import Counter

import pytest

from allocsync.errors import BulkUnavailable
from allocsync.model.api_answers import Failed, OutcomeUnknown
from allocsync.model.cloud import Cloud
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Desired, Mode, Revision
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import OpenIntent
from allocsync.model.times import Monotonic, WallTime
from allocsync.reconcile import events
from allocsync.reconcile.api_health import ApiHealth
from allocsync.reconcile.cached_reads import CachedReads
from allocsync.reconcile.resync import FALL_BACK_SECONDS, BulkPolicy, Resync
from tests.support.failing_api import now
from tests.support.scripted_allocation import DIFFERENT, ID, RULES, ScriptedAllocation, new_allocation
from tests.support.scripted_api import KEYS, Run, ScriptedApi, VirtualClock, revision

pytestmark = pytest.mark.looptime


async def test_edits_during_a_list_do_not_count_as_a_wrong_list() -> None:
    api = ScriptedApi()

    def edit_before_the_last_row(row: Cloud) -> Cloud:
        if row["id"] == KEYS[-1] and now() < 500:
            run.controller.activate(revision(f"edit{api.lists}"))
        return row

    api.on_list = edit_before_the_last_row
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(600)
        assert len(run.events(events.RevisionActivated)) >= 8, "an edit happened during every list"
        assert not run.events(events.ListUnavailable)
        assert api.lists >= 9
        assert run.count(Condition.IN_SYNC) == len(KEYS)


async def test_a_requested_resync_shortens_neither_a_backoff_nor_a_settle_time() -> None:
    failing, unknown = KEYS[0], KEYS[1]
    api = ScriptedApi()
    api.on_snapshot = lambda key: Failed("500", 500) if key == failing else None
    api.on_update = lambda key, _: OutcomeUnknown("504", 504) if key == unknown else None
    async with Run(api, bulk=BulkPolicy.OFF, backoff=lambda _failures, _after: 100.0) as run:
        run.controller.activate(revision())
        await asyncio.sleep(5)
        before = [key for _, key in api.reads]
        assert before.count(failing) == run.count(Condition.OUTCOME_UNKNOWN) == 1
        run.controller.sync()
        await asyncio.sleep(4)
        asked = [key for _, key in api.reads[len(before) :]]
        assert sorted(asked) == sorted({*KEYS} - {failing, unknown})


async def test_a_failing_list_is_requested_every_resync_and_drift_is_found_once_it_works() -> None:
    api = ScriptedApi()
    api.bulk_error = BulkUnavailable("504", supported=True)
    async with Run(api, backoff=lambda failures, _: min(2.0**failures, 300.0)) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(3600)
        assert 50 <= api.lists <= 75
        api.bulk_error = None
        api.truth[KEYS[9]] = {**api.truth[KEYS[9]], "region": "drift"}
        await asyncio.sleep(70)
        assert api.truth[KEYS[9]]["region"] == "live"


async def test_reads_of_drift_are_spread_over_a_second_after_the_list_and_those_of_an_edit_are_not() -> None:
    api, drifted_at = ScriptedApi(), list[float]()

    def drift_as_the_list_begins() -> float:
        if not drifted_at:
            drifted_at.append(now())
            api.truth = {key: {**row, "region": "drift"} for key, row in api.truth.items()}
        return api.seconds

    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(1)
        api.list_seconds = drift_as_the_list_begins
        await asyncio.sleep(70)
        after = [at - drifted_at[0] for at, _ in api.posts]
        assert len(after) == len(KEYS)
        assert max(after) - min(after) >= 0.8
        assert max(after) <= 1.0 + 5 * api.seconds
        assert len({round(at, 2) for at in after}) > len(KEYS) / 2, "they do not go in batches"

        place, edited_at = len(api.posts), now()
        run.controller.activate(revision("edit"))
        await asyncio.sleep(5)
        edit = [at for at, _ in api.posts[place:]]
        assert len(edit) == len(KEYS)
        assert max(edit) - edited_at <= 0.3


async def test_a_resync_requested_during_a_failing_list_causes_one_more_list() -> None:
    api = ScriptedApi()
    api.seconds, api.bulk_error = 1.0, BulkUnavailable("504", supported=True)
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(0.5)
        run.controller.sync()
        await asyncio.sleep(1)
        assert run.events(events.ListUnavailable), "the list failed"
        before, api.bulk_error = api.lists, None
        await asyncio.sleep(30)
        assert api.lists == before + 1


def _health() -> ApiHealth:
    return ApiHealth(
        clock=VirtualClock(),
        emit=lambda _event: None,
        allocations={},
        heartbeat_seconds=10.0,
        on_recovered=lambda: None,
    )


@pytest.mark.parametrize("reported", [True, False])
async def test_a_failed_check_is_no_agreement_with_the_list(*, reported: bool) -> None:
    scripted = ScriptedAllocation()
    scripted.read(DIFFERENT)
    resync = Resync(
        api=ScriptedApi(keys=()),
        clock=VirtualClock(),
        emit=lambda _event: None,
        cached_reads=CachedReads(clock=VirtualClock(), emit=lambda _event: None),
        rules=RULES,
        backoff=lambda _failures, _after: 1.0,
        policy=BulkPolicy.AUTO,
        api_health=_health(),
        update_reported=lambda _: None,
        save=lambda _: None,
    )
    assert scripted.allocation.desired is not None
    resync._checks[ID] = scripted.allocation.desired  # noqa: SLF001 - as after a list
    scripted.allocation.changes = ()
    resync.on_read(scripted.allocation, reported=reported)
    assert (resync._agreed, ID in resync._checks) == (reported, not reported)  # noqa: SLF001


MANY = tuple(AllocationId(f"{number:05}") for number in range(1200))


@pytest.mark.parametrize("put_back", [True, False])
async def test_allocations_declared_during_the_first_list_are_covered_by_a_second_one_at_once(
    *, put_back: bool
) -> None:
    api = ScriptedApi(keys=MANY)
    whole, less = revision("live", MANY), revision("live", MANY[600:])
    activated: list[float] = []

    def edit(row: Cloud) -> Cloud:
        if row["id"] == MANY[900] and not activated:
            activated.append(now())
            run.controller.activate(less)
            run.controller.activate(whole)
        return row

    api.on_list = edit
    async with Run(api, bulk=BulkPolicy.ON) as run:
        run.controller.activate(whole if put_back else less)
        await asyncio.sleep(1)
        assert activated
        assert run.count(Condition.IN_SYNC) == len(MANY)
        assert api.lists == 2
        assert not api.reads, "no allocation is read by GET"


async def test_a_resync_requested_while_a_failed_list_is_handled_causes_one_more_list() -> None:
    api = ScriptedApi(keys=MANY)
    asked: list[float] = []

    def backoff(failures: int, _after: float | None) -> float:
        if failures == 3:
            asked.append(now())
            api.bulk_error = None
            asyncio.get_running_loop().call_soon(run.controller.sync)
        return 1.0

    api.bulk_error = BulkUnavailable("504", supported=True)
    async with Run(api, backoff=backoff) as run:
        run.controller.activate(revision("live", MANY))
        await asyncio.sleep(40)
        assert asked
        assert api.lists == 4


async def test_a_requested_resync_does_not_shorten_the_settle_time_of_an_intent_left_open() -> None:
    allocation = new_allocation()
    allocation.outcome_unknown_since_restart(
        OpenIntent(7, ID, WallTime(0.0), ScriptedAllocation().update(DIFFERENT).record("g")), Monotonic(now())
    )
    resync = Resync(
        api=ScriptedApi(),
        clock=VirtualClock(),
        emit=lambda _event: None,
        cached_reads=CachedReads(clock=VirtualClock(), emit=lambda _event: None),
        rules=RULES,
        backoff=lambda _failures, _after: 1.0,
        policy=BulkPolicy.OFF,
        api_health=_health(),
        update_reported=lambda _: None,
        save=lambda _: None,
    )
    resync.sync({ID: allocation}, lambda _: None)
    assert allocation.queue_entry().at == Monotonic(now() + RULES.settle_seconds)


async def test_in_an_outage_no_allocation_is_in_sync_for_longer_than_three_resyncs() -> None:
    api = ScriptedApi(bulk=False)
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(60)
        assert run.count(Condition.IN_SYNC) == len(KEYS)
        api.on_snapshot = lambda _: Failed("no connection")
        await asyncio.sleep(5 * run.controller._rules.resync_each_seconds)  # noqa: SLF001 - the interval in use
        assert run.controller.status().breakers_open["read"]
        assert run.count(Condition.IN_SYNC) == 0
        rows = Counter(row.condition for row in run.controller.allocations())
        assert rows == Counter(
            {name: number for name, number in run.controller.status().conditions.items() if number}
        )


async def test_a_missing_allocation_is_not_read_more_often_because_lists_fail() -> None:
    api = ScriptedApi()
    del api.truth[KEYS[0]]
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(600)
        api.bulk_error = BulkUnavailable("504", supported=True)
        before = len([key for _, key in api.reads if key == KEYS[0]])
        await asyncio.sleep(3600)
        assert len(run.events(events.ListUnavailable)) > 30
        assert len([key for _, key in api.reads if key == KEYS[0]]) - before < 20


@pytest.mark.parametrize("bulk", [BulkPolicy.OFF, BulkPolicy.AUTO])
async def test_a_full_read_does_not_wait_for_suspended_allocations(bulk: BulkPolicy) -> None:
    api = ScriptedApi()
    api.bulk_error = BulkUnavailable("503", supported=True)
    wanted = {
        **revision("live").allocations,
        KEYS[0]: Desired(KEYS[0], (("region", "live"),), Mode.SUSPEND),
    }
    async with Run(api, bulk=bulk) as run:
        run.controller.activate(Revision("one is suspended", wanted))
        await asyncio.sleep(2000)
        all_read_since = run.controller.status().last_full_read
        assert all_read_since is not None
        longest = 2.2 * run.controller._rules.resync_each_seconds  # noqa: SLF001 - the interval in use
        assert -longest <= all_read_since - WallTime(1e9 + now()) <= 0


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(
            BulkUnavailable("404 Route not found", supported=False), id="the server has no list any more"
        ),
        pytest.param(
            BulkUnavailable("503", supported=True, retry_after_seconds=300.0), id="a long Retry-After"
        ),
    ],
)
async def test_a_resync_requested_during_a_list_that_is_not_repeated_soon_reads_each_allocation(
    failure: BulkUnavailable,
) -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(20)
        assert run.count(Condition.IN_SYNC) == len(KEYS)
        api.seconds, api.bulk_error = 2.0, failure
        async with asyncio.timeout(100):
            while api.lists < 2:
                await asyncio.sleep(0.1)
        reads_before = len(api.reads)
        run.controller.sync()
        await asyncio.sleep(30)
        assert len(run.events(events.ListUnavailable)) == 1
        assert {key for _, key in api.reads[reads_before:]} == set(KEYS)


@pytest.mark.parametrize("how", ["fails", "hangs"])
@pytest.mark.parametrize("during_a_list", [True, False])
@pytest.mark.parametrize("usual_seconds", [0.01, 40.0])
async def test_a_read_of_everything_that_a_person_asks_for_does_not_wait_for_a_broken_list(
    how: str, *, during_a_list: bool, usual_seconds: float
) -> None:
    api = ScriptedApi()
    api.list_seconds = lambda: usual_seconds
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(150)
        assert run.count(Condition.IN_SYNC) == len(KEYS)
        if how == "fails":
            api.list_seconds = lambda: 1.0
            api.bulk_error = BulkUnavailable("500", supported=True)
        else:
            api.list_seconds = lambda: 120.0
        if during_a_list:
            before = api.lists
            async with asyncio.timeout(110):
                while api.lists == before:
                    await asyncio.sleep(0.1)
        for key in KEYS[:9]:
            api.truth[key] = {**api.truth[key], "region": "drift"}
        lists = api.lists
        run.controller.sync()
        late_seconds = FALL_BACK_SECONDS if how == "fails" else max(FALL_BACK_SECONDS, 1.5 * usual_seconds)
        await asyncio.sleep(late_seconds + 2)
        assert during_a_list or api.lists > lists, "the list was tried"
        assert {row["region"] for row in api.truth.values()} == {"live"}
        assert {key for at, key in api.reads if at >= now() - late_seconds - 2} == set(KEYS)


async def test_a_list_that_is_slow_as_usual_answers_a_person_without_a_get_of_each() -> None:
    api = ScriptedApi()
    api.list_seconds = lambda: 40.0
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(60)
        reads, lists = len(api.reads), api.lists
        run.controller.sync()
        await asyncio.sleep(45)
        assert api.lists == lists + 1
        assert len(api.reads) < reads + len(KEYS) / 2


async def test_what_a_list_has_answered_is_not_read_again_when_a_later_list_fails() -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(20)
        run.controller.sync()
        await asyncio.sleep(1)
        assert api.lists == 2
        api.bulk_error = BulkUnavailable("500", supported=True)
        reads = len(api.reads)
        await asyncio.sleep(100)
        assert run.events(events.ListUnavailable)
        assert len(api.reads) < reads + len(KEYS)


async def test_a_read_asked_for_during_a_list_is_made_by_get_if_the_next_list_fails() -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(20)
        api.seconds = 5.0
        async with asyncio.timeout(100):
            while api.lists < 2:
                await asyncio.sleep(0.1)
        run.controller.sync()
        await asyncio.sleep(6)
        assert (api.lists, run.events(events.ListUnavailable)) == (3, []), "the list under way has ended"
        api.bulk_error, reads = BulkUnavailable("500", supported=True), len(api.reads)
        api.read_seconds = lambda _key: 0.01
        await asyncio.sleep(FALL_BACK_SECONDS + 6)
        assert run.events(events.ListUnavailable)
        assert {key for _, key in api.reads[reads:]} == set(KEYS)


async def test_a_read_that_a_person_asks_for_is_made_once_however_often_lists_fail() -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(20)
        api.bulk_error = BulkUnavailable("503", supported=True, retry_after_seconds=100.0)
        run.controller.sync()
        reads = len(api.reads)
        await asyncio.sleep(500)
        assert len(run.events(events.ListUnavailable)) >= 3
        assert len(KEYS) <= len(api.reads) - reads < 4 * len(KEYS)


async def test_a_slow_list_is_not_repeated_for_a_person_whose_read_was_made_by_get() -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(20)
        api.list_seconds = lambda: 20.0
        async with asyncio.timeout(100):
            while api.lists < 2:
                await asyncio.sleep(0.1)
        reads = len(api.reads)
        run.controller.sync()
        await asyncio.sleep(FALL_BACK_SECONDS + 2)
        assert {key for _, key in api.reads[reads:]} == set(KEYS)
        await asyncio.sleep(30)
        assert api.lists == 2
