"""What stays active while a revision awaits approval: the declarations before it, not the baseline."""

import asyncio

import pytest

from allocsync.model.condition import Condition
from allocsync.model.desired_state import Revision
from tests.support.scripted_api import KEYS, Run, ScriptedApi
from tests.unit.reconcile.rollout.test_change_review import CHANGE_LIMIT, edited

pytestmark = pytest.mark.looptime
ONE, PROBLEMS = KEYS[0], ("no such field",)


def with_errors(broken: int = 1, edits: int = len(KEYS)) -> Revision:
    """A revision with `edits` edits, and with errors in the entries of the first `broken` allocations."""
    wanted = edited(edits, keys=KEYS[broken:]).allocations
    return Revision(f"{edits} with {broken} errors", wanted, dict.fromkeys(KEYS[:broken], PROBLEMS))


async def activate_one_edit(run: Run, api: ScriptedApi) -> None:
    """Activate one edit within the change limit; it is not the baseline yet."""
    run.controller.activate(edited(0))
    await asyncio.sleep(5)
    run.controller.activate(edited(1))
    await asyncio.sleep(30)
    assert api.truth[ONE]["region"] == "edited"


@pytest.mark.parametrize("broken", [1, len(KEYS)])
async def test_a_change_that_awaits_approval_is_not_sent_when_its_entry_gets_errors(broken: int) -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
        run.controller.activate(edited(len(KEYS)))
        await asyncio.sleep(5)
        assert run.count(Condition.AWAITING_APPROVAL) == len(KEYS)
        run.controller.activate(with_errors(broken))
        reads = len(api.reads)
        await asyncio.sleep(3600)
        assert len(api.reads) > reads
        assert not api.posts, "nobody has approved it"
        assert run.count(Condition.IN_SYNC) == broken, "the declaration before it is active again"
        assert run.count(Condition.AWAITING_APPROVAL) == len(KEYS) - broken


async def test_an_active_edit_stays_active_when_its_entry_gets_errors_while_another_awaits_approval() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        await activate_one_edit(run, api)
        run.controller.activate(edited(len(KEYS)))
        await asyncio.sleep(5)
        run.controller.activate(with_errors())
        await asyncio.sleep(3600)
        assert len(api.posts) == 1
        assert run.count(Condition.IN_SYNC) == 1
        run.controller.activate(edited(len(KEYS)))
        await asyncio.sleep(3600)
        assert len(api.posts) == 1


@pytest.mark.parametrize("between", [False, True])
async def test_an_allocation_whose_removal_awaits_approval_keeps_its_active_declaration_and_not_the_baseline(
    *, between: bool
) -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        await activate_one_edit(run, api)
        if between:
            run.controller.activate(edited(len(KEYS), "elsewhere"))
            await asyncio.sleep(30)
            run.controller.activate(edited(len(KEYS), "elsewhere", keys=KEYS[1:]))
        else:
            run.controller.activate(Revision("empty", {}))
        await asyncio.sleep(30)
        assert run.controller.status().awaiting_reason
        assert len(api.posts) == 1
        api.truth[ONE] = {**api.truth[ONE], "region": "drift"}
        await asyncio.sleep(400)
        assert api.truth[ONE]["region"] == "edited", "it is still managed"


async def test_a_released_allocation_stays_released_while_a_revision_awaits_approval() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
        run.controller.activate(edited(0, keys=KEYS[1:]))
        await asyncio.sleep(30)
        api.truth[ONE] = {**api.truth[ONE], "region": "theirs"}
        run.controller.activate(edited(len(KEYS)))
        await asyncio.sleep(30)
        run.controller.activate(with_errors())
        await asyncio.sleep(400)
        run.controller.activate(edited(len(KEYS), keys=KEYS[1:]))
        await asyncio.sleep(400)
        assert run.controller.status().awaiting_reason
        assert not api.posts


@pytest.mark.parametrize("corrected", [False, True])
async def test_after_a_restart_an_entry_with_errors_from_the_start_has_the_declaration_of_the_baseline(
    *, corrected: bool
) -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
    async with Run(api, change_limit=CHANGE_LIMIT, before=run) as again:
        again.controller.activate(with_errors(edits=0))
        await asyncio.sleep(5)
        if corrected:
            again.controller.activate(edited(len(KEYS)))
            await asyncio.sleep(5)
            again.controller.activate(with_errors())
        else:
            again.controller.activate(Revision("empty", {}))
        await asyncio.sleep(5)
        assert again.controller.status().awaiting_reason
        api.truth[ONE] = {**api.truth[ONE], "region": "drift"}
        await asyncio.sleep(400)
        assert api.truth[ONE]["region"] == "live", "it is still managed"
        assert {key for _, key in api.posts} == {ONE}
