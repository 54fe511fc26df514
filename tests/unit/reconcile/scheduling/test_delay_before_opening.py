"""While the breaker is about to open, failing allocations wait until it is decided; others do not."""

import asyncio
from collections import Counter

import pytest

from allocsync.model.condition import Condition
from allocsync.model.desired_state import Desired, Revision
from allocsync.model.ids import AllocationId
from allocsync.reconcile import events
from allocsync.reconcile.resync import BulkPolicy
from tests.support.failing_api import DEAD, named, now, real_run
from tests.support.scripted_api import ScriptedApi, revision

pytestmark = pytest.mark.looptime


async def test_after_a_success_no_allocation_waits_for_the_breaker() -> None:
    keys = named(20)
    api = ScriptedApi(keys=keys)
    api.seconds = 0.3
    api.on_snapshot = lambda _: DEAD if now() < 1.0 else None
    async with real_run(api, bulk=BulkPolicy.OFF) as run:
        run.controller.activate(revision("live", keys))
        await asyncio.sleep(0.95)
        assert len(keys) <= len(api.reads) < len(keys) + 8, "each failed, and all but eight wait"
        await asyncio.sleep(4.0)
        assert run.count(Condition.IN_SYNC) == len(keys)
        assert not run.events(events.BreakerOpened)


async def test_an_edit_during_a_failing_read_does_not_wait_for_the_breaker() -> None:
    keys = named(20)
    api = ScriptedApi(keys=keys)
    api.seconds = 0.3
    api.on_snapshot = lambda _: DEAD
    async with real_run(api, bulk=BulkPolicy.OFF) as run:
        run.controller.activate(revision("live", keys))
        await asyncio.sleep(0.8)
        edited = next(AllocationId(key) for _, key in api.reads[10:] if key in api.under_way)
        desired = dict(revision("live", keys).allocations)
        desired[edited] = Desired(edited, (("region", "edit"),))
        run.controller.activate(Revision("edit", desired))
        before = len(api.reads)
        await asyncio.sleep(0.5)
        assert edited in [key for _, key in api.reads[before:]]
        await asyncio.sleep(6.0)
        assert not run.events(events.BreakerOpened), "the others wait"
        assert max(Counter(key for _, key in api.reads).values()) <= 3
