"""The controller on virtual time: order, slots, stops, and reads with and without the list."""

import asyncio
from typing import Any

import pytest

from allocsync.errors import BulkUnavailable
from allocsync.model.api_answers import Failed, Live, OutcomeUnknown, Rejected, RejectionClass, Snapshot
from allocsync.model.condition import Condition
from allocsync.model.ids import AllocationId
from allocsync.model.times import Monotonic
from allocsync.reconcile import events
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.resync import BulkPolicy
from allocsync.reconcile.scheduling.reachability import HEARTBEAT_READS
from tests.support.scripted_api import KEYS, Run, ScriptedApi, VirtualClock, revision

pytestmark = pytest.mark.looptime


async def test_one_list_read_finds_the_drift_and_all_are_updated_within_the_limits() -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        run.controller.activate(revision())
        await asyncio.sleep(5)
        assert run.count(Condition.IN_SYNC) == len(KEYS)
        assert run.controller.settled()
        assert run.events(events.AllInSync)
        assert api.max_in_flight <= 8 + 8
        assert len(api.posts) == len(KEYS)
        assert api.lists == 1
        await asyncio.sleep(600)
        assert len(api.posts) == len(KEYS)
        assert api.lists in range(9, 12)
        assert not run.journal.open


async def test_without_the_list_each_allocation_is_read_by_itself() -> None:
    api = ScriptedApi(bulk=False)
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(2)
        assert run.count(Condition.IN_SYNC) == len(KEYS) == len(api.reads)
        await asyncio.sleep(400)
        assert api.lists == 1
        assert 2 * len(KEYS) <= len(api.reads) <= 3 * len(KEYS)
        assert not api.posts
        assert run.controller.status().last_full_read is not None


async def test_with_policy_off_the_list_is_never_requested() -> None:
    api = ScriptedApi()
    async with Run(api, bulk=BulkPolicy.OFF) as run:
        run.controller.activate(revision())
        await asyncio.sleep(5)
        assert api.lists == 0
        assert run.count(Condition.IN_SYNC) == len(KEYS)


async def test_if_the_list_keeps_failing_each_allocation_is_read_by_itself() -> None:
    api = ScriptedApi()
    api.bulk_error = BulkUnavailable("504 Gateway Timeout", supported=True)
    async with Run(api) as run:
        run.controller.activate(revision())
        await asyncio.sleep(2.5)
        assert not api.reads  # the list is retried first
        await asyncio.sleep(30)
        assert api.lists >= 3
        assert run.count(Condition.IN_SYNC) == len(KEYS)
        api.bulk_error = None
        await asyncio.sleep(60)
        assert run.events(events.ResyncFinished)


@pytest.mark.parametrize(("policy", "lists"), [(BulkPolicy.AUTO, 2), (BulkPolicy.ON, 10)])
async def test_a_list_that_is_wrong_twice_in_a_row_is_not_used_again(policy: BulkPolicy, lists: int) -> None:
    api = ScriptedApi()
    api.on_list = lambda row: {**row, "region": "wanted"}
    async with Run(api, bulk=policy) as run:
        run.controller.activate(revision())
        await asyncio.sleep(600)
        assert api.lists == pytest.approx(lists, abs=1)
        if policy is BulkPolicy.AUTO:
            (unavailable,) = run.events(events.ListUnavailable)
            assert "differs from what GET /allocation/{id} returns" in str(unavailable.reason)
            assert {row["region"] for row in api.truth.values()} == {"wanted"}
        else:
            assert not run.events(events.ListUnavailable)


async def test_a_change_between_a_list_read_and_its_check_does_not_count_as_a_wrong_list() -> None:
    api = ScriptedApi()
    drifted: dict[int, str] = {}

    def drift_once(key: str) -> Snapshot | None:
        if api.lists not in {2, 5} or api.lists in drifted or key in drifted.values():
            return None
        drifted[api.lists] = key
        api.truth[key] = {**api.truth[key], "region": "drift"}
        return Live(api.truth[key])

    api.on_snapshot = drift_once
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(600)
        assert len(set(drifted.values())) == 2
        assert api.lists >= 9
        assert not run.events(events.ListUnavailable)
        checks = len(api.reads) - len([key for _, key in api.reads if key in drifted.values()])
        heartbeats = HEARTBEAT_READS * 600 / Parameters().heartbeat_seconds
        assert 2 * (api.lists - 1) <= checks <= 3 * api.lists + heartbeats
        assert {row["region"] for row in api.truth.values()} == {"live"}


@pytest.mark.parametrize("bulk", [True, False])
async def test_sync_reads_everything_now(*, bulk: bool) -> None:
    api = ScriptedApi(bulk=bulk)
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(5)
        api.truth[KEYS[9]] = {**api.truth[KEYS[9]], "region": "drift"}
        reads, lists = len(api.reads), api.lists
        assert run.controller.sync() == len(KEYS)
        assert run.controller.sync() == len(KEYS)
        await asyncio.sleep(2)
        assert api.truth[KEYS[9]]["region"] == "live"
        assert api.lists - lists == (1 if bulk else 0)
        assert len(api.reads) - reads <= (10 if bulk else len(KEYS) + 2)


async def test_a_sync_during_a_list_read_starts_another_one_after_it() -> None:
    api = ScriptedApi()
    api.seconds = 1.0
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(0.5)
        assert api.lists == 1
        run.controller.sync()
        await asyncio.sleep(3)
        assert api.lists == 2


async def test_syncs_within_ten_seconds_share_one_read_that_begins_after_each_of_them() -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(5)
        before = api.lists
        for _ in range(5):
            run.controller.sync()
            await asyncio.sleep(1)
        assert api.lists == before + 1, "the first one is read at once"
        await asyncio.sleep(6)
        assert api.lists == before + 2, "one more list serves all others"


async def test_an_unknown_outcome_waits_the_settle_time_and_delays_no_other_allocation() -> None:
    api = ScriptedApi()
    slow = KEYS[7]
    api.on_update = lambda key, _: OutcomeUnknown("504", 504) if key == slow and len(api.posts) < 41 else None
    async with Run(api) as run:
        run.controller.activate(revision())
        await asyncio.sleep(5)
        assert run.count(Condition.IN_SYNC) == len(KEYS) - 1
        assert run.count(Condition.OUTCOME_UNKNOWN) == 1 == run.controller.status().open_intents
        assert not run.controller.settled()
        await asyncio.sleep(10)
        assert run.count(Condition.IN_SYNC) == len(KEYS)
        first, second = [at for at, key in api.posts if key == slow]
        assert second - first >= Parameters().settle_seconds
        assert [event.outcome for event in run.events(events.UpdateSettled)] == ["not_applied"]


async def test_an_edit_during_requests_wins_and_removed_allocations_are_released() -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        run.controller.activate(revision("one"))
        await asyncio.sleep(0.03)
        run.controller.activate(revision("two", KEYS[:20]))
        await asyncio.sleep(10)
        assert {api.truth[key]["region"] for key in KEYS[:20]} == {"two"}
        assert [row.id for row in run.controller.allocations()] == list(KEYS[:20])
        posted = len(api.posts)
        for key in KEYS[20:]:
            api.truth[key] = {**api.truth[key], "region": "free"}
        await asyncio.sleep(300)
        assert len(api.posts) == posted


async def test_an_entry_with_errors_keeps_its_last_declaration_without_errors() -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        run.controller.activate(revision("one"))
        await asyncio.sleep(5)
        broken = {KEYS[0]: ("a.yaml:3:1: wrong",), AllocationId("new"): ("a.yaml:9:1: wrong",)}
        run.controller.activate(revision("two", KEYS[1:], quarantined=broken))
        await asyncio.sleep(5)
        assert api.truth[KEYS[0]]["region"] == "one"
        api.truth[KEYS[0]] = {**api.truth[KEYS[0]], "region": "drift"}
        await asyncio.sleep(90)
        assert api.truth[KEYS[0]]["region"] == "one"
        (blocked,) = [row for row in run.controller.allocations() if row.condition is Condition.BLOCKED]
        assert (blocked.id, blocked.reason) == ("new", "a.yaml:9:1: wrong")


async def test_a_429_stops_the_updates_of_all_allocations() -> None:
    api = ScriptedApi()
    rejection = Rejected(429, "429 Too Many Requests", RejectionClass.NOT_NOW, retry_after_seconds=30)
    api.on_update = lambda _key, _body: rejection if asyncio.get_running_loop().time() < 20 else None
    async with Run(api) as run:
        run.controller.activate(revision())
        await asyncio.sleep(20)
        assert 1 <= len(api.posts) <= 8
        await asyncio.sleep(60)
        assert run.count(Condition.IN_SYNC) == len(KEYS)


async def test_a_missing_allocation_is_read_at_growing_intervals_and_never_updated() -> None:
    api = ScriptedApi()
    del api.truth[KEYS[3]]
    async with Run(api) as run:
        run.controller.activate(revision())
        await asyncio.sleep(3600)
        reads = [at for at, key in api.reads if key == KEYS[3]]
        assert run.count(Condition.MISSING) == 1
        assert len(reads) in range(5, 8)
        assert KEYS[3] not in {key for _, key in api.posts}
        assert run.controller.settled()


async def test_failing_reads_back_off_and_do_not_count_as_settled() -> None:
    api = ScriptedApi()
    failing = Failed("500 Internal Server Error", 500)
    api.on_snapshot = lambda key: (
        failing if key == KEYS[0] and VirtualClock().now() < Monotonic(300) else None
    )
    async with Run(api) as run:
        run.controller.activate(revision())
        await asyncio.sleep(20)
        assert run.count(Condition.FAILING) == 1
        assert not run.controller.settled()
        await asyncio.sleep(900)
        assert run.count(Condition.IN_SYNC) == len(KEYS)


async def test_a_stop_with_requests_in_flight_ends_in_time_and_leaves_open_intents() -> None:
    api = ScriptedApi()
    run = Run(api)
    async with run:
        run.controller.activate(revision())
        await asyncio.sleep(0.5)
        api.seconds = 60.0
        run.controller.activate(revision("again"))
        await asyncio.sleep(61)  # the snapshots have ended, the updates are in flight
        begun = asyncio.get_running_loop().time()
        assert run.controller.status().in_flight["write"] == 8
        posted = len(api.posts)
    assert asyncio.get_running_loop().time() - begun <= 20.1
    assert len(api.posts) == posted
    (stopped,) = run.events(events.Stopped)
    assert stopped.open_intents == 8 == len(run.journal.open)


async def test_no_update_is_built_on_a_snapshot_that_is_too_old_when_the_intent_is_recorded() -> None:
    api = ScriptedApi()
    run = Run(api)
    slow = run.journal.intent

    async def intent(*arguments: Any) -> int:  # noqa: ANN401 - as the journal's
        await asyncio.sleep(3 if len(run.events(events.UpdateFinished)) < 8 else 0)
        return await slow(*arguments)

    run.journal.intent = intent  # type: ignore[method-assign,assignment]  # a disk that is slow at first
    async with run:
        run.controller.activate(revision())
        await asyncio.sleep(60)
        aborted = [event for event in run.events(events.UpdateFinished) if event.outcome == "not_sent"]
        assert len(aborted) >= 8
        assert "older than" in str(aborted[0].reason)
        assert len(api.posts) == len(KEYS)
        assert run.count(Condition.IN_SYNC) == len(KEYS)
        assert not run.journal.open


async def test_a_request_long_past_its_deadline_is_a_stall_and_an_outage_is_not() -> None:
    api = ScriptedApi()
    api.bulk_error = BulkUnavailable("refused", supported=True)
    api.on_snapshot = lambda _: Failed("refused")
    async with Run(api) as run:
        run.controller.activate(revision())
        await asyncio.sleep(600)
        assert run.controller.status().stalled is None
        api.seconds = 100.0
        reports = []
        for _ in range(35):
            await asyncio.sleep(10)
            reports.append(str(run.controller.status().stalled))
        assert any("outlived its deadline" in each for each in reports)
        api.seconds = 0.01
        await asyncio.sleep(100)
