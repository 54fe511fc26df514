"""Allocations that are released at the worst moment, on virtual time."""

import asyncio

import pytest

from allocsync.model.api_answers import Rejected, RejectionClass
from allocsync.model.cloud import Cloud
from allocsync.model.condition import Condition
from allocsync.reconcile import events
from allocsync.reconcile.resync import YIELD_EVERY, BulkPolicy
from tests.support.failing_api import DEAD, named, now
from tests.support.scripted_api import KEYS, Run, ScriptedApi, revision

pytestmark = pytest.mark.looptime


async def test_released_allocations_that_failed_do_not_keep_the_breaker_closed() -> None:
    api = ScriptedApi()
    api.on_snapshot = lambda _: DEAD if now() < 60 else None
    async with Run(api, bulk=BulkPolicy.OFF) as run:
        run.controller.activate(revision())
        await asyncio.sleep(5)
        assert {key for _, key in api.reads} == {*KEYS}, "all of them have failed"
        assert not run.events(events.BreakerOpened)
        run.controller.activate(revision(keys=KEYS[20:]))
        await asyncio.sleep(55)
        assert run.events(events.BreakerOpened)
        await asyncio.sleep(60)
        assert run.count(Condition.IN_SYNC) == 20
        assert {key for _, key in api.posts} == {*KEYS[20:]}


async def test_a_rejected_allocation_that_is_released_and_declared_again_starts_without_failures() -> None:
    key, api = KEYS[0], ScriptedApi(keys=KEYS[:1])
    rejection = Rejected(422, "422 Unprocessable Entity", RejectionClass.BODY)
    api.on_update = lambda _key, _body: (
        rejection if len(api.posts) == 1 else Rejected(423, "423", RejectionClass.NOT_NOW)
    )
    async with Run(api, bulk=BulkPolicy.OFF) as run:
        run.controller.activate(revision(keys=(key,)))
        await asyncio.sleep(5)
        assert [event.outcome for event in run.events(events.UpdateFinished)] == ["rejected"]
        run.controller.activate(revision(keys=()))
        assert list(run.controller.allocations()) == []
        run.controller.activate(revision(keys=(key,)))
        await asyncio.sleep(0.5)
        assert len(api.posts) == 2, "the earlier rejection delays nothing"
        assert run.events(events.UpdateFinished)[1].next_read_in_seconds == 1.0, "it is the first failure"


@pytest.mark.parametrize("comes_back", [False, True])
async def test_an_edit_during_a_resync_releases_the_removed_allocations_and_no_others(
    *, comes_back: bool
) -> None:
    keys = named(2 * YIELD_EVERY)
    api = ScriptedApi(keys=keys[:-1])  # the last one is missing for now, so the list does not have it
    edits = [revision("live", keys[:-1]), *([revision("live", keys)] if comes_back else [])]
    counts: list[int] = []

    def edit() -> None:
        for each in edits:
            run.controller.activate(each)
            counts.append(len(list(run.controller.allocations())))

    def edit_when_all_is_listed(row: Cloud) -> Cloud:
        if api.lists == 2 and row["id"] == keys[-2]:
            asyncio.get_running_loop().call_soon(edit)  # it runs when the resync yields, halfway through
        return row

    api.on_list = edit_when_all_is_listed
    async with Run(api) as run:
        run.controller.activate(revision("live", keys))
        await asyncio.sleep(120)
        assert counts == ([len(keys) - 1, len(keys)] if comes_back else [len(keys) - 1])
        assert len(list(run.controller.allocations())) == counts[-1]
        assert run.count(Condition.MISSING) == comes_back
        api.truth[keys[-1]] = {**api.truth[keys[0]], "id": keys[-1], "region": "drift"}
        await asyncio.sleep(300)
        assert api.truth[keys[-1]]["region"] == ("live" if comes_back else "drift")
