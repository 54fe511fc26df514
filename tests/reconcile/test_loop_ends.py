"""How the loop ends, asked to or not: what is not sent any more, and what is not waited for."""

import asyncio

import pytest

from allocsync.planning.model import AllocationId
from allocsync.planning.record import IntentRecord
from allocsync.reconcile.loop import IDLE_SECONDS, STALL_SECONDS
from tests.reconcile.scripted import KEYS, Run, ScriptedApi, generation
from tests.reconcile.troubled import now

pytestmark = pytest.mark.looptime


async def test_a_stop_between_the_intent_and_the_request_keeps_the_update_from_leaving() -> None:
    api = ScriptedApi()
    run = Run(api)
    recorded = run.journal.intent

    async def intent(allocation: AllocationId, record: IntentRecord) -> int:
        sequence = await recorded(allocation, record)
        run.loop.stop()
        return sequence

    run.journal.intent = intent  # type: ignore[method-assign]  # SIGTERM comes while the disk is at work
    async with run:
        run.loop.adopt(generation())
        await asyncio.sleep(5)
    assert run.kinds("update_intended"), "it was about to leave"
    assert not api.posts
    assert {outcome for _, outcome in run.journal.outcomes} == {"not_sent"}
    assert {event.fields["reason"] for event in run.kinds("update_finished")} == {"the daemon is stopping"}
    (stopped,) = run.kinds("stopped")
    assert stopped.fields["open_intents"] == 0 == len(run.journal.open)


async def test_a_second_signal_neither_says_so_again_nor_makes_the_end_come_later() -> None:
    api = ScriptedApi()
    api.post_seconds = lambda _: 60.0
    async with Run(api) as run:
        run.loop.adopt(generation())
        await asyncio.sleep(5)
        assert api.under_way
        begun = now()
        run.loop.stop()
        await asyncio.sleep(15)
        run.loop.stop()
    assert now() - begun <= 20.1
    assert len(run.kinds("stopping")) == 1


async def test_a_stop_does_not_wait_for_a_bulk_answer() -> None:
    api = ScriptedApi()
    api.seconds = 60.0
    async with Run(api) as run:
        run.loop.adopt(generation())
        await asyncio.sleep(1)
        assert api.lists == 1
        begun = now()
    assert now() - begun < 1
    assert not run.kinds("resync_finished"), "it was under way"


async def test_a_dispatcher_that_has_died_is_a_stall_within_a_minute() -> None:
    run = Run(ScriptedApi())
    running = asyncio.create_task(run.loop.run())
    run.loop.adopt(generation("live", KEYS[:1]))
    await asyncio.sleep(300)
    assert run.loop.status().stalled is None
    running.cancel()
    await asyncio.sleep(IDLE_SECONDS + STALL_SECONDS + 1)
    assert running.cancelled()
    assert "the dispatcher has not turned for" in str(run.loop.status().stalled)
