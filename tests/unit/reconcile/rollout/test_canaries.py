"""Canaries on virtual time: only they are updated, and the others after all canaries are verified."""

import asyncio
from dataclasses import replace

import pytest

from allocsync.model.api_answers import Accepted, OutcomeUnknown, UpdateAnswer
from allocsync.model.cloud import Cloud
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Mode, Revision
from allocsync.model.ids import AllocationId
from allocsync.planning.change_limit import ChangeLimit
from allocsync.reconcile import events
from allocsync.reconcile.resync import BulkPolicy
from tests.support.scripted_api import KEYS, Run, ScriptedApi
from tests.unit.reconcile.rollout.test_change_review import edited

pytestmark = pytest.mark.looptime
CHANGE_LIMIT = ChangeLimit(canary=3)
FIRST = KEYS[:3]
HOUR = 3600.0


async def activate_after_baseline(run: Run, revision: Revision) -> None:
    """Activate a baseline of live declarations, and then this revision."""
    run.controller.activate(edited(0))
    await asyncio.sleep(5)
    run.controller.activate(revision)


def updated(api: ScriptedApi) -> set[str]:
    return {key for _, key in api.posts}


@pytest.mark.parametrize("bulk", BulkPolicy)
async def test_when_all_canaries_are_verified_the_revision_is_approved(bulk: BulkPolicy) -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT, bulk=bulk) as run:
        await activate_after_baseline(run, edited(20))
        await asyncio.sleep(0.9)
        assert updated(api) == {*FIRST}
        assert run.controller.status().canaries == dict.fromkeys(FIRST, False)
        await asyncio.sleep(30)
        assert len(api.posts) == 20
        assert run.count(Condition.IN_SYNC) == len(KEYS)
        (approved,) = run.events(events.RevisionApproved)
        assert approved == events.RevisionApproved(revision=edited(20).id, changes=20, by="canary")
        status = run.controller.status()
        assert (status.awaiting_reason, status.awaiting_since, status.canaries) == ("", None, {})
        read_at = [
            max(at for at, key in api.reads if key == first and at < api.posts[3][0]) for first in FIRST
        ]
        assert all(at > sent for at, (sent, _) in zip(read_at, sorted(api.posts)[:3], strict=True))
    async with Run(api, change_limit=CHANGE_LIMIT, before=run) as again:
        again.controller.activate(edited(20))
        assert not again.controller.status().awaiting_reason, (
            "the baseline has advanced, as by an approval of a person"
        )


async def test_an_ignored_canary_keeps_the_revision_waiting_and_the_reason_says_so() -> None:
    api = ScriptedApi()
    api.on_update = lambda key, body: Accepted(200, body) if key == FIRST[1] else None
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        await activate_after_baseline(run, edited(20))
        await asyncio.sleep(5 * HOUR)
        assert run.count(Condition.IGNORED) == 1, "the fault occurred"
        assert updated(api) == {*FIRST}
        assert sorted(key for _, key in api.posts if key != FIRST[1]) == [FIRST[0], FIRST[2]]
        assert "each of these in sync (2 so far, 1 Ignored); " in run.controller.status().awaiting_reason
        assert run.controller.status().canaries == {FIRST[0]: True, FIRST[1]: False, FIRST[2]: True}
        rows = {row.id: row for row in run.controller.allocations()}
        assert rows[KEYS[3]].reason == run.controller.status().awaiting_reason
        assert run.controller.rollout.approve(edited(20).id) == 20
        await asyncio.sleep(30)
        assert updated(api) == {*KEYS[:20]}, "a person may approve it all the same"


async def test_a_canary_of_unknown_outcome_keeps_the_revision_waiting_until_a_read_shows_the_outcome() -> (
    None
):
    api = ScriptedApi()

    def lost(key: str, body: Cloud) -> UpdateAnswer | None:
        if key != FIRST[0] or len(api.posts) > 3:
            return None
        asyncio.get_running_loop().call_later(8, api.truth.__setitem__, key, body)
        return OutcomeUnknown("504", 504)

    api.on_update = lost
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        await activate_after_baseline(run, edited(20))
        await asyncio.sleep(9)
        assert run.count(Condition.OUTCOME_UNKNOWN) == 1, "the fault occurred"
        assert updated(api) == {*FIRST}
        assert "(2 so far, 1 OutcomeUnknown)" in run.controller.status().awaiting_reason
        await asyncio.sleep(30)
        assert len(api.posts) == 20, "it was applied and not sent again"


async def test_a_restart_selects_the_same_canaries() -> None:
    api = ScriptedApi()
    api.on_update = lambda _key, body: Accepted(200, body)
    before: Run | None = None
    for _ in range(3):
        async with Run(api, change_limit=CHANGE_LIMIT, before=before) as run:
            if before is None:
                run.controller.activate(edited(0))
                await asyncio.sleep(5)
            run.controller.activate(edited(20))
            await asyncio.sleep(90)
            assert [*run.controller.status().canaries] == [*FIRST]
        before = run
    assert updated(api) == {*FIRST}
    for key in FIRST:  # an operator has repaired the server
        api.truth[key] = {**api.truth[key], "region": "edited"}
    api.on_update = lambda _key, _body: None
    api.posts.clear()
    async with Run(api, change_limit=CHANGE_LIMIT, before=before) as run:
        run.controller.activate(edited(20))
        await asyncio.sleep(30)
        assert updated(api) == {*KEYS[3:20]}, (
            "a canary that is already in sync needs no update and counts as verified"
        )


async def test_another_edit_has_canaries_of_its_own_and_a_reverted_one_has_none() -> None:
    api = ScriptedApi()
    ignores = True
    api.on_update = lambda _key, body: Accepted(200, body) if ignores else None
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        await activate_after_baseline(run, edited(20))
        await asyncio.sleep(150)
        assert "0 so far, 3 Ignored" in run.controller.status().awaiting_reason
        other = edited(20, "other")
        without_first = {**edited(20).allocations, **{key: edited(0).allocations[key] for key in FIRST}}
        run.controller.activate(replace(other, id="unlike--", allocations=without_first))
        await asyncio.sleep(90)
        assert [*run.controller.status().canaries] == [*KEYS[3:6]]
        assert updated(api) == {*KEYS[:6]}
        run.controller.activate(edited(0))
        await asyncio.sleep(90)
        assert not run.controller.status().canaries
        assert run.count(Condition.IN_SYNC) == len(KEYS)
        assert updated(api) == {*KEYS[:6]}
        ignores = False
        run.controller.activate(other)
        await asyncio.sleep(30)
        assert updated(api) == {*KEYS[:20]}
        (approved,) = run.events(events.RevisionApproved)
        assert approved.revision == other.id


async def test_an_update_is_not_sent_if_its_allocation_is_no_canary_any_more_after_the_intent() -> None:
    api = ScriptedApi()
    whole = edited(20)
    less = Revision("less----", {**whole.allocations, KEYS[0]: edited(0).allocations[KEYS[0]]})
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        await activate_after_baseline(run, edited(0))
        slow = run.journal.intent

        async def intent(allocation: AllocationId, record: object) -> int:
            sequence = await slow(allocation, record)  # type: ignore[arg-type]  # passed on
            if allocation == KEYS[3]:
                run.controller.activate(whole)
            return sequence

        run.journal.intent = intent  # type: ignore[method-assign]  # the disk is slow
        api.on_update = lambda _key, body: Accepted(200, body)
        run.controller.activate(less)
        assert [*run.controller.status().canaries] == [*KEYS[1:4]]
        await asyncio.sleep(90)
        assert "not_sent" in [outcome for _, outcome in run.journal.outcomes]
        assert updated(api) == {*FIRST}


async def test_canaries_go_first_when_all_change_from_observe_to_enforce() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(len(KEYS), mode=Mode.OBSERVE))
        await asyncio.sleep(5)
    async with Run(api, change_limit=CHANGE_LIMIT, before=run) as enforcing:
        enforcing.controller.activate(edited(len(KEYS)))
        await asyncio.sleep(0.9)
        assert updated(api) == {*FIRST}
        await asyncio.sleep(30)
        assert len(api.posts) == len(KEYS)


@pytest.mark.parametrize("name", [None, FIRST[0]])
async def test_a_paused_canary_keeps_the_revision_waiting(name: str | None) -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
        for key in FIRST:
            api.truth[key] = {**api.truth[key], "region": "edited"}  # they need no update
        run.controller.pauses.begin(name, seconds=HOUR, reason="a migration", owner="ops")
        run.controller.activate(edited(20))
        await asyncio.sleep(HOUR - 60)
        assert "paused" in run.controller.status().awaiting_reason
        assert not api.posts
        assert not run.events(events.RevisionApproved)
        await asyncio.sleep(120)
        assert updated(api) == {*KEYS[3:20]}


async def test_without_the_setting_there_are_no_canaries() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=ChangeLimit()) as run:
        await activate_after_baseline(run, edited(20))
        await asyncio.sleep(HOUR)
        assert not api.posts
        assert not run.controller.status().canaries
