"""What limits all updates together: so many an hour, and windows of the week; on virtual time."""

import asyncio
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.model.condition import Condition
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import IntentRecord
from allocsync.planning.write_windows import parse_windows
from allocsync.reconcile import checkpoint_codecs as codecs
from allocsync.reconcile import events
from allocsync.reconcile.gates.pause import Pause
from allocsync.reconcile.gates.write_gate import WriteGate
from allocsync.reconcile.gates.write_quota import HOUR, WriteQuota
from allocsync.reconcile.parameters import Parameters
from tests.support.scripted_api import KEYS, Run, ScriptedApi, revision

ONE = AllocationId("one")
looptime = pytest.mark.looptime


@given(st.integers(1, 8), st.lists(st.floats(0, 2000), max_size=60), st.sets(st.integers(0, 60)))
def test_no_hour_has_more_than_the_limit_over_restarts_too(
    most: int, waits: list[float], restarts: set[int]
) -> None:
    write_quota, now, sent = WriteQuota(most), 0.0, list[float]()
    for number, wait in enumerate(waits):
        now += wait
        if number in restarts:
            clocks = codecs.Clocks(1e9, now)
            kept, write_quota = codecs.encode_write_quota(write_quota, clocks), WriteQuota(most)
            if kept is not None:
                write_quota.spent = codecs.decode_write_quota(kept, clocks)
        if not write_quota.empty(now):
            write_quota.spend(ONE, now)
            sent.append(now)
        assert sum(now - HOUR < at <= now for at in sent) <= most
        next_turn = write_quota.next_turn(ONE, now)
        assert next_turn <= now + HOUR + 60.001
        assert next_turn == float("-inf") or not write_quota.empty(next_turn + 0.001)


def test_without_a_limit_it_is_never_empty_and_remembers_nothing() -> None:
    write_quota = WriteQuota()
    for _ in range(1000):
        write_quota.spend(ONE, 1.0)
    assert not write_quota.empty(1.0)
    assert codecs.encode_write_quota(write_quota, codecs.Clocks(0.0, 1.0)) is None


@looptime
@pytest.mark.parametrize("bulk", [True, False])
async def test_ten_updates_an_hour_are_ten_and_the_rest_follows(*, bulk: bool) -> None:
    api = ScriptedApi(bulk=bulk)
    rules = Parameters(writes_per_hour=10)
    async with Run(api, rules=rules) as run:
        run.controller.activate(revision())
        await asyncio.sleep(600)
        assert len(api.posts) == 10
        assert run.count(Condition.BLOCKED) == len(KEYS) - 10
        (reason,) = {row.reason for row in run.controller.allocations() if row.condition is Condition.BLOCKED}
        assert reason == "10 updates in an hour are all that ALLOCSYNC_MAX_WRITES_PER_HOUR allows"
        assert len(run.events(events.UpdateIntended)) < 10 + 2 * 8, "it asks before it writes things down"
    async with Run(api, rules=rules, before=run) as again:
        again.controller.activate(revision())
        await asyncio.sleep(1200)
        assert len(api.posts) == 10, "a restart gives no new ones"
        before, lists = len(api.reads), api.lists
        await asyncio.sleep(4 * HOUR)
        assert again.count(Condition.IN_SYNC) == len(KEYS)
        assert len(api.posts) == len(KEYS)
        times = [at for at, _ in api.posts]
        assert all(late - early > HOUR for early, late in zip(times, times[10:], strict=False))
        checks = 3 * (api.lists - lists)  # of what the bulk answer called in sync
        assert len(api.reads) - before < checks + 5 * len(KEYS) or not bulk, "not all come for each token"


@looptime
async def test_outside_the_windows_everything_is_looked_at_and_nothing_sent() -> None:
    api = ScriptedApi()
    async with Run(api, rules=Parameters(windows=parse_windows("Sun-Mon 02:00-02:10"))) as run:
        run.controller.activate(revision())  # it is Sunday, 01:46:40
        await asyncio.sleep(780)
        assert {key for _, key in api.reads} == {*KEYS}
        assert not api.posts
        assert run.count(Condition.BLOCKED) == len(KEYS)
        (reason,) = {row.reason for row in run.controller.allocations()}
        assert reason.endswith("the windows of ALLOCSYNC_WRITE_WINDOWS alone: Sun-Mon 02:00-02:10 UTC")
        await asyncio.sleep(60)
        assert len(api.posts) == len(KEYS)
        assert min(at for at, _ in api.posts) >= 800
        assert run.count(Condition.IN_SYNC) == len(KEYS)
        await asyncio.sleep(600)
        api.truth[KEYS[0]] = {**api.truth[KEYS[0]], "region": "drift"}
        await asyncio.sleep(22 * HOUR)
        assert len(api.posts) == len(KEYS), "closed again for a day"
        await asyncio.sleep(2 * HOUR)
        assert len(api.posts) == len(KEYS) + 1
        assert all(early <= late for (early, _), (late, _) in pairwise(api.posts))


def test_each_token_that_comes_back_has_one_turn_and_the_rest_come_with_the_last() -> None:
    write_quota = WriteQuota(3)
    for now in (0.0, 100.0, 200.0):
        write_quota.spend(ONE, now)
    keys = [AllocationId(name) for name in "abcde"]
    turns = [write_quota.next_turn(key, 300.0) for key in keys]
    assert turns == [3660.0, 3760.0, 3860.0, 3860.0, 3860.0]
    assert [write_quota.next_turn(key, 400.0) for key in reversed(keys)] == turns[::-1], "a turn is kept"


@looptime
async def test_many_that_were_planned_for_the_last_token_are_stopped_just_before_sending() -> None:
    api = ScriptedApi()
    async with Run(api, rules=Parameters(writes_per_hour=1)) as run:
        quick = run.journal.intent

        async def intent(allocation: AllocationId, record: IntentRecord) -> int:
            await asyncio.sleep(0.1)
            return await quick(allocation, record)

        run.journal.intent = intent  # type: ignore[method-assign]  # the disk is slow
        run.controller.activate(revision())
        await asyncio.sleep(600)
        assert len(run.events(events.UpdateIntended)) > 1, "several were about to leave"
        assert len(api.posts) == 1
        assert [outcome for _, outcome in run.journal.outcomes].count("not_sent") >= 1


def test_what_is_held_or_paused_takes_no_turn_from_those_that_wait_for_the_budget() -> None:
    write_quota = WriteQuota(3)
    for now in (0.0, 100.0, 200.0):
        write_quota.spend(ONE, now)
    held, paused, waiting = AllocationId("held"), AllocationId("paused"), AllocationId("waiting")
    pause = Pause(until=9e9, ends_at=9e9, ends="later", reason="r", owner="o")
    write_gate = WriteGate(write_quota=write_quota, awaiting_approval={held}, pauses={paused: pause})
    assert [write_gate.until(key, 300.0) for key in (held, paused, waiting)] == [inf, 9e9, 3660.0]
