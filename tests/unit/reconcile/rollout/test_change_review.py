"""The change limit on virtual time: changes that await approval are not written, whatever happens."""

import asyncio
from collections.abc import Mapping

import pytest

from allocsync.errors import NotAwaitingApprovalError
from allocsync.model.api_answers import OutcomeUnknown
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Desired, Mode, Revision
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import IntentRecord
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
    """A revision that changes the region of the first `number` keys and declares the live one for others."""
    regions = {key: region if n < number else "live" for n, key in enumerate(KEYS)}
    wanted = {key: Desired(key, (("region", regions[key]),), mode) for key in keys}
    return Revision(f"{number:04}{region}{mode}{len(keys)}", wanted)


def awaiting_approval(run: Run) -> dict[str, AllocationStatus]:
    return {
        row.id: row for row in run.controller.allocations() if row.condition is Condition.AWAITING_APPROVAL
    }


def regions(api: ScriptedApi) -> Mapping[str, object]:
    return {key: row["region"] for key, row in api.truth.items()}


async def test_of_four_edits_of_a_quarter_each_in_a_minute_the_second_and_later_await_approval() -> None:
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
        (reason,) = {row.reason for row in awaiting_approval(run).values()}
        assert "40 of 40 allocations (100 %: 40 changed), and ALLOCSYNC_MAX_CHANGES_PERCENT" in reason
        assert run.controller.status().changes == len(KEYS)
        assert run.controller.status().awaiting_reason == reason
        await asyncio.sleep(2 * 3600)
        assert len(api.posts) == QUARTER, "the passing of time approves nothing"
        assert run.controller.status().awaiting_reason == reason


async def test_neither_a_first_start_nor_the_repair_of_drift_awaits_approval() -> None:
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


async def test_a_restart_does_not_bypass_the_change_limit() -> None:
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
        assert {*KEYS[:20]} <= reads, "they were read but not written"
    assert not api.posts


async def test_a_change_of_the_mode_counts_as_a_change() -> None:
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


async def test_unchanged_and_removed_allocations_stay_managed_while_a_revision_awaits_approval() -> None:
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
        assert {*awaiting_approval(again)} == {*KEYS[:10]}
        assert again.controller.rollout.approve(cut.id[:8]) == 30
        await asyncio.sleep(120)
        assert not awaiting_approval(again)
        assert {key for key, region in regions(api).items() if region == "edited"} == {*KEYS[:10]}
        api.truth[KEYS[30]] = {**api.truth[KEYS[30]], "region": "drift"}
        await asyncio.sleep(120)
        assert api.truth[KEYS[30]]["region"] == "drift", "it is released now"


async def test_a_revision_without_allocations_awaits_approval() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
        run.controller.activate(edited(0, keys=()))
        api.truth[KEYS[7]] = {**api.truth[KEYS[7]], "region": "drift"}
        await asyncio.sleep(120)
        assert api.truth[KEYS[7]]["region"] == "live", "all declarations stay active"
        assert "declares no allocations (40 removed)" in run.controller.status().awaiting_reason


async def test_a_reverted_edit_needs_no_approval_and_an_approval_is_for_one_revision() -> None:
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
        assert again.controller.status().awaiting_reason, "and its reversal is an edit like any other"


async def test_a_revision_settled_for_five_minutes_becomes_the_baseline() -> None:
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


async def test_a_revision_that_does_not_settle_becomes_the_baseline_after_an_hour() -> None:
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


async def test_frequent_edits_do_not_accumulate_changes_without_limit() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        most = 0
        for number in range(160):
            run.controller.activate(edited(number // 4))
            await asyncio.sleep(280)
            most = max(most, run.controller.status().changes)
            assert not run.controller.status().awaiting_reason
        assert most > 1, "changes did accumulate"
        assert len(api.posts) == len(KEYS) - 1


def activate_while_an_intent_is_written(run: Run, revision: Revision) -> None:
    """Activate the revision each time the journal has written an intent, before the update is sent."""
    write = run.journal.intent

    async def intent(allocation: AllocationId, record: IntentRecord) -> int:
        sequence = await write(allocation, record)
        run.controller.activate(revision)
        return sequence

    run.journal.intent = intent  # type: ignore[method-assign]  # the disk is slow


async def test_an_update_is_not_sent_if_another_edit_of_it_awaits_approval_after_the_intent() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
        activate_while_an_intent_is_written(run, edited(20, "third"))
        run.controller.activate(edited(1))
        await asyncio.sleep(60)
        assert run.events(events.UpdateIntended), "the update was about to be sent"
        assert not api.posts
        assert [outcome for _, outcome in run.journal.outcomes] == ["not_sent"]


async def test_an_unchanged_update_is_not_sent_if_it_awaits_approval_after_the_intent() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=CHANGE_LIMIT) as run:
        run.controller.activate(edited(0))
        await asyncio.sleep(5)
        # The first one is declared as before, and awaits approval now.
        activate_while_an_intent_is_written(run, edited(20))
        run.controller.activate(edited(1))
        await asyncio.sleep(60)
        (finished,) = run.events(events.UpdateFinished)
        assert "ALLOCSYNC_MAX_CHANGES_PERCENT" in str(finished.reason)
        assert not api.posts
