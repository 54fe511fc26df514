"""What the server asks for in Retry-After is a floor: only time brings the next request."""

import asyncio
from collections.abc import Callable

import pytest

from allocsync.errors import BulkUnavailable
from allocsync.model.api_answers import Failed, OutcomeUnknown, Rejected
from allocsync.model.desired_state import Desired, Revision
from allocsync.model.ids import AllocationId
from allocsync.planning.change_limit import ChangeLimit
from allocsync.reconcile import events
from allocsync.reconcile.pause_control import Begun
from allocsync.reconcile.resync import BulkPolicy
from tests.support.scripted_api import KEYS, Run, ScriptedApi, revision

pytestmark = pytest.mark.looptime
ONE = KEYS[7]
WISH_SECONDS = 200.0
LOCKED = Rejected(423, "423 Locked", terminal=False, retry_after_seconds=WISH_SECONDS)
BUSY = Failed("503 Service Unavailable", 503, WISH_SECONDS)
Hurry = Callable[[Run, ScriptedApi], None]


def edit(run: Run, key: AllocationId, number: int) -> None:
    wanted = {**revision("live").allocations, key: Desired(key, (("region", f"{number}"),))}
    run.controller.activate(Revision(f"edit {number}", wanted))


def pause_and_resume(run: Run, _: ScriptedApi) -> None:
    assert isinstance(run.controller.pauses.begin(None, seconds=600, reason="r", owner="o"), Begun)
    run.controller.pauses.lift(None, by="o")


def pause_until_soon(run: Run, _: ScriptedApi) -> None:
    assert isinstance(run.controller.pauses.begin(ONE, seconds=20, reason="r", owner="o"), Begun)


def hold_and_approve(run: Run, _: ScriptedApi) -> None:
    run.controller.activate(revision("elsewhere"))
    (held,) = run.events(events.RevisionAwaitingApproval)
    run.controller.rollout.approve(str(held.revision))


def change_it_from_elsewhere(_: Run, api: ScriptedApi) -> None:
    api.truth[ONE] = {**api.truth[ONE], "region": "foreign"}


def take_it_out(_: Run, api: ScriptedApi) -> None:
    del api.truth[ONE]


def edit_and_ask_for_a_read(run: Run, _: ScriptedApi) -> None:
    edit(run, ONE, 1)
    run.controller.sync()


def reads_of_one(api: ScriptedApi) -> list[float]:
    return [at for at, key in api.reads if key == ONE]


@pytest.mark.parametrize(
    ("resync_soon", "bulk"),
    [
        (pause_and_resume, True),
        (pause_and_resume, False),
        (pause_until_soon, True),
        (hold_and_approve, True),
        (hold_and_approve, False),
        (change_it_from_elsewhere, True),
        (take_it_out, True),
        (edit_and_ask_for_a_read, False),
        (edit_and_ask_for_a_read, True),
    ],
)
async def test_nothing_makes_a_look_go_before_the_time_that_the_server_gave(
    resync_soon: Hurry, *, bulk: bool
) -> None:
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
        resync_soon(run, api)
        await asyncio.sleep(2 * WISH_SECONDS)
        (again, *_) = reads_of_one(api)[before:]
        assert posted[1] == ONE
        assert again >= posted[0] + WISH_SECONDS


async def test_the_check_of_a_bulk_answer_does_not_look_before_it_either() -> None:
    api = ScriptedApi(keys=(ONE,))
    api.on_update = lambda *_: LOCKED
    async with Run(api) as run:
        run.controller.activate(revision("wanted", (ONE,)))
        await asyncio.sleep(5)
        (posted,), before = api.posts, len(reads_of_one(api))
        api.truth[ONE] = {**api.truth[ONE], "region": "wanted"}
        await asyncio.sleep(2 * WISH_SECONDS)
        assert reads_of_one(api)[before] >= posted[0] + WISH_SECONDS
        assert len(api.posts) == 1


@pytest.mark.parametrize("edited", [ONE, KEYS[0]])
@pytest.mark.parametrize("bulk", [BulkPolicy.ON, BulkPolicy.OFF])
async def test_one_that_was_never_seen_is_not_looked_at_again_before_it_either(
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
        await asyncio.sleep(2 * WISH_SECONDS)
        assert reads_of_one(api)[1] >= first + WISH_SECONDS


async def test_edits_of_others_do_not_end_the_backoff_of_one_that_was_never_seen() -> None:
    api = ScriptedApi()
    api.on_snapshot = lambda key: Failed("500 Internal Server Error", 500) if key == ONE else None
    async with Run(api, bulk=BulkPolicy.OFF) as run:
        for number in range(60):
            edit(run, KEYS[0], number)
            await asyncio.sleep(1)
        assert 5 <= len(reads_of_one(api)) <= 12, "each waits a second longer than the one before"


async def test_an_update_of_unknown_outcome_is_read_back_whatever_the_server_wishes() -> None:
    api = ScriptedApi()
    api.on_update = lambda key, _: (
        OutcomeUnknown("503", 503, WISH_SECONDS) if key == ONE and len(api.posts) == 1 else None
    )
    async with Run(api) as run:
        run.controller.activate(revision(keys=(ONE,)))
        await asyncio.sleep(30)
        assert [event.outcome for event in run.events(events.UpdateSettled)] == ["not_applied"]
        assert len(api.posts) == 1
        await asyncio.sleep(WISH_SECONDS)
        assert len(api.posts) == 2


async def test_a_bulk_read_comes_no_sooner_than_the_server_asked_for() -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(5)
        api.bulk_error = BulkUnavailable("429", supported=True, retry_after_seconds=WISH_SECONDS)
        run.controller.sync()
        await asyncio.sleep(0.5)
        assert run.events(events.ListUnavailable)
        before = api.lists
        await asyncio.sleep(WISH_SECONDS - 1)
        assert api.lists == before
        await asyncio.sleep(2)
        assert api.lists == before + 1


async def test_where_bulk_reads_are_not_wanted_for_minutes_everything_is_looked_at_by_itself() -> None:
    api = ScriptedApi()
    api.bulk_error = BulkUnavailable("429", supported=True, retry_after_seconds=WISH_SECONDS)
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(5)
        assert {key for _, key in api.reads} == {*KEYS}
        for _ in range(10):
            run.controller.sync()
            await asyncio.sleep(10)
        assert api.lists == 1, "nor does an order make it come sooner"
        await asyncio.sleep(WISH_SECONDS)
        assert api.lists == 2


async def test_only_the_wish_of_the_server_holds_up_an_order_and_not_our_own_backoff() -> None:
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


async def test_an_order_while_the_server_wants_no_bulk_read_looks_at_each() -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(5)
        api.bulk_error = BulkUnavailable("429", supported=True, retry_after_seconds=50.0)
        run.controller.sync()
        await asyncio.sleep(5)
        before, lists = len(api.reads), api.lists
        run.controller.sync()
        await asyncio.sleep(5)
        assert {key for _, key in api.reads[before:]} == {*KEYS}
        assert api.lists == lists
