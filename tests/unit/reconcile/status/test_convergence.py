"""How long it takes to be in sync is measured from its cause, and what holds updates back is counted."""

import asyncio

import pytest

from allocsync.errors import JournalUnavailable
from allocsync.model.api_answers import Failed, OutcomeUnknown
from allocsync.model.condition import Condition
from allocsync.model.times import Monotonic
from allocsync.planning.change_limit import ChangeLimit
from allocsync.planning.write_windows import parse_windows
from allocsync.reconcile import events
from allocsync.reconcile.status.convergence import HELD_BACK_BY, Convergence
from tests.support.failing_api import now
from tests.support.scripted_allocation import A, ScriptedAllocation, wanted
from tests.support.scripted_api import KEYS, WALL_OFFSET_SECONDS, Run, ScriptedApi, revision

pytestmark = pytest.mark.looptime
ONE = KEYS[7]


def converged(run: Run) -> list[tuple[str, str, object]]:
    return [(event.allocation, event.cause, round(event.seconds)) for event in run.events(events.Converged)]


def held_back(run: Run) -> dict[str, int]:
    """What holds updates back, and how many."""
    return {by: number for by, number in run.controller.status().held_back.items() if number}


def drift(api: ScriptedApi, *keys: str) -> None:
    for key in keys:
        api.truth[key] = {**api.truth[key], "region": "drift"}


async def test_the_time_to_be_in_sync_counts_from_the_start_from_an_edit_and_from_when_drift_is_seen() -> (
    None
):
    api = ScriptedApi(bulk=False, keys=(ONE,))
    async with Run(api) as run:
        run.controller.activate(revision("live", keys=(ONE,)))
        await asyncio.sleep(2)
        assert converged(run) == [(ONE, "first", 0)]
        api.post_seconds = lambda _key: 20.0
        run.controller.activate(revision("edited", keys=(ONE,)))
        await asyncio.sleep(10)
        since = run.controller.status().oldest_unconverged_at
        assert since is not None
        assert round(now() + WALL_OFFSET_SECONDS - float(since)) == 10
        await asyncio.sleep(30)
        assert run.controller.status().oldest_unconverged_at is None
        assert converged(run)[1:] == [(ONE, "edit", pytest.approx(21, abs=1))]
        drift(api, ONE)
        await asyncio.sleep(700)
        assert converged(run)[2:] == [(ONE, "drift", pytest.approx(21, abs=1))]
        causes = [event.cause for event in run.events(events.UpdateFinished)]
        assert causes == ["edit", "drift"]


async def test_an_edit_while_drift_is_repaired_begins_anew_and_a_try_after_a_failure_is_a_retry() -> None:
    api = ScriptedApi(bulk=False, keys=(ONE,))
    async with Run(api) as run:
        run.controller.activate(revision("live", keys=(ONE,)))
        await asyncio.sleep(2)
        drift(api, ONE)
        unanswered = [OutcomeUnknown("504", 504)]
        api.on_update = lambda _key, _body: unanswered.pop() if unanswered else None
        while run.count(Condition.IN_SYNC):
            await asyncio.sleep(1)
        await asyncio.sleep(5)
        run.controller.activate(revision("edited", keys=(ONE,)))
        await asyncio.sleep(3)
        run.controller.activate(revision("edited again", keys=(ONE,)))
        edited = now()
        while not run.count(Condition.IN_SYNC):
            await asyncio.sleep(1)
        (_, cause, seconds) = converged(run)[-1]
        assert cause == "edit"
        assert seconds == pytest.approx(now() - edited, abs=1.5)
        drift(api, ONE)
        unanswered.append(OutcomeUnknown("504", 504))
        await asyncio.sleep(700)
        causes = [event.cause for event in run.events(events.UpdateFinished)]
        assert causes == ["drift", "edit", "drift", "retry"]
        assert [cause for _, cause, _ in converged(run)] == ["first", "edit", "drift"]


async def test_what_cannot_be_read_for_long_does_not_count_as_drift() -> None:
    api = ScriptedApi(bulk=False, keys=(ONE,))
    async with Run(api) as run:
        run.controller.activate(revision("live", keys=(ONE,)))
        await asyncio.sleep(2)
        api.on_snapshot = lambda _key: Failed("no connection", unreachable=True)
        while run.count(Condition.IN_SYNC):
            await asyncio.sleep(10)
        assert run.controller.status().oldest_unconverged_at is None
        api.on_snapshot = lambda _key: None
        while not run.count(Condition.IN_SYNC):
            await asyncio.sleep(10)
        assert converged(run) == [(ONE, "first", 0)]


async def test_each_condition_tells_since_when_the_slowest_has_it() -> None:
    api = ScriptedApi(bulk=False)
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(60)
        assert run.controller.status().oldest_conditions == {}
        api.on_update = lambda _key, _body: OutcomeUnknown("504", 504)
        drift(api, KEYS[3])
        run.controller.sync()
        await asyncio.sleep(2)
        drift(api, KEYS[4])
        run.controller.sync()
        await asyncio.sleep(12)
        oldest = run.controller.status().oldest_conditions[Condition.OUTCOME_UNKNOWN]
        unknown = [row for row in run.controller.allocations() if row.condition is Condition.OUTCOME_UNKNOWN]
        assert len(unknown) == 2
        assert oldest == min(row.since for row in unknown)
        run.controller.activate(revision("live", keys=KEYS[5:]))
        api.on_update = lambda _key, _body: None
        await asyncio.sleep(100)
        assert run.controller.status().oldest_conditions == {}


async def test_what_holds_updates_back_is_counted_by_its_cause() -> None:
    api = ScriptedApi(bulk=False)
    async with Run(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(60)
        assert held_back(run) == {}
        run.controller.pauses.begin(None, seconds=3600, reason="", owner="")
        drift(api, *KEYS[:3])
        run.controller.sync()
        await asyncio.sleep(10)
        assert held_back(run) == {"pause": 3}
        assert run.controller.status().oldest_unconverged_at is None, "nobody waits for allocsync"
        run.controller.pauses.lift(None, by="")
        await asyncio.sleep(10)
        assert held_back(run) == {}
        assert len(api.posts) == 3
        assert max(event.seconds for event in run.events(events.Converged)) < 10


async def test_approval_and_errors_in_an_entry_are_counted_and_forgotten_with_the_allocation() -> None:
    api = ScriptedApi(bulk=False)
    async with Run(api, change_limit=ChangeLimit(percent=10)) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(400)
        run.controller.activate(revision("much"))
        await asyncio.sleep(5)
        assert held_back(run) == {"approval": len(KEYS)}
        run.controller.activate(revision("live"))
        await asyncio.sleep(5)
        assert held_back(run) == {}
        run.controller.activate(revision("live", keys=KEYS[1:], quarantined={KEYS[0]: ("line 3: no",)}))
        await asyncio.sleep(5)
        assert held_back(run) == {"entry": 1}


async def test_a_journal_that_cannot_be_written_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> int:
        raise JournalUnavailable("the disk is full")

    async with Run(ScriptedApi(bulk=False, keys=(ONE,))) as run:
        monkeypatch.setattr(run.journal, "intent", fail)
        run.controller.activate(revision(keys=(ONE,)))
        await asyncio.sleep(5)
        assert held_back(run) == {"journal": 1}


def test_write_windows_and_quota_are_told_apart() -> None:
    scripted, convergence = ScriptedAllocation(wanted(**A)), Convergence()
    scripted.read({"region": "drift"})
    allocation = scripted.allocation
    allocation.write_gate.windows = parse_windows("Mon 00:00-00:01")
    convergence.update(allocation, Condition.BLOCKED, Monotonic(0.0))
    assert {by: count for by, count in convergence.held_back.items() if count} == {"windows": 1}
    convergence.forget(allocation.id)
    assert convergence.held_back == dict.fromkeys(HELD_BACK_BY, 0)
    assert convergence.oldest_at() is None
