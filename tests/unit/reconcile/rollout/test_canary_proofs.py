"""What verifies a canary, on virtual time: its latest GET, unless the list puts it in doubt."""

import asyncio
from math import inf

import pytest

from allocsync.model.api_answers import Accepted, Failed, OutcomeUnknown, Snapshot, UpdateAnswer
from allocsync.model.cloud import Cloud
from allocsync.model.condition import Condition
from allocsync.model.times import NEVER, Monotonic, WallTime
from allocsync.planning.change_limit import ChangeLimit
from allocsync.reconcile import events
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.updates import Intent
from allocsync.reconcile.operation import Operation
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.resync import BulkPolicy
from allocsync.reconcile.rollout.canaries import Canaries, Progress
from allocsync.reconcile.status.report import ReportedCondition
from tests.support.scripted_allocation import ID, A, ScriptedAllocation, wanted
from tests.support.scripted_api import KEYS, Run, ScriptedApi
from tests.unit.reconcile.rollout.test_canaries import (
    CHANGE_LIMIT,
    FIRST,
    HOUR,
    activate_after_baseline,
    updated,
)
from tests.unit.reconcile.rollout.test_change_review import edited

pytestmark = pytest.mark.looptime


async def test_a_list_read_verifies_no_canary() -> None:
    api = ScriptedApi()
    api.on_list = lambda row: {**row, "region": "edited"}
    api.on_update = lambda _key, body: Accepted(200, body)
    async with Run(api, change_limit=CHANGE_LIMIT, bulk=BulkPolicy.ON) as run:
        await activate_after_baseline(run, edited(20))
        await asyncio.sleep(HOUR)
        assert api.lists > 50, "each list showed the canaries in sync"
        assert updated(api) == {*FIRST}
        assert not run.events(events.RevisionApproved)


async def test_a_canary_whose_latest_read_failed_must_be_verified_again() -> None:
    api = ScriptedApi()
    up = True

    def answer(key: str) -> Snapshot | None:
        return None if up or key != FIRST[0] else Failed("503", 503)

    api.on_snapshot = answer
    async with Run(api, change_limit=CHANGE_LIMIT, bulk=BulkPolicy.OFF) as run:
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
        api.on_update = lambda key, body: Accepted(200, body) if key == FIRST[1] else None
        run.controller.activate(edited(20))
        await asyncio.sleep(30)
        assert [*run.controller.status().canaries.values()] == [True, False, True]
        up = False
        run.controller.sync()
        await asyncio.sleep(10)
        assert [*run.controller.status().canaries.values()] == [False, False, True], "its latest read failed"
        api.truth[FIRST[1]] = {**api.truth[FIRST[1]], "region": "edited"}
        run.controller.sync()
        await asyncio.sleep(600)
        assert [*run.controller.status().canaries.values()] == [False, True, True]
        assert updated(api) == {*FIRST}
        up = True
        await asyncio.sleep(600)
        assert updated(api) == {*KEYS[:20]}


async def test_a_canary_that_only_the_list_shows_in_sync_is_read() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=ChangeLimit(), bulk=BulkPolicy.ON) as run:
        await activate_after_baseline(run, edited(20))
        await asyncio.sleep(5)
    for key in FIRST:
        api.truth[key] = {**api.truth[key], "region": "edited"}
    api.reads.clear()
    async with Run(api, change_limit=CHANGE_LIMIT, bulk=BulkPolicy.ON, before=run) as again:
        again.controller.activate(edited(20))
        await asyncio.sleep(30)
        assert {*FIRST} <= {key for _, key in api.reads}
        assert updated(api) == {*KEYS[3:20]}


async def test_a_canary_that_differs_in_the_list_is_not_verified_until_it_is_read() -> None:
    api = ScriptedApi()

    def lost(key: str, body: Cloud) -> UpdateAnswer | None:
        if key != FIRST[1]:
            return None
        api.truth[key] = body
        return OutcomeUnknown("504", 504)

    api.on_update = lost
    limits, rules = (
        {Operation.READ: 8, Operation.WRITE: 1},
        Parameters(settle_seconds=130, heartbeat_seconds=inf),
    )
    async with Run(api, change_limit=CHANGE_LIMIT, bulk=BulkPolicy.ON, limits=limits, rules=rules) as run:
        await activate_after_baseline(run, edited(20))
        await asyncio.sleep(30)
        assert "2 so far, 1 OutcomeUnknown" in run.controller.status().awaiting_reason
        api.post_seconds = lambda _key: 100
        api.truth[KEYS[30]] = {**api.truth[KEYS[30]], "region": "drift"}
        await asyncio.sleep(40)
        assert api.under_way == {KEYS[30]}, "the only write slot is taken"
        api.truth[FIRST[0]] = {**api.truth[FIRST[0]], "region": "drift"}
        api.post_seconds = lambda _key: 0.01
        await asyncio.sleep(75)
        assert [*run.controller.status().canaries.values()] == [False, True, True]
        assert "2 so far, 1 not yet verified by a GET" in run.controller.status().awaiting_reason
        assert not run.events(events.RevisionApproved)
        await asyncio.sleep(60)
        assert updated(api) == {*KEYS[:20], KEYS[30]}


@pytest.mark.parametrize("status", [404, 503])
async def test_a_failed_get_during_an_outage_verifies_no_canary(status: int) -> None:
    api = ScriptedApi()
    down = False
    api.on_snapshot = lambda _key: Failed("down", status) if down else None
    async with Run(api, change_limit=CHANGE_LIMIT, bulk=BulkPolicy.ON) as run:
        await activate_after_baseline(run, edited(0))
        down = True
        api.on_list = lambda row: {**row, "region": "edited"} if row["id"] in FIRST else row
        run.controller.activate(edited(20))
        await asyncio.sleep(600)
        assert run.events(events.BreakerOpened), "failures are forgiven now"
        assert run.count(Condition.IN_SYNC) >= len(FIRST), "and the list shows them in sync"
        assert not run.events(events.RevisionApproved)
        down, api.on_list = False, lambda row: row
        await asyncio.sleep(600)
        assert updated(api) == {*KEYS[:20]}


async def test_a_reconcile_that_began_before_the_revision_verifies_no_canary_of_it() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT, bulk=BulkPolicy.OFF) as run:
        await activate_after_baseline(run, edited(0))
        for key in FIRST:
            api.truth[key] = {**api.truth[key], "region": "edited"}
        api.on_update = lambda key, body: Accepted(200, body) if key in FIRST else None
        api.read_seconds = lambda _key: 1.0
        run.controller.sync()
        await asyncio.sleep(0.5)
        assert {*FIRST} <= api.under_way
        run.controller.activate(edited(20))
        await asyncio.sleep(0.6)
        assert [*run.controller.status().canaries.values()] == [False, False, False]
        await asyncio.sleep(60)
        assert updated(api) == {*KEYS[3:20]}


@pytest.mark.parametrize("fault", ["none", "differs", "failed", "forgiven", "unknown", "edited", "early"])
def test_a_reconcile_that_did_not_see_the_current_declaration_verifies_no_canary(fault: str) -> None:
    scripted = ScriptedAllocation(wanted(**A))
    scripted.read(A)
    allocation, reported = scripted.allocation, {ID: ReportedCondition(Condition.IN_SYNC, "", WallTime(0.0))}
    requeued: list[ManagedAllocation] = []
    canaries = Canaries(allocations={ID: allocation}, reported=reported, requeue=requeued.append)
    if fault == "early":
        canaries.on_begin(ID)
    canaries.watch({ID})
    if fault != "early":
        canaries.on_begin(ID)
    if fault == "differs":
        scripted.read({**A, "region": "b"})
    elif fault in {"failed", "forgiven"}:
        scripted.read(Failed("503", 503))
        allocation.read_failures = int(fault == "failed")
    elif fault == "unknown":
        allocation.read_back.intent = Intent(changes=(), fields=(), unmanaged_hash="")
    elif fault == "edited":
        allocation.desired = wanted(region="b", version="1")
    canaries.on_end(allocation, observed=fault not in {"failed", "forgiven"})
    allocation.next_read_at = NEVER
    progress = canaries.tick(Monotonic(1.0))
    verified = fault == "none"
    assert progress == Progress(
        done=verified, text="1 so far" if verified else "0 so far, 1 not yet verified by a GET"
    )
    assert requeued == ([] if fault in {"none", "failed"} else [allocation]), (
        "a backoff after a failed read is kept"
    )
    assert canaries.tick(Monotonic(2.0)) is None, "no event since"
    canaries.watch({ID})
    assert canaries.verified() == {ID: False}, "of the next revision nothing is verified"
