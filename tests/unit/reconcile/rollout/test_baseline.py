"""The baseline on virtual time: how far each kind of approval, and the passing of time, advances it."""

import asyncio

import pytest

from allocsync.model.api_answers import OutcomeUnknown
from allocsync.model.desired_state import Desired, Revision
from allocsync.model.ids import AllocationId
from allocsync.planning.change_limit import ChangeLimit
from allocsync.reconcile import events
from tests.support.scripted_api import KEYS, Run, ScriptedApi

pytestmark = pytest.mark.looptime
CHANGE_LIMIT = ChangeLimit()
QUARTER = len(KEYS) // 4


def edited(first: int, to: int, *, keys: tuple[AllocationId, ...] = KEYS) -> Revision:
    """A revision that changes the region of `KEYS[first:to]` and declares the live one for the others."""
    regions = {key: "edited" if first <= number < to else "live" for number, key in enumerate(KEYS)}
    wanted = {key: Desired(key, (("region", regions[key]),)) for key in keys}
    return Revision(f"{first}-{to} of {len(keys)}", wanted)


LIVE = edited(0, 0)


async def test_apply_with_named_allocations_approves_these_and_no_others() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as daemon:
        daemon.controller.activate(LIVE)
        await asyncio.sleep(5)
    async with Run(api, change_limit=CHANGE_LIMIT, before=daemon) as apply:
        apply.controller.activate(edited(0, 20, keys=KEYS[:20]), approved=True, whole=False)
        await asyncio.sleep(5)
        assert {key for _, key in api.posts} == {*KEYS[:20]}
    async with Run(api, change_limit=CHANGE_LIMIT, before=apply) as again:
        again.controller.activate(edited(0, 20))
        assert (again.controller.status().changes, again.controller.status().awaiting_reason) == (0, "")
        again.controller.activate(edited(0, 33))
        assert again.controller.status().changes == 13
        assert again.controller.status().awaiting_reason, "the others are an edit like any other"


async def test_apply_with_named_allocations_before_the_first_start_creates_no_baseline() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as apply:
        apply.controller.activate(edited(0, 20, keys=KEYS[:20]), approved=True, whole=False)
        await asyncio.sleep(5)
        assert len(api.posts) == 20
    async with Run(api, change_limit=CHANGE_LIMIT, before=apply) as daemon:
        daemon.controller.activate(edited(0, 40))
        await asyncio.sleep(5)
        assert not daemon.events(events.RevisionAwaitingApproval)
        assert len(api.posts) == len(KEYS)


async def test_an_apply_that_ends_settled_becomes_the_baseline() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as daemon:
        daemon.controller.activate(LIVE)
        await asyncio.sleep(5)
    async with Run(api, change_limit=CHANGE_LIMIT, before=daemon) as apply:
        apply.controller.activate(edited(0, QUARTER))
        apply.controller.conclude()
        assert apply.controller.status().changes == QUARTER, "it is not settled yet"
        await asyncio.sleep(5)
        apply.controller.conclude()
        assert apply.controller.status().changes == 0
    async with Run(api, change_limit=CHANGE_LIMIT, before=apply) as again:
        again.controller.activate(edited(0, 2 * QUARTER))
        assert (again.controller.status().changes, again.controller.status().awaiting_reason) == (QUARTER, "")


async def test_the_active_revision_needs_no_approval_after_a_restart_when_an_older_edit_is_an_hour_old() -> (
    None
):
    api = ScriptedApi()
    api.on_update = lambda _key, _body: OutcomeUnknown("504", 504)  # so that no allocation settles
    instead = edited(QUARTER, 2 * QUARTER)  # a quarter changed against LIVE, half against the edit before
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(LIVE)
        await asyncio.sleep(5)
        run.controller.activate(edited(0, QUARTER))
        await asyncio.sleep(3000)
        run.controller.activate(instead)
        await asyncio.sleep(700)
        assert api.posts
        assert run.controller.status().changes == QUARTER
    async with Run(api, change_limit=CHANGE_LIMIT, before=run) as again:
        again.controller.activate(instead)
        assert not again.controller.status().awaiting_reason
        await asyncio.sleep(3700)
        assert again.controller.status().changes == 0, "an hour after its own activation it is the baseline"


async def test_a_revision_that_awaits_approval_is_reported_once_however_often_its_files_are_saved() -> None:
    async with Run(ScriptedApi(), change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(LIVE)
        await asyncio.sleep(5)
        run.controller.activate(edited(0, 20))
        since = run.controller.status().awaiting_since
        await asyncio.sleep(60)
        run.controller.activate(edited(0, 20))  # a comment was changed
        assert run.controller.status().awaiting_since == since is not None
        assert len(run.events(events.RevisionAwaitingApproval)) == 1
        assert run.controller.status().awaiting_reason
