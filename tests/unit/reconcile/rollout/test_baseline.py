"""What the rail compares with: how far each way of approving, and of waiting, moves it; on virtual time."""

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
    """From the first of them up to the last, another region than the live one; the others as they are."""
    regions = {key: "edited" if first <= number < to else "live" for number, key in enumerate(KEYS)}
    wanted = {key: Desired(key, (("region", regions[key]),)) for key in keys}
    return Revision(f"{first}-{to} of {len(keys)}", wanted)


LIVE = edited(0, 0)


async def test_whoever_names_allocations_approves_these_and_no_others() -> None:
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
        assert again.controller.status().awaiting_reason, "the rest is an edit like any other"


async def test_allocations_that_are_named_before_any_first_start_do_not_make_that_one_an_edit() -> None:
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


async def test_an_apply_that_ends_with_nothing_left_to_do_is_what_the_next_edit_is_compared_with() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as daemon:
        daemon.controller.activate(LIVE)
        await asyncio.sleep(5)
    async with Run(api, change_limit=CHANGE_LIMIT, before=daemon) as apply:
        apply.controller.activate(edited(0, QUARTER))
        apply.controller.conclude()
        assert apply.controller.status().changes == QUARTER, "there was something left to do"
        await asyncio.sleep(5)
        apply.controller.conclude()
        assert apply.controller.status().changes == 0
    async with Run(api, change_limit=CHANGE_LIMIT, before=apply) as again:
        again.controller.activate(edited(0, 2 * QUARTER))
        assert (again.controller.status().changes, again.controller.status().awaiting_reason) == (QUARTER, "")


async def test_what_is_in_force_is_not_held_by_a_restart_when_an_older_edit_has_had_its_hour() -> None:
    api = ScriptedApi()
    api.on_update = lambda _key, _body: OutcomeUnknown("504", 504)  # so that nothing ever settles
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
        assert again.controller.status().changes == 0, "its own hour moves it all the same"


async def test_a_generation_that_is_held_is_told_once_however_often_its_files_are_saved() -> None:
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
