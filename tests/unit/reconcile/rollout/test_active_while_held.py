"""What stays in force while a generation is held: what stood before it, whatever the rail compares with."""

import asyncio

import pytest

from allocsync.model.condition import Condition
from allocsync.model.desired_state import Revision
from tests.support.scripted_api import KEYS, Run, ScriptedApi
from tests.unit.reconcile.rollout.test_change_review import CHANGE_LIMIT, edited

pytestmark = pytest.mark.looptime
ONE, MISTAKE = KEYS[0], ("no such field",)


def mistaken(broken: int = 1, edits: int = len(KEYS)) -> Revision:
    """So many edits, and a mistake in the first so many allocations."""
    wanted = edited(edits, keys=KEYS[broken:]).allocations
    return Revision(f"{edits} with {broken} mistakes", wanted, dict.fromkeys(KEYS[:broken], MISTAKE))


async def adopt_one_edit(run: Run, api: ScriptedApi) -> None:
    """One edit that the rail lets through is in force, and not yet what it compares with."""
    run.controller.activate(edited(0))
    await asyncio.sleep(5)
    run.controller.activate(edited(1))
    await asyncio.sleep(30)
    assert api.truth[ONE]["region"] == "edited"


@pytest.mark.parametrize("broken", [1, len(KEYS)])
async def test_what_is_held_is_not_sent_when_a_mistake_in_it_puts_it_into_quarantine(broken: int) -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
        run.controller.activate(edited(len(KEYS)))
        await asyncio.sleep(5)
        assert run.count(Condition.AWAITING_APPROVAL) == len(KEYS)
        run.controller.activate(mistaken(broken))
        reads = len(api.reads)
        await asyncio.sleep(3600)
        assert len(api.reads) > reads
        assert not api.posts, "nobody has approved it"
        assert run.count(Condition.IN_SYNC) == broken, "what was in force before is in force again"
        assert run.count(Condition.AWAITING_APPROVAL) == len(KEYS) - broken


async def test_what_was_in_force_beside_the_baseline_stays_when_a_mistake_is_made_in_what_is_held() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        await adopt_one_edit(run, api)
        run.controller.activate(edited(len(KEYS)))
        await asyncio.sleep(5)
        run.controller.activate(mistaken())
        await asyncio.sleep(3600)
        assert len(api.posts) == 1
        assert run.count(Condition.IN_SYNC) == 1
        run.controller.activate(edited(len(KEYS)))
        await asyncio.sleep(3600)
        assert len(api.posts) == 1


@pytest.mark.parametrize("between", [False, True])
async def test_what_a_held_generation_removes_stays_as_it_was_in_force_and_not_as_it_is_compared(
    *, between: bool
) -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        await adopt_one_edit(run, api)
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
        assert api.truth[ONE]["region"] == "edited", "it is still followed"


async def test_what_was_disowned_before_is_not_followed_again_because_of_what_is_held() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
        run.controller.activate(edited(0, keys=KEYS[1:]))
        await asyncio.sleep(30)
        api.truth[ONE] = {**api.truth[ONE], "region": "theirs"}
        run.controller.activate(edited(len(KEYS)))
        await asyncio.sleep(30)
        run.controller.activate(mistaken())
        await asyncio.sleep(400)
        run.controller.activate(edited(len(KEYS), keys=KEYS[1:]))
        await asyncio.sleep(400)
        assert run.controller.status().awaiting_reason
        assert not api.posts


@pytest.mark.parametrize("mended", [False, True])
async def test_after_a_restart_what_had_a_mistake_from_the_first_on_stands_as_the_baseline_has_it(
    *, mended: bool
) -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
    async with Run(api, change_limit=CHANGE_LIMIT, before=run) as again:
        again.controller.activate(mistaken(edits=0))
        await asyncio.sleep(5)
        if mended:
            again.controller.activate(edited(len(KEYS)))
            await asyncio.sleep(5)
            again.controller.activate(mistaken())
        else:
            again.controller.activate(Revision("empty", {}))
        await asyncio.sleep(5)
        assert again.controller.status().awaiting_reason
        api.truth[ONE] = {**api.truth[ONE], "region": "drift"}
        await asyncio.sleep(400)
        assert api.truth[ONE]["region"] == "live", "it is still followed"
        assert {key for _, key in api.posts} == {ONE}
