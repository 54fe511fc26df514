"""Retry wake-ups: which failing allocations wait, and which retry at once when another one succeeds."""

import asyncio
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.model.api_answers import Live, OutcomeUnknown
from allocsync.model.cloud import Cloud
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Desired, Revision
from allocsync.model.ids import AllocationId
from allocsync.model.times import Monotonic, WallTime
from allocsync.reconcile import events
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.operation import Operation
from allocsync.reconcile.scheduling.circuit_breaker import MIN_FAILURES, MIN_KEYS, SILENT_SECONDS
from allocsync.reconcile.scheduling.concurrency import MAX_LIMIT, ConcurrencyLimits
from allocsync.reconcile.scheduling.retry_wakeup import WAKEUPS_PER_SUCCESS, RetryWakeup
from allocsync.reconcile.scheduling.scheduler import SPREAD_SECONDS, Scheduler
from allocsync.reconcile.scheduling.work_queue import WorkQueue
from allocsync.reconcile.status.explain import Explanation
from tests.support.failing_api import DEAD, TIMEOUT, named, now, real_run
from tests.support.scripted_allocation import new_allocation
from tests.support.scripted_api import ScriptedApi, VirtualClock, revision

STORM_SECONDS = 60.0
SETTLE_SECONDS = 10.0


def wakeup_after_failures(*keys: int) -> RetryWakeup[int]:
    wakeup: RetryWakeup[int] = RetryWakeup()
    for key in keys:
        wakeup.record_failure(key)
    return wakeup


def test_a_success_of_a_failing_key_wakes_the_longest_waiting_one() -> None:
    wakeup = wakeup_after_failures(1, 2, 3, 1)
    assert [*wakeup.record_success(3)] == [2]
    assert [*wakeup.record_success(2)] == [1]
    assert [*wakeup.record_success(1)] == [], "no key is left"


def test_a_success_of_a_key_that_had_not_failed_wakes_none() -> None:
    wakeup = wakeup_after_failures(1, 2)
    assert [*wakeup.record_success(3)] == []
    assert [*wakeup.record_success(1)] == [2]
    assert [*wakeup.record_success(1)] == [], "it has succeeded since its failure"


def test_a_woken_key_that_fails_waits_behind_all_others() -> None:
    wakeup = wakeup_after_failures(1, 2, 3)
    assert [*wakeup.record_success(3)] == [1]
    wakeup.record_failure(1)
    wakeup.record_failure(4)
    assert [*wakeup.record_success(4)] == [2]
    assert [*wakeup.record_success(2)] == [1]


def test_a_woken_key_without_a_request_passes_its_wakeup_on() -> None:
    wakeup = wakeup_after_failures(1, 2, 3, 4)
    assert [*wakeup.withdraw(4)] == [], "it was not woken"
    assert [*wakeup.record_success(3)] == [1]
    assert [*wakeup.withdraw(1)] == [2]
    assert [*wakeup.withdraw(5)] == [], "it never failed"


EVENTS = st.lists(
    st.tuples(st.sampled_from(["failed", "succeeded", "withdrawn"]), st.integers(0, 5)), max_size=200
)


@given(EVENTS)
def test_each_success_of_a_failing_key_wakes_one_waiting_key_and_no_other(
    events: list[tuple[str, int]],
) -> None:
    wakeup: RetryWakeup[int] = RetryWakeup()
    failing: dict[int, bool] = {}  # whether each failing key has been woken
    for what, key in events:
        if what == "failed":
            wakeup.record_failure(key)
            failing[key] = False
            continue
        woken = [*(wakeup.record_success(key) if what == "succeeded" else wakeup.withdraw(key))]
        wakes = key in failing if what == "succeeded" else failing.get(key, False)
        failing.pop(key, None)
        assert len(woken) == (WAKEUPS_PER_SUCCESS if wakes and False in failing.values() else 0)
        for each in woken:
            assert failing[each] is False
            failing[each] = True


def fail_during_storm(
    api: ScriptedApi, failed: list[bool], *, share: float, applied: float
) -> Callable[[str, Cloud], OutcomeUnknown | None]:
    """During the storm this share of updates ends with a 504; the share `applied` of these is applied."""
    chance = random.Random(5)

    def answer(key: str, body: Cloud) -> OutcomeUnknown | None:
        failed.append(now() < STORM_SECONDS and chance.random() < share)
        if failed[-1] and chance.random() < applied:
            api.truth[AllocationId(key)] = dict(body)
        return TIMEOUT if failed[-1] else None

    return answer


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("number", "post_seconds", "share", "applied"),
    [
        (600, 0.02, 0.8, 0.5),
        pytest.param(600, 0.02, 0.5, 0.0, marks=pytest.mark.slow),
        pytest.param(1000, 0.1, 0.8, 0.5, marks=pytest.mark.slow),
        (1000, 0.1, 0.5, 0.0),
    ],
)
async def test_backoffs_do_not_outlast_a_storm_in_which_some_updates_succeed(
    number: int, post_seconds: float, share: float, applied: float
) -> None:
    keys, failed = named(number), list[bool]()
    api = ScriptedApi(keys=keys)
    api.read_seconds, api.post_seconds = lambda _: 0.02, lambda _: post_seconds
    api.on_update = fail_during_storm(api, failed, share=share, applied=applied)
    async with real_run(api) as run:
        run.controller.activate(revision(keys=keys))
        await asyncio.sleep(STORM_SECONDS)
        assert sum(failed) > number / 2
        assert not run.events(events.BreakerOpened), "some updates succeed"
        explanations = [
            found for key in keys if isinstance(found := run.controller.explain(key), Explanation)
        ]
        until = max(found.no_update_before or WallTime(0.0) for found in explanations)
        assert until > VirtualClock().wall() + 2 * SETTLE_SECONDS, "some updates wait for a backoff"
        await asyncio.sleep(2 * SETTLE_SECONDS)
        assert run.count(Condition.IN_SYNC) == number


@pytest.mark.looptime
async def test_an_allocation_that_fails_by_itself_is_not_woken_by_healthy_ones() -> None:
    keys = named(40)
    failing_keys = keys[::10]
    api = ScriptedApi(keys=keys)
    api.on_update = lambda key, _: TIMEOUT if key in failing_keys else None
    async with real_run(api) as run:
        for number in range(60):
            wanted = {key: "stays" if key in failing_keys else f"edit{number}" for key in keys}
            desired = {key: Desired(key, (("region", region),)) for key, region in wanted.items()}
            run.controller.activate(Revision(str(number), desired))
            await asyncio.sleep(5.0)
    tried = sum(key in failing_keys for _, key in api.posts)
    succeeded = len(api.posts) - tried
    assert succeeded > 50 * (len(keys) - len(failing_keys))
    assert tried <= 10 * len(failing_keys), "without the backoff there would be 30 each in five minutes"


def new_scheduler(allocations: dict[AllocationId, ManagedAllocation]) -> Scheduler:
    return Scheduler(WorkQueue(), ConcurrencyLimits(MAX_LIMIT), allocations)


def test_a_released_allocation_passes_its_wakeup_on() -> None:
    first, second, third = allocations = [new_allocation(key) for key in named(3)]
    scheduler = new_scheduler({allocation.id: allocation for allocation in allocations})
    for allocation in allocations:
        allocation.read_failures, allocation.next_read_at = 6, Monotonic(300.0)
        scheduler.record_response(
            allocation,
            Operation.READ,
            DEAD,
            begun=Monotonic(0.0),
            now=Monotonic(0.0),
            uniform=lambda _, high: high,
        )
    scheduler.record_response(
        third,
        Operation.READ,
        Live({}),
        begun=Monotonic(1.0),
        now=Monotonic(1.0),
        uniform=lambda _, high: high,
    )
    assert (first.next_read_at < Monotonic(2.0), second.next_read_at) == (True, Monotonic(300.0))
    scheduler.forget(first.id, Monotonic(1.0), lambda _, high: high)
    assert second.next_read_at < Monotonic(2.0)


@pytest.mark.parametrize(
    ("failing", "within_seconds"), [(MIN_KEYS, 0.05), (40, 0.4), (2_000, SPREAD_SECONDS)]
)
def test_many_forgiven_allocations_come_back_spread_out_and_a_few_come_back_at_once(
    failing: int, within_seconds: float
) -> None:
    allocations = [new_allocation(key) for key in named(failing)]
    scheduler = new_scheduler({allocation.id: allocation for allocation in allocations})
    for number in range(failing + MIN_FAILURES):
        allocation = allocations[number % failing]
        allocation.read_failures, allocation.next_read_at = allocation.read_failures + 1, Monotonic(300.0)
        scheduler.record_response(
            allocation,
            Operation.READ,
            DEAD,
            begun=Monotonic(1.0),
            now=Monotonic(1.0),
            uniform=lambda _, high: high,
        )
    change = scheduler.record_response(
        allocations[0],
        Operation.READ,
        DEAD,
        begun=Monotonic(1.0),
        now=Monotonic(1.0 + SILENT_SECONDS),
        uniform=lambda _, high: high,
    )
    assert change is not None
    assert change.opened
    assert {allocation.next_read_at for allocation in allocations} == {
        Monotonic(1.0 + SILENT_SECONDS + within_seconds)
    }
