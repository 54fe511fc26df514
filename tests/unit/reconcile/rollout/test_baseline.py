"""What the rail compares with: how far each way of approving, and of waiting, moves it; on virtual time."""

import asyncio

import pytest

from allocsync.model.api_answers import OutcomeUnknown
from allocsync.model.desired_state import Desired, Generation
from allocsync.model.ids import AllocationId
from allocsync.planning.change_limit import Limit
from allocsync.reconcile import events
from tests.support.scripted_api import KEYS, Run, ScriptedApi

pytestmark = pytest.mark.looptime
RAIL = Limit()
QUARTER = len(KEYS) // 4


def edited(first: int, to: int, *, keys: tuple[AllocationId, ...] = KEYS) -> Generation:
    """From the first of them up to the last, another region than the live one; the others as they are."""
    regions = {key: "edited" if first <= number < to else "live" for number, key in enumerate(KEYS)}
    wanted = {key: Desired(key, (("region", regions[key]),)) for key in keys}
    return Generation(f"{first}-{to} of {len(keys)}", wanted)


LIVE = edited(0, 0)


async def test_whoever_names_allocations_approves_these_and_no_others() -> None:
    api = ScriptedApi()
    async with Run(api, rail=RAIL) as daemon:
        daemon.loop.adopt(LIVE)
        await asyncio.sleep(5)
    async with Run(api, rail=RAIL, before=daemon) as apply:
        apply.loop.adopt(edited(0, 20, keys=KEYS[:20]), approved=True, whole=False)
        await asyncio.sleep(5)
        assert {key for _, key in api.posts} == {*KEYS[:20]}
    async with Run(api, rail=RAIL, before=apply) as again:
        again.loop.adopt(edited(0, 20))
        assert (again.loop.status().changes, again.loop.status().held_reason) == (0, "")
        again.loop.adopt(edited(0, 33))
        assert again.loop.status().changes == 13
        assert again.loop.status().held_reason, "the rest is an edit like any other"


async def test_allocations_that_are_named_before_any_first_start_do_not_make_that_one_an_edit() -> None:
    api = ScriptedApi()
    async with Run(api, rail=RAIL) as apply:
        apply.loop.adopt(edited(0, 20, keys=KEYS[:20]), approved=True, whole=False)
        await asyncio.sleep(5)
        assert len(api.posts) == 20
    async with Run(api, rail=RAIL, before=apply) as daemon:
        daemon.loop.adopt(edited(0, 40))
        await asyncio.sleep(5)
        assert not daemon.events(events.RevisionAwaitingApproval)
        assert len(api.posts) == len(KEYS)


async def test_an_apply_that_ends_with_nothing_left_to_do_is_what_the_next_edit_is_compared_with() -> None:
    api = ScriptedApi()
    async with Run(api, rail=RAIL) as daemon:
        daemon.loop.adopt(LIVE)
        await asyncio.sleep(5)
    async with Run(api, rail=RAIL, before=daemon) as apply:
        apply.loop.adopt(edited(0, QUARTER))
        apply.loop.conclude()
        assert apply.loop.status().changes == QUARTER, "there was something left to do"
        await asyncio.sleep(5)
        apply.loop.conclude()
        assert apply.loop.status().changes == 0
    async with Run(api, rail=RAIL, before=apply) as again:
        again.loop.adopt(edited(0, 2 * QUARTER))
        assert (again.loop.status().changes, again.loop.status().held_reason) == (QUARTER, "")


async def test_what_is_in_force_is_not_held_by_a_restart_when_an_older_edit_has_had_its_hour() -> None:
    api = ScriptedApi()
    api.on_update = lambda _key, _body: OutcomeUnknown("504", 504)  # so that nothing ever settles
    instead = edited(QUARTER, 2 * QUARTER)  # a quarter changed against LIVE, half against the edit before
    async with Run(api, rail=RAIL) as run:
        run.loop.adopt(LIVE)
        await asyncio.sleep(5)
        run.loop.adopt(edited(0, QUARTER))
        await asyncio.sleep(3000)
        run.loop.adopt(instead)
        await asyncio.sleep(700)
        assert api.posts
        assert run.loop.status().changes == QUARTER
    async with Run(api, rail=RAIL, before=run) as again:
        again.loop.adopt(instead)
        assert not again.loop.status().held_reason
        await asyncio.sleep(3700)
        assert again.loop.status().changes == 0, "its own hour moves it all the same"


async def test_a_generation_that_is_held_is_told_once_however_often_its_files_are_saved() -> None:
    async with Run(ScriptedApi(), rail=RAIL) as run:
        run.loop.adopt(LIVE)
        await asyncio.sleep(5)
        run.loop.adopt(edited(0, 20))
        since = run.loop.status().held_since
        await asyncio.sleep(60)
        run.loop.adopt(edited(0, 20))  # a comment was changed
        assert run.loop.status().held_since == since is not None
        assert len(run.events(events.RevisionAwaitingApproval)) == 1
        assert run.loop.status().held_reason
