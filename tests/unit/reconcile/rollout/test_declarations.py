"""What is in force beside the baseline outlives a restart: files that are held then take nothing back."""

import asyncio
from dataclasses import replace

import pytest

from allocsync.model.api_answers import Rejected
from allocsync.model.desired_state import Desired, Revision
from allocsync.model.ids import AllocationId
from allocsync.reconcile.rollout.change_review import BASELINE
from allocsync.reconcile.rollout.declarations import IN_FORCE
from tests.support.scripted_api import KEYS, Run, ScriptedApi
from tests.unit.reconcile.rollout.test_active_while_held import MISTAKE, ONE, adopt_one_edit
from tests.unit.reconcile.rollout.test_change_review import CHANGE_LIMIT, edited

pytestmark = pytest.mark.looptime
GONE = edited(0, keys=KEYS[20:])  # removes the first twenty, which is held


def kept(run: Run) -> set[str]:
    """Of which allocations it is kept what is in force."""
    names = run.journal.memories
    return {name.removeprefix(IN_FORCE) for name in names if name.startswith(IN_FORCE)}


async def held_files_leave(region: str, run: Run, api: ScriptedApi, key: AllocationId = ONE) -> None:
    """Files that do not name it any more are held, and what somebody else writes is taken back to this."""
    run.controller.activate(GONE)
    await asyncio.sleep(5)
    assert run.controller.status().awaiting_reason
    posts = len(api.posts)
    api.truth[key] = {**api.truth[key], "region": "drift"}
    await asyncio.sleep(400)
    assert {sent for _, sent in api.posts[posts:]} == {key}
    assert api.truth[key]["region"] == region


async def test_what_is_the_baseline_by_now_is_not_kept_twice() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        await adopt_one_edit(run, api)
        assert kept(run) == {ONE}
        await asyncio.sleep(400)
        assert kept(run) == set()


async def test_it_outlives_more_restarts_than_one() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        await adopt_one_edit(run, api)
    for _ in range(3):
        async with Run(api, change_limit=CHANGE_LIMIT, before=run) as run:
            await held_files_leave("edited", run, api)


async def test_a_mistake_in_it_does_not_have_it_forgotten() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        await adopt_one_edit(run, api)
        run.controller.activate(replace(edited(0, keys=KEYS[1:]), id="mistake", quarantined={ONE: MISTAKE}))
        await asyncio.sleep(5)
    async with Run(api, change_limit=CHANGE_LIMIT, before=run) as again:
        await held_files_leave("edited", again, api)


async def test_who_names_another_allocation_changes_nothing_of_it_and_who_names_it_approves_it() -> None:
    api = ScriptedApi()
    named = {key: Desired(key, (("region", "named"),)) for key in KEYS[:2]}
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        await adopt_one_edit(run, api)
    for key, left in ((KEYS[1], {ONE}), (ONE, set())):
        async with Run(api, change_limit=CHANGE_LIMIT, before=run) as run:
            run.controller.activate(Revision(f"{key} alone", {key: named[key]}), approved=True, whole=False)
            await asyncio.sleep(5)
            assert api.truth[key]["region"] == "named"
            assert kept(run) == left


async def test_what_is_in_force_of_a_mistake_is_kept_when_the_baseline_moves_away_from_it() -> None:
    api, refused = ScriptedApi(), KEYS[5]
    api.on_update = lambda key, _: Rejected(422, "422", terminal=True) if key == refused else None
    both = {key: Desired(key, (("region", "edited"),)) for key in (ONE, refused)}
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
        live = dict(edited(0).allocations)
        run.controller.activate(Revision("both", live | both))
        await asyncio.sleep(600)
        run.controller.activate(Revision("one is back", live | {refused: both[refused]}))
        await asyncio.sleep(600)
        del live[ONE]
        run.controller.activate(Revision("a mistake", live | {refused: both[refused]}, {ONE: MISTAKE}))
        await asyncio.sleep(3600)
        assert "edited" in str(run.journal.memories[f"{BASELINE}{ONE}"]), "it has moved"
        assert "live" in str(run.journal.memories[f"{IN_FORCE}{ONE}"])
