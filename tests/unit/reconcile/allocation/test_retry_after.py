"""Retry-After is the earliest time of the next request; nothing else brings it forward."""

import asyncio
from collections.abc import Callable

import pytest

from allocsync.errors import BulkUnavailable
from allocsync.model.api_answers import Failed, OutcomeUnknown, Rejected, RejectionClass
from allocsync.model.desired_state import Desired, Revision
from allocsync.model.ids import AllocationId
from allocsync.planning.change_limit import ChangeLimit
from allocsync.reconcile import events
from allocsync.reconcile.pause_control import Begun
from allocsync.reconcile.resync import BulkPolicy
from tests.support.scripted_api import KEYS, Run, ScriptedApi, revision

pytestmark = pytest.mark.looptime
ONE = KEYS[7]
RETRY_AFTER_SECONDS = 200.0
LOCKED = Rejected(423, "423 Locked", RejectionClass.NOT_NOW, retry_after_seconds=RETRY_AFTER_SECONDS)
BUSY = Failed("503 Service Unavailable", 503, RETRY_AFTER_SECONDS)
Trigger = Callable[[Run, ScriptedApi], None]


def edit(run: Run, key: AllocationId, number: int) -> None:
    wanted = {**revision("live").allocations, key: Desired(key, (("region", f"{number}"),))}
    run.controller.activate(Revision(f"edit {number}", wanted))


def pause_and_resume(run: Run, _: ScriptedApi) -> None:
    assert isinstance(run.controller.pauses.begin(None, seconds=600, reason="r", owner="o"), Begun)
    run.controller.pauses.lift(None, by="o")


def pause_until_soon(run: Run, _: ScriptedApi) -> None:
    assert isinstance(run.controller.pauses.begin(ONE, seconds=20, reason="r", owner="o"), Begun)


def await_approval_and_approve(run: Run, _: ScriptedApi) -> None:
    run.controller.activate(revision("elsewhere"))
    (awaiting,) = run.events(events.RevisionAwaitingApproval)
    run.controller.rollout.approve(str(awaiting.revision))


def change_by_another_writer(_: Run, api: ScriptedApi) -> None:
    api.truth[ONE] = {**api.truth[ONE], "region": "foreign"}


def delete_allocation(_: Run, api: ScriptedApi) -> None:
    del api.truth[ONE]


def edit_and_ask_for_a_read(run: Run, _: ScriptedApi) -> None:
    edit(run, ONE, 1)
    run.controller.sync()


def reads_of_one(api: ScriptedApi) -> list[float]:
    return [at for at, key in api.reads if key == ONE]


@pytest.mark.parametrize(
    ("trigger", "bulk"),
    [
        (pause_and_resume, True),
        (pause_and_resume, False),
        (pause_until_soon, True),
        (await_approval_and_approve, True),
        (await_approval_and_approve, False),
        (change_by_another_writer, True),
        (delete_allocation, True),
        (edit_and_ask_for_a_read, False),
        (edit_and_ask_for_a_read, True),
    ],
)
async def test_nothing_brings_a_read_forward_before_retry_after_ends(trigger: Trigger, *, bulk: bool) -> None:
    api = ScriptedApi(bulk=bulk)
    async with Run(api, change_limit=ChangeLimit()) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(5)
        api.on_update = lambda key, _: LOCKED if key == ONE and len(api.posts) == 1 else None
        api.truth[ONE] = {**api.truth[ONE], "region": "drift"}
        async with asyncio.timeout(400):
            while not api.posts:
                await asyncio.sleep(1)
        (posted,), before = api.posts, len(reads_of_one(api))
        await asyncio.sleep(5)
        trigger(run, api)
        await asyncio.sleep(2 * RETRY_AFTER_SECONDS)
        (again, *_) = reads_of_one(api)[before:]
        assert posted[1] == ONE
        assert again >= posted[0] + RETRY_AFTER_SECONDS


async def test_the_check_of_a_list_does_not_read_before_retry_after_ends() -> None:
    api = ScriptedApi(keys=(ONE,))
    api.on_update = lambda *_: LOCKED
    async with Run(api) as run:
        run.controller.activate(revision("wanted", (ONE,)))
        await asyncio.sleep(5)
        (posted,), before = api.posts, len(reads_of_one(api))
        api.truth[ONE] = {**api.truth[ONE], "region": "wanted"}
        await asyncio.sleep(2 * RETRY_AFTER_SECONDS)
        assert reads_of_one(api)[before] >= posted[0] + RETRY_AFTER_SECONDS
        assert len(api.posts) == 1


@pytest.mark.parametrize("edited", [ONE, KEYS[0]])
@pytest.mark.parametrize("bulk", [BulkPolicy.ON, BulkPolicy.OFF])
async def test_an_allocation_that_was_never_read_is_not_read_again_before_retry_after_ends(
    bulk: BulkPolicy, edited: AllocationId
) -> None:
    api = ScriptedApi()
    api.bulk_error = BulkUnavailable("503 Service Unavailable", supported=True)
    api.on_snapshot = lambda key: BUSY if key == ONE else None
    async with Run(api, bulk=bulk) as run:
        run.controller.activate(revision("live"))
        async with asyncio.timeout(60):
            while not reads_of_one(api):
                await asyncio.sleep(1)
        (first,) = reads_of_one(api)
        await asyncio.sleep(5)
        edit(run, edited, 1)
        await asyncio.sleep(2 * RETRY_AFTER_SECONDS)
        assert reads_of_one(api)[1] >= first + RETRY_AFTER_SECONDS


async def test_edits_of_others_do_not_end_the_backoff_of_an_allocation_that_was_never_read() -> None:
    api = ScriptedApi()
    api.on_snapshot = lambda key: Failed("500 Internal Server Error", 500) if key == ONE else None
    async with Run(api, bulk=BulkPolicy.OFF) as run:
        for number in range(60):
            edit(run, KEYS[0], number)
            await asyncio.sleep(1)
        assert 5 <= len(reads_of_one(api)) <= 12, "each read waits a second longer than the one before"


async def test_an_update_of_unknown_outcome_is_read_back_before_retry_after_ends() -> None:
    api = ScriptedApi()
    api.on_update = lambda key, _: (
        OutcomeUnknown("503", 503, RETRY_AFTER_SECONDS) if key == ONE and len(api.posts) == 1 else None
    )
    async with Run(api) as run:
        run.controller.activate(revision(keys=(ONE,)))
        await asyncio.sleep(30)
        assert [event.outcome for event in run.events(events.UpdateSettled)] == ["not_applied"]
        assert len(api.posts) == 1
        await asyncio.sleep(RETRY_AFTER_SECONDS)
        assert len(api.posts) == 2


async def test_the_list_is_not_read_before_its_retry_after_ends() -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(5)
        api.bulk_error = BulkUnavailable("429", supported=True, retry_after_seconds=RETRY_AFTER_SECONDS)
        run.controller.sync()
        await asyncio.sleep(0.5)
        assert run.events(events.ListUnavailable)
        before = api.lists
        await asyncio.sleep(RETRY_AFTER_SECONDS - 1)
        assert api.lists == before
        await asyncio.sleep(2)
        assert api.lists == before + 1


async def test_while_a_long_retry_after_forbids_the_list_each_allocation_is_read_by_itself() -> None:
    api = ScriptedApi()
    api.bulk_error = BulkUnavailable("429", supported=True, retry_after_seconds=RETRY_AFTER_SECONDS)
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(5)
        assert {key for _, key in api.reads} == {*KEYS}
        for _ in range(10):
            run.controller.sync()
            await asyncio.sleep(10)
        assert api.lists == 1, "a command does not bring it forward either"
        await asyncio.sleep(RETRY_AFTER_SECONDS)
        assert api.lists == 2


async def test_a_command_waits_for_retry_after_but_not_for_the_backoff_of_the_list() -> None:
    api = ScriptedApi()
    api.bulk_error = BulkUnavailable("503", supported=True, retry_after_seconds=1.0)
    async with Run(api, backoff=lambda failures, after: max(2.0**failures, after or 0.0)) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(900)
        assert len(run.events(events.ListUnavailable)) < 30
        before = api.lists
        await asyncio.sleep(2)
        assert api.lists == before
        run.controller.sync()
        await asyncio.sleep(0.5)
        assert api.lists == before + 1


async def test_a_command_while_retry_after_forbids_the_list_reads_each_allocation() -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(5)
        api.bulk_error = BulkUnavailable("429", supported=True, retry_after_seconds=50.0)
        run.controller.sync()
        await asyncio.sleep(10)
        before, lists = len(api.reads), api.lists
        run.controller.sync()
        await asyncio.sleep(5)
        assert {key for _, key in api.reads[before:]} == {*KEYS}
        assert api.lists == lists
