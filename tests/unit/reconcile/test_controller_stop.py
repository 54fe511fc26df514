"""How the controller ends, by a stop or a failure: what it no longer sends and does not wait for."""

import asyncio

import pytest

from allocsync.model.condition import Condition
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import IntentRecord
from allocsync.model.times import Monotonic
from allocsync.reconcile import events
from allocsync.reconcile.controller import IDLE_SECONDS, STALL_SECONDS
from tests.support.failing_api import now
from tests.support.scripted_api import KEYS, Run, ScriptedApi, revision

pytestmark = pytest.mark.looptime


async def test_an_update_is_not_sent_if_a_stop_comes_after_its_intent() -> None:
    api = ScriptedApi()
    run = Run(api)
    recorded = run.journal.intent

    async def intent(allocation: AllocationId, record: IntentRecord) -> int:
        sequence = await recorded(allocation, record)
        run.controller.stop()
        return sequence

    run.journal.intent = intent  # type: ignore[method-assign]  # SIGTERM comes while the intent is written
    async with run:
        run.controller.activate(revision())
        await asyncio.sleep(5)
    assert run.events(events.UpdateIntended), "the update was about to be sent"
    assert not api.posts
    assert {outcome for _, outcome in run.journal.outcomes} == {"not_sent"}
    assert {event.reason for event in run.events(events.UpdateFinished)} == {"the daemon is stopping"}
    (stopped,) = run.events(events.Stopped)
    assert stopped.open_intents == 0 == len(run.journal.open)


async def test_a_second_stop_neither_emits_an_event_nor_delays_the_end() -> None:
    api = ScriptedApi()
    api.post_seconds = lambda _: 60.0
    async with Run(api) as run:
        run.controller.activate(revision())
        await asyncio.sleep(5)
        assert api.under_way
        begun = now()
        run.controller.stop()
        await asyncio.sleep(15)
        run.controller.stop()
    assert now() - begun <= 20.1
    assert len(run.events(events.Stopping)) == 1


async def test_a_stop_does_not_wait_for_the_list() -> None:
    api = ScriptedApi()
    api.seconds = 60.0
    async with Run(api) as run:
        run.controller.activate(revision())
        await asyncio.sleep(1)
        assert api.lists == 1
        begun = now()
    assert now() - begun < 1
    assert not run.events(events.ResyncFinished), "the list read was in flight"


async def test_a_dead_dispatcher_is_a_stall_within_a_minute() -> None:
    run = Run(ScriptedApi())
    running = asyncio.create_task(run.controller.run())
    run.controller.activate(revision("live", KEYS[:1]))
    await asyncio.sleep(300)
    assert run.controller.status().stalled is None
    running.cancel()
    await asyncio.sleep(IDLE_SECONDS + STALL_SECONDS + 1)
    assert running.cancelled()
    assert "the dispatcher has not run for" in str(run.controller.status().stalled)


async def test_an_update_cut_off_by_the_end_has_an_unknown_outcome() -> None:
    api = ScriptedApi()
    api.post_seconds = lambda _: 60.0
    async with Run(api) as run:
        run.controller.activate(revision("wanted", KEYS[:3]))
        await asyncio.sleep(5)
        assert len(api.posts) == 3
    assert run.count(Condition.OUTCOME_UNKNOWN) == len(run.journal.open) == 3
    (reason,) = {row.reason for row in run.controller.allocations()}
    assert reason == "allocsync ended before the answer came; nothing is sent before a read-back"


async def test_a_slow_disk_is_not_a_stall() -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        quick = run.journal.intent

        async def intent(allocation: AllocationId, record: IntentRecord) -> int:
            await asyncio.sleep(100)
            return await quick(allocation, record)

        run.journal.intent = intent  # type: ignore[method-assign]
        run.controller.activate(revision())
        await asyncio.sleep(95)
        assert api.reads
        assert not api.posts, "the intents are being written"
        assert run.controller.status().stalled is None
        run.journal.intent = quick  # type: ignore[method-assign]


async def test_without_allocations_the_dispatcher_waits_and_does_not_poll() -> None:
    run = Run(ScriptedApi())
    calls = 0

    def counted_now() -> Monotonic:
        nonlocal calls
        calls += 1
        return Monotonic(asyncio.get_running_loop().time())

    run.controller._clock.now = counted_now  # type: ignore[method-assign]  # noqa: SLF001 - each run of the dispatcher calls it
    async with run:
        await asyncio.sleep(600)
        assert 2 * 600 / IDLE_SECONDS <= calls < 1000


async def test_an_update_whose_intent_is_not_yet_written_at_the_end_is_not_unknown() -> None:
    api = ScriptedApi()
    async with Run(api) as run:

        async def intent(allocation: AllocationId, record: IntentRecord) -> int:
            await asyncio.sleep(1000)
            raise AssertionError(allocation, record)

        run.journal.intent = intent  # type: ignore[method-assign]
        run.controller.activate(revision("wanted", KEYS[:3]))
        await asyncio.sleep(5)
        assert api.reads
    assert not api.posts
    assert run.count(Condition.PENDING) == 3
    assert run.events(events.Stopped)[0].open_intents == 0
