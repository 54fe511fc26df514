"""Active declarations that differ from the baseline survive a restart, though its files await approval."""

import asyncio
from dataclasses import replace

import pytest

from allocsync.model.api_answers import Rejected, RejectionClass
from allocsync.model.desired_state import Desired, Revision
from allocsync.model.ids import AllocationId
from allocsync.reconcile.rollout.declarations import ACTIVE, BASELINE
from tests.support.scripted_api import KEYS, Run, ScriptedApi
from tests.unit.reconcile.rollout.test_active_while_awaiting_approval import ONE, PROBLEMS, activate_one_edit
from tests.unit.reconcile.rollout.test_change_review import CHANGE_LIMIT, edited

pytestmark = pytest.mark.looptime
REMOVING = edited(0, keys=KEYS[20:])  # removes the first twenty, which needs approval


def stored(run: Run) -> set[str]:
    """The allocations whose active declaration is stored."""
    names = run.journal.memories
    return {name.removeprefix(ACTIVE) for name in names if name.startswith(ACTIVE)}


async def assert_active(region: str, run: Run, api: ScriptedApi, key: AllocationId = ONE) -> None:
    """Assert that drift is repaired to this region while the removal of the allocation awaits approval."""
    run.controller.activate(REMOVING)
    await asyncio.sleep(5)
    assert run.controller.status().awaiting_reason
    posts = len(api.posts)
    api.truth[key] = {**api.truth[key], "region": "drift"}
    await asyncio.sleep(400)
    assert {sent for _, sent in api.posts[posts:]} == {key}
    assert api.truth[key]["region"] == region


async def test_a_declaration_that_is_in_the_baseline_is_not_stored() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        await activate_one_edit(run, api)
        assert stored(run) == {ONE}
        await asyncio.sleep(400)
        assert stored(run) == set()


async def test_an_active_declaration_survives_several_restarts() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        await activate_one_edit(run, api)
    for _ in range(3):
        async with Run(api, change_limit=CHANGE_LIMIT, before=run) as run:
            await assert_active("edited", run, api)


async def test_an_active_declaration_stays_stored_while_its_entry_has_errors() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        await activate_one_edit(run, api)
        run.controller.activate(replace(edited(0, keys=KEYS[1:]), id="errors", quarantined={ONE: PROBLEMS}))
        await asyncio.sleep(5)
    async with Run(api, change_limit=CHANGE_LIMIT, before=run) as again:
        await assert_active("edited", again, api)


async def test_apply_with_named_allocations_forgets_the_active_declarations_of_these_and_no_others() -> None:
    api = ScriptedApi()
    named = {key: Desired(key, (("region", "named"),)) for key in KEYS[:2]}
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        await activate_one_edit(run, api)
    for key, left in ((KEYS[1], {ONE}), (ONE, set())):
        async with Run(api, change_limit=CHANGE_LIMIT, before=run) as run:
            run.controller.activate(Revision(f"{key} alone", {key: named[key]}), approved=True, whole=False)
            await asyncio.sleep(5)
            assert api.truth[key]["region"] == "named"
            assert stored(run) == left


async def test_the_active_declaration_of_an_entry_with_errors_is_stored_when_the_baseline_advances() -> None:
    api, rejected = ScriptedApi(), KEYS[5]
    api.on_update = lambda key, _: Rejected(422, "422", RejectionClass.BODY) if key == rejected else None
    both = {key: Desired(key, (("region", "edited"),)) for key in (ONE, rejected)}
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
        live = dict(edited(0).allocations)
        run.controller.activate(Revision("both", live | both))
        await asyncio.sleep(600)
        run.controller.activate(Revision("one is back", live | {rejected: both[rejected]}))
        await asyncio.sleep(600)
        del live[ONE]
        run.controller.activate(Revision("errors in one", live | {rejected: both[rejected]}, {ONE: PROBLEMS}))
        await asyncio.sleep(3600)
        assert "edited" in str(run.journal.memories[f"{BASELINE}{ONE}"]), "the baseline has advanced"
        assert "live" in str(run.journal.memories[f"{ACTIVE}{ONE}"])
