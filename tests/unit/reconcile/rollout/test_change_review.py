"""The rail in the loop, on virtual time: what is held is not written, and nothing passes it by."""

import asyncio
from collections.abc import Mapping

import pytest

from allocsync.errors import NotAwaitingApprovalError
from allocsync.model.api_answers import OutcomeUnknown
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Desired, Mode, Revision
from allocsync.model.ids import AllocationId
from allocsync.planning.change_limit import ChangeLimit
from allocsync.reconcile import events
from allocsync.reconcile.status.controller_status import AllocationStatus
from tests.support.scripted_api import KEYS, Run, ScriptedApi

pytestmark = pytest.mark.looptime
QUARTER = len(KEYS) // 4
CHANGE_LIMIT = ChangeLimit()


def edited(
    number: int, region: str = "edited", mode: Mode = Mode.ENFORCE, keys: tuple[AllocationId, ...] = KEYS
) -> Revision:
    """The first so many of all have another region than they have live."""
    regions = {key: region if n < number else "live" for n, key in enumerate(KEYS)}
    wanted = {key: Desired(key, (("region", regions[key]),), mode) for key in keys}
    return Revision(f"{number:04}{region}{mode}{len(keys)}", wanted)


def held(run: Run) -> dict[str, AllocationStatus]:
    return {
        row.id: row for row in run.controller.allocations() if row.condition is Condition.AWAITING_APPROVAL
    }


def regions(api: ScriptedApi) -> Mapping[str, object]:
    return {key: row["region"] for key, row in api.truth.items()}


async def test_four_edits_of_a_quarter_each_in_a_minute_are_held_from_the_second_on() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
        for step in range(1, 5):
            run.controller.activate(edited(step * QUARTER))
            await asyncio.sleep(15)
        assert len(api.posts) == QUARTER, "the first edit is within the limit"
        assert {key for _, key in api.posts} == {*KEYS[:QUARTER]}
        assert len(run.events(events.RevisionAwaitingApproval)) == 3
        assert run.count(Condition.AWAITING_APPROVAL) == 3 * QUARTER
        (reason,) = {row.reason for row in held(run).values()}
        assert "40 of 40 allocations (100 %: 40 changed), and ALLOCSYNC_MAX_CHANGES_PERCENT" in reason
        assert run.controller.status().changes == len(KEYS)
        assert run.controller.status().awaiting_reason == reason
        await asyncio.sleep(2 * 3600)
        assert len(api.posts) == QUARTER, "time alone lets nothing through that is held"
        assert run.controller.status().awaiting_reason == reason


async def test_a_first_start_is_not_held_and_neither_is_the_repair_of_drift() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(len(KEYS)))
        await asyncio.sleep(5)
        assert len(api.posts) == len(KEYS)
        for key in KEYS:
            api.truth[key] = {**api.truth[key], "region": "drift"}
        await asyncio.sleep(120)
        assert len(api.posts) == 2 * len(KEYS)
        assert not run.events(events.RevisionAwaitingApproval)


async def test_an_edit_and_a_restart_do_not_pass_it_by() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as first:
        first.controller.activate(edited(0))
        await asyncio.sleep(5)
    async with Run(api, change_limit=CHANGE_LIMIT, before=first) as second:
        second.controller.activate(edited(20))
        await asyncio.sleep(60)
        assert second.count(Condition.AWAITING_APPROVAL) == 20
    await asyncio.sleep(3 * 86_400)
    async with Run(api, change_limit=CHANGE_LIMIT, before=second) as third:
        third.controller.activate(edited(20))
        await asyncio.sleep(60)
        assert third.count(Condition.AWAITING_APPROVAL) == 20
        reads = {key for _, key in api.reads}
        assert {*KEYS[:20]} <= reads, "they were looked at, and only not written"
    assert not api.posts


async def test_the_mode_is_part_of_what_is_compared() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as observing:
        observing.controller.activate(edited(len(KEYS), mode=Mode.OBSERVE))
        await asyncio.sleep(60)
        assert observing.count(Condition.DRIFTED) == len(KEYS)
        observing.controller.activate(edited(len(KEYS)))
        await asyncio.sleep(60)
        assert observing.count(Condition.AWAITING_APPROVAL) == len(KEYS)
    async with Run(api, change_limit=CHANGE_LIMIT, before=observing) as enforcing:
        enforcing.controller.activate(edited(len(KEYS)))
        await asyncio.sleep(60)
        assert enforcing.count(Condition.AWAITING_APPROVAL) == len(KEYS)
    assert not api.posts


async def test_what_is_the_same_goes_on_and_what_is_removed_stays_in_force_over_a_restart_too() -> None:
    api = ScriptedApi()
    cut = edited(10, keys=KEYS[:20])
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
        run.controller.activate(cut)
        await asyncio.sleep(5)
    async with Run(api, change_limit=CHANGE_LIMIT, before=run) as again:
        again.controller.activate(cut)
        for number in (5, 15, 30):  # changed, the same, removed
            api.truth[KEYS[number]] = {**api.truth[KEYS[number]], "region": "drift"}
        await asyncio.sleep(120)
        assert sorted({key for _, key in api.posts}) == [KEYS[15], KEYS[30]]
        assert {*held(again)} == {*KEYS[:10]}
        assert again.controller.rollout.approve(cut.id[:8]) == 30
        await asyncio.sleep(120)
        assert not held(again)
        assert {key for key, region in regions(api).items() if region == "edited"} == {*KEYS[:10]}
        api.truth[KEYS[30]] = {**api.truth[KEYS[30]], "region": "drift"}
        await asyncio.sleep(120)
        assert api.truth[KEYS[30]]["region"] == "drift", "it is disowned now"


async def test_a_set_that_turns_empty_is_held() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
        run.controller.activate(edited(0, keys=()))
        api.truth[KEYS[7]] = {**api.truth[KEYS[7]], "region": "drift"}
        await asyncio.sleep(120)
        assert api.truth[KEYS[7]]["region"] == "live", "all of it stays in force"
        assert "declares no allocations (40 removed)" in run.controller.status().awaiting_reason


async def test_taking_the_edit_back_opens_it_and_an_approval_lets_it_through_once() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
        run.controller.activate(edited(20))
        await asyncio.sleep(5)
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
        assert run.count(Condition.IN_SYNC) == len(KEYS)
        assert run.controller.status().awaiting_since is None
        with pytest.raises(NotAwaitingApprovalError, match="no revision awaits approval"):
            run.controller.rollout.approve(edited(20).id)
        run.controller.activate(edited(20))
        for wrong in ("", "0020", edited(30).id):
            message = f"the revision that awaits approval is 0020edit, not {wrong}"
            with pytest.raises(NotAwaitingApprovalError, match=message):
                run.controller.rollout.approve(wrong)
        await asyncio.sleep(5)
        assert not api.posts
        assert run.controller.status().awaiting_since is not None
        assert run.controller.rollout.approve("0020edit") == 20
        await asyncio.sleep(5)
        assert len(api.posts) == 20
        assert run.count(Condition.IN_SYNC) == len(KEYS)
        assert [event.name for event in run.emitted if event.name.startswith("revision_")] == [
            *("revision_activated", "revision_awaiting_approval", "revision_activated"),
            *("revision_awaiting_approval", "revision_approved", "revision_activated"),
        ]
    async with Run(api, change_limit=CHANGE_LIMIT, before=run) as again:
        again.controller.activate(edited(20))
        assert again.controller.status().awaiting_reason == "", "the approval survives"
        again.controller.activate(edited(0))
        assert again.controller.status().awaiting_reason, "and the way back is an edit like any other"


async def test_a_generation_that_is_settled_for_five_minutes_is_the_next_baseline() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
        for step in range(1, 5):
            run.controller.activate(edited(step * QUARTER))
            await asyncio.sleep(330)
            assert run.controller.status().changes == 0
        assert len(api.posts) == len(KEYS)
        assert not run.events(events.RevisionAwaitingApproval)


async def test_one_that_does_not_settle_is_the_baseline_after_an_hour_and_not_before() -> None:
    api = ScriptedApi()
    api.on_update = lambda _key, _body: OutcomeUnknown("504", 504)
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
        run.controller.activate(edited(QUARTER))
        await asyncio.sleep(3500)
        assert run.controller.status().changes == QUARTER
        assert api.posts
        await asyncio.sleep(200)
        assert run.controller.status().changes == 0


async def test_edits_that_never_pause_long_enough_to_settle_do_not_pile_up_for_ever() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        most = 0
        for number in range(160):
            run.controller.activate(edited(number // 4))
            await asyncio.sleep(280)
            most = max(most, run.controller.status().changes)
            assert not run.controller.status().awaiting_reason
        assert most > 1, "they did pile up"
        assert len(api.posts) == len(KEYS) - 1


async def test_an_edit_that_is_held_between_the_intent_and_the_request_is_not_sent() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
        slow = run.journal.intent

        async def intent(allocation: AllocationId, record: object) -> int:
            sequence = await slow(allocation, record)  # type: ignore[arg-type]  # passed on
            run.controller.activate(edited(20, "third"))
            return sequence

        run.journal.intent = intent  # type: ignore[method-assign]  # the disk is slow
        run.controller.activate(edited(1))
        await asyncio.sleep(60)
        assert run.events(events.UpdateIntended), "it was about to leave"
        assert not api.posts
        assert [outcome for _, outcome in run.journal.outcomes] == ["not_sent"]


async def test_the_same_update_is_stopped_by_the_rail_alone_when_only_the_rail_changed() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
        slow = run.journal.intent

        async def intent(allocation: AllocationId, record: object) -> int:
            sequence = await slow(allocation, record)  # type: ignore[arg-type]  # passed on
            run.controller.activate(edited(20))  # the first one is wanted as before, and held now
            return sequence

        run.journal.intent = intent  # type: ignore[method-assign]  # likewise
        run.controller.activate(edited(1))
        await asyncio.sleep(60)
        (finished,) = run.events(events.UpdateFinished)
        assert "ALLOCSYNC_MAX_CHANGES_PERCENT" in str(finished.reason)
        assert not api.posts
