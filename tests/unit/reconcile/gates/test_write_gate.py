"""The limits of all updates together: the write quota and the write windows, in virtual time."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.model.condition import Condition
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import IntentRecord
from allocsync.model.times import LONG_AGO, NEVER, Monotonic, WallTime
from allocsync.planning.write_windows import parse_windows
from allocsync.reconcile import checkpoint_codecs as codecs
from allocsync.reconcile import events
from allocsync.reconcile.gates.pause import Pause
from allocsync.reconcile.gates.write_gate import WriteGate
from allocsync.reconcile.gates.write_quota import HOUR, WriteQuota
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.scheduling.reachability import HEARTBEAT_READS
from tests.support.scripted_api import KEYS, Run, ScriptedApi, revision

ONE = AllocationId("one")
looptime = pytest.mark.looptime


@given(st.integers(1, 8), st.lists(st.floats(0, 2000), max_size=60), st.sets(st.integers(0, 60)))
def test_no_hour_has_more_updates_than_the_quota_across_restarts_too(
    max_per_hour: int, waits: list[float], restarts: set[int]
) -> None:
    write_quota, now, sent = WriteQuota(max_per_hour), Monotonic(0.0), list[Monotonic]()
    for number, wait in enumerate(waits):
        now += wait
        if number in restarts:
            clocks = codecs.Clocks(1e9, now)
            kept, write_quota = codecs.encode_write_quota(write_quota, clocks), WriteQuota(max_per_hour)
            if kept is not None:
                write_quota.restore(codecs.decode_write_quota(kept, clocks))
        if not write_quota.is_exhausted(now):
            write_quota.spend(ONE, now)
            sent.append(now)
        assert sum(now - HOUR < at <= now for at in sent) <= max_per_hour
        turn_at = write_quota.reserve_turn(ONE, now)
        assert turn_at <= now + HOUR + 60.001
        assert turn_at == LONG_AGO or not write_quota.is_exhausted(turn_at + 0.001)


def test_a_quota_without_a_limit_is_never_used_up_and_stores_nothing() -> None:
    write_quota = WriteQuota()
    for _ in range(1000):
        write_quota.spend(ONE, Monotonic(1.0))
    assert not write_quota.is_exhausted(Monotonic(1.0))
    assert codecs.encode_write_quota(write_quota, codecs.Clocks(0.0, Monotonic(1.0))) is None


@looptime
@pytest.mark.parametrize("bulk", [True, False])
async def test_the_quota_lets_ten_updates_an_hour_through_and_the_others_follow(*, bulk: bool) -> None:
    api = ScriptedApi(bulk=bulk)
    rules = Parameters(writes_per_hour=10)
    async with Run(api, rules=rules) as run:
        run.controller.activate(revision())
        await asyncio.sleep(600)
        assert len(api.posts) == 10
        assert run.count(Condition.BLOCKED) == len(KEYS) - 10
        (reason,) = {row.reason for row in run.controller.allocations() if row.condition is Condition.BLOCKED}
        quota = "write quota used up: ALLOCSYNC_MAX_WRITES_PER_HOUR allows 10 updates in an hour"
        assert reason == f"{quota}; the next at 02:47:40Z", "61 minutes after 01:46:40"
        assert len(run.events(events.UpdateIntended)) < 10 + 2 * 8, (
            "the gate is checked before an intent is recorded"
        )
    async with Run(api, rules=rules, before=run) as again:
        again.controller.activate(revision())
        await asyncio.sleep(1200)
        assert len(api.posts) == 10, "a restart returns no tokens"
        before, lists = len(api.reads), api.lists
        await asyncio.sleep(4 * HOUR)
        assert again.count(Condition.IN_SYNC) == len(KEYS)
        assert len(api.posts) == len(KEYS)
        times = [at for at, _ in api.posts]
        assert all(late - early > HOUR for early, late in zip(times, times[10:], strict=False))
        checks = 3 * (api.lists - lists)  # of allocations that are in sync by the list
        heartbeats = HEARTBEAT_READS * 4 * HOUR / Parameters().heartbeat_seconds
        assert len(api.reads) - before < checks + heartbeats + 5 * len(KEYS) or not bulk, (
            "not all allocations try for each token"
        )


@looptime
async def test_outside_the_windows_everything_is_read_and_nothing_is_sent() -> None:
    api = ScriptedApi()
    async with Run(api, rules=Parameters(windows=parse_windows("Sun-Mon 02:00-02:10"))) as run:
        run.controller.activate(revision())  # it is Sunday, 01:46:40
        await asyncio.sleep(780)
        assert {key for _, key in api.reads} == {*KEYS}
        assert not api.posts
        assert run.count(Condition.BLOCKED) == len(KEYS)
        (reason,) = {row.reason for row in run.controller.allocations()}
        assert reason.endswith(
            "ALLOCSYNC_WRITE_WINDOWS allows updates in Sun-Mon 02:00-02:10 UTC; the next opens Sun 02:00"
        )
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


def test_each_returning_token_has_one_turn_and_further_turns_are_at_the_last_token() -> None:
    write_quota = WriteQuota(3)
    for now in (0.0, 100.0, 200.0):
        write_quota.spend(ONE, Monotonic(now))
    keys = [AllocationId(name) for name in "abcde"]
    turns = [write_quota.reserve_turn(key, Monotonic(300.0)) for key in keys]
    assert turns == [Monotonic(at) for at in (3660.0, 3760.0, 3860.0, 3860.0, 3860.0)]
    assert [write_quota.reserve_turn(key, Monotonic(400.0)) for key in reversed(keys)] == turns[::-1], (
        "a turn is kept"
    )


@looptime
async def test_updates_planned_for_the_same_token_are_aborted_just_before_sending() -> None:
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


def test_allocations_awaiting_approval_or_paused_reserve_no_turn() -> None:
    write_quota = WriteQuota(3)
    for now in (0.0, 100.0, 200.0):
        write_quota.spend(ONE, Monotonic(now))
    unapproved, paused, waiting = AllocationId("unapproved"), AllocationId("paused"), AllocationId("waiting")
    pause = Pause(until=Monotonic(9e9), ends_at=WallTime(9e9), ends="later", reason="r", owner="o")
    write_gate = WriteGate(write_quota=write_quota, awaiting_approval={unapproved}, pauses={paused: pause})
    assert [write_gate.earliest_write_at(key, Monotonic(300.0)) for key in (unapproved, paused, waiting)] == [
        NEVER,
        pause.until,
        Monotonic(3660.0),
    ]
