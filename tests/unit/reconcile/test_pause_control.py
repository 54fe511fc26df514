"""Pauses on virtual time: no updates are sent, reads go on, and updates resume by themselves."""

import asyncio

import pytest

from allocsync.model.api_answers import OutcomeUnknown
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Revision
from allocsync.model.ids import AllocationId, NotFound
from allocsync.model.times import Monotonic, WallTime
from allocsync.planning.change_limit import ChangeLimit
from allocsync.reconcile import events
from allocsync.reconcile.pause_control import MAX_PAUSE_SECONDS, Begun, Lifted
from tests.support.scripted_api import KEYS, Run, ScriptedApi, revision

pytestmark = pytest.mark.looptime
ONE = KEYS[7]


def drift(api: ScriptedApi, *keys: str) -> None:
    for key in keys:
        api.truth[key] = {**api.truth[key], "region": "drift"}


def paused(run: Run) -> set[AllocationId]:
    return {row.id for row in run.controller.allocations() if row.paused is not None}


def pause(run: Run, name: str | None, seconds: float, reason: str = "maintenance") -> Begun:
    begun = run.controller.pauses.begin(name, seconds=seconds, reason=reason, owner="mark@here")
    assert isinstance(begun, Begun)
    return begun


def lift(run: Run, name: str | None) -> Lifted:
    lifted = run.controller.pauses.lift(name, by="mark@here")
    assert isinstance(lifted, Lifted)
    return lifted


async def test_a_pause_allows_a_read_back_and_updates_resume_with_a_new_read() -> None:
    api = ScriptedApi(bulk=False)
    api.on_update = lambda key, _body: (
        OutcomeUnknown("504", 504) if key == ONE and len(api.posts) == 1 else None
    )
    async with Run(api) as run:
        run.controller.activate(revision(keys=(ONE,)))
        await asyncio.sleep(5)
        assert run.count(Condition.OUTCOME_UNKNOWN) == 1
        pause(run, ONE, 120)
        reads, begun = len(api.reads), asyncio.get_running_loop().time()
        assert run.count(Condition.OUTCOME_UNKNOWN) == 1, "the unknown outcome has precedence"
        await asyncio.sleep(60)
        assert len(api.reads) > reads, "the read-back happens"
        (settled,) = run.events(events.UpdateSettled)
        assert settled.outcome == "not_applied"
        assert len(api.posts) == 1, "and no update is sent"
        assert paused(run) == {ONE}
        await asyncio.sleep(58)
        assert len(api.posts) == 1
        before = len(api.reads)
        await asyncio.sleep(5)
        assert len(api.posts) == 2, "updates resume"
        read_at = api.reads[before][0]
        assert begun + 120 <= read_at < api.posts[1][0], "after a new read"
        await asyncio.sleep(5)
        assert run.count(Condition.IN_SYNC) == 1


@pytest.mark.parametrize("bulk", [True, False])
async def test_a_pause_of_all_stops_all_updates_and_no_reads(*, bulk: bool) -> None:
    api = ScriptedApi(bulk=bulk)
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(5)
        begun = pause(run, None, 3600)
        assert paused(run) == {*KEYS}
        drift(api, *KEYS)
        run.controller.activate(revision("wanted"))
        before = len(api.reads)
        await asyncio.sleep(1800)
        assert not api.posts
        assert len(api.reads) - before >= len(KEYS), "reads went on"
        assert paused(run) == {*KEYS}
        (reason,) = {str(row.paused) for row in run.controller.allocations()}
        assert reason == f"paused until {begun.pause.ends} by mark@here: maintenance"
        assert run.controller.status().pauses == {"all": (1, begun.pause.ends_at), "one": (0, WallTime(0.0))}
        lifted = lift(run, None)
        assert lifted.was_paused
        await asyncio.sleep(5)
        assert len(api.posts) == len(KEYS)
        assert run.controller.status().pauses == {"all": (0, WallTime(0.0)), "one": (0, WallTime(0.0))}
        assert not lift(run, None).was_paused


async def test_a_pause_of_one_allocation_stops_only_that_one() -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(5)
        pause(run, ONE, 600)
        drift(api, ONE, KEYS[8])
        await asyncio.sleep(180)
        assert {key for _, key in api.posts} == {KEYS[8]}
        assert paused(run) == {ONE}
        await asyncio.sleep(600)
        assert {key for _, key in api.posts} == {KEYS[8], ONE}
        assert [event.name for event in run.emitted if event.name.startswith("pause_")] == [
            *("pause_begun", "pause_ended"),
        ]


async def test_a_pause_survives_restarts_and_ends_at_the_same_time() -> None:
    api = ScriptedApi()
    async with Run(api) as first:
        first.controller.activate(revision("live"))
        await asyncio.sleep(5)
        pause(first, None, 1000)
        pause(first, ONE, 2000)
    drift(api, *KEYS)
    async with Run(api, before=first) as second:
        second.controller.activate(revision("live"))
        await asyncio.sleep(500)
        assert api.reads
        assert not api.posts
    async with Run(api, before=second) as third:
        third.controller.activate(revision("live"))
        await asyncio.sleep(480)
        assert not api.posts
        await asyncio.sleep(120)
        assert {key for _, key in api.posts} == {*KEYS} - {ONE}
        await asyncio.sleep(1000)
        assert {key for _, key in api.posts} == {*KEYS}
    async with Run(api, before=third) as last:
        last.controller.activate(revision("live"))
        assert not paused(last)
    assert not [name for name in last.journal.memories if name.startswith("pause/")]


async def test_a_pause_of_all_includes_allocations_declared_later() -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        run.controller.activate(revision("live", KEYS[:5]))
        await asyncio.sleep(5)
        pause(run, None, 600)
        run.controller.activate(revision("wanted"))
        await asyncio.sleep(300)
        assert not api.posts
        assert paused(run) == {*KEYS}


async def test_a_pause_set_after_the_intent_stops_the_update() -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        slow = run.journal.intent

        async def intent(allocation: object, record: object) -> int:
            sequence = await slow(allocation, record)  # type: ignore[arg-type]  # passed on
            pause(run, None, 600)
            return sequence

        run.journal.intent = intent  # type: ignore[method-assign]  # the disk is slow
        run.controller.activate(revision(keys=(ONE,)))
        await asyncio.sleep(300)
        assert run.events(events.UpdateIntended), "the update was about to be sent"
        assert not api.posts
        assert [outcome for _, outcome in run.journal.outcomes] == ["not_sent"]
        assert paused(run) == {ONE}


async def test_lifting_a_pause_leaves_those_of_the_other_scope() -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(5)
        pause(run, None, 600)
        pause(run, ONE, 3000, "it is being moved")
        drift(api, *KEYS)
        lifted = lift(run, ONE)
        assert lifted.everything is not None
        await asyncio.sleep(120)
        assert not api.posts
        pause(run, ONE, 3000, "it is being moved")
        assert lift(run, None).others == 1
        await asyncio.sleep(120)
        assert {key for _, key in api.posts} == {*KEYS} - {ONE}
        (row,) = [row for row in run.controller.allocations() if row.paused is not None]
        assert str(row.paused).endswith("by mark@here: it is being moved")


async def test_a_pause_has_a_longest_duration_and_needs_a_declared_allocation() -> None:
    async with Run(ScriptedApi()) as run:
        run.controller.activate(revision("live"))
        begun = pause(run, None, 1e12)
        assert begun.pause.until <= Monotonic(asyncio.get_running_loop().time() + MAX_PAUSE_SECONDS)
        assert isinstance(run.controller.pauses.begin("nobody", seconds=9, reason="r", owner="o"), NotFound)
        assert isinstance(run.controller.pauses.lift("nobody", by="o"), NotFound)


async def test_a_paused_edit_does_not_become_the_baseline() -> None:
    api = ScriptedApi()
    async with Run(api, change_limit=ChangeLimit()) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(5)
        pause(run, None, 20_000)
        for step in (10, 20):
            edited = {**revision("live").allocations, **revision("b", KEYS[:step]).allocations}
            run.controller.activate(Revision(f"edit {step}", edited))
            await asyncio.sleep(7000)
        assert run.controller.status().awaiting_reason, "no update of the first edit was sent"
        assert not api.posts


async def test_a_pause_of_a_released_allocation_can_be_lifted() -> None:
    async with Run(ScriptedApi()) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(5)
        pause(run, ONE, 3600)
        run.controller.activate(revision("live", keys=tuple(key for key in KEYS if key != ONE)))
        await asyncio.sleep(5)
        assert run.controller.pauses.ends()["one"][0] == 1
        assert isinstance(run.controller.pauses.begin(ONE, seconds=1, reason="", owner=""), NotFound)
        assert lift(run, ONE).was_paused
        assert run.controller.pauses.ends()["one"][0] == 0
