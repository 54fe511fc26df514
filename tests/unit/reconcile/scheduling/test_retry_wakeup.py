"""Who waits after a failure, and who goes at once because another one got through."""

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
from allocsync.reconcile import events
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.operation import Operation
from allocsync.reconcile.scheduling.circuit_breaker import FAILURES, KEYS, SILENT_SECONDS
from allocsync.reconcile.scheduling.concurrency import MOST, ConcurrencyLimits
from allocsync.reconcile.scheduling.retry_wakeup import CALLS, RetryWakeup
from allocsync.reconcile.scheduling.scheduler import SPREAD_SECONDS, Scheduler
from allocsync.reconcile.scheduling.work_queue import WorkQueue
from allocsync.reconcile.status.explain import Explanation
from tests.support.failing_api import DEAD, TIMEOUT, named, now, real_run
from tests.support.scripted_allocation import new_allocation
from tests.support.scripted_api import ScriptedApi, VirtualClock, revision

STORM_SECONDS = 60.0
SETTLE_SECONDS = 10.0


def waiting(*keys: int) -> RetryWakeup[int]:
    recovery: RetryWakeup[int] = RetryWakeup()
    for key in keys:
        recovery.failed(key)
    return recovery


def test_one_that_failed_and_is_served_calls_the_one_that_has_waited_longest() -> None:
    recovery = waiting(1, 2, 3, 1)
    assert [*recovery.served(3)] == [2]
    assert [*recovery.served(2)] == [1]
    assert [*recovery.served(1)] == [], "nobody is left"


def test_one_that_had_not_failed_calls_nobody() -> None:
    recovery = waiting(1, 2)
    assert [*recovery.served(3)] == []
    assert [*recovery.served(1)] == [2]
    assert [*recovery.served(1)] == [], "it had been served since"


def test_one_that_was_called_and_fails_waits_behind_all_others() -> None:
    recovery = waiting(1, 2, 3)
    assert [*recovery.served(3)] == [1]
    recovery.failed(1)
    recovery.failed(4)
    assert [*recovery.served(4)] == [2]
    assert [*recovery.served(2)] == [1]


def test_one_that_has_nothing_to_ask_any_more_passes_its_call_on() -> None:
    recovery = waiting(1, 2, 3, 4)
    assert [*recovery.done(4)] == [], "it was not called"
    assert [*recovery.served(3)] == [1]
    assert [*recovery.done(1)] == [2]
    assert [*recovery.done(5)] == [], "it never failed"


EVENTS = st.lists(st.tuples(st.sampled_from(["failed", "served", "done"]), st.integers(0, 5)), max_size=200)


@given(EVENTS)
def test_only_those_are_called_that_failed_last_and_one_for_each_that_is_served(
    events: list[tuple[str, int]],
) -> None:
    recovery: RetryWakeup[int] = RetryWakeup()
    known: dict[int, bool] = {}  # whether each has been called since it failed
    for what, key in events:
        if what == "failed":
            recovery.failed(key)
            known[key] = False
            continue
        called = [*(recovery.served(key) if what == "served" else recovery.done(key))]
        calls = key in known if what == "served" else known.get(key, False)
        known.pop(key, None)
        assert len(called) == (CALLS if calls and False in known.values() else 0)
        for each in called:
            assert known[each] is False
            known[each] = True


def stormy(
    api: ScriptedApi, failed: list[bool], *, share: float, applied: float
) -> Callable[[str, Cloud], OutcomeUnknown | None]:
    """So large a share of updates ends with a 504 while the storm lasts, and of these so many are applied."""
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
async def test_backoffs_do_not_outlast_a_storm_in_which_some_are_served(
    number: int, post_seconds: float, share: float, applied: float
) -> None:
    keys, failed = named(number), list[bool]()
    api = ScriptedApi(keys=keys)
    api.read_seconds, api.post_seconds = lambda _: 0.02, lambda _: post_seconds
    api.on_update = stormy(api, failed, share=share, applied=applied)
    async with real_run(api) as run:
        run.controller.activate(revision(keys=keys))
        await asyncio.sleep(STORM_SECONDS)
        assert sum(failed) > number / 2
        assert not run.events(events.BreakerOpened), "some are served"
        known = [scripted for key in keys if isinstance(scripted := run.controller.explain(key), Explanation)]
        until = max(scripted.no_update_before or 0.0 for scripted in known)
        assert until > VirtualClock().wall() + 2 * SETTLE_SECONDS, "backoffs hold some up"
        await asyncio.sleep(2 * SETTLE_SECONDS)
        assert run.count(Condition.IN_SYNC) == number


@pytest.mark.looptime
async def test_what_fails_by_itself_is_not_called_by_healthy_ones() -> None:
    keys = named(40)
    poison = keys[::10]
    api = ScriptedApi(keys=keys)
    api.on_update = lambda key, _: TIMEOUT if key in poison else None
    async with real_run(api) as run:
        for number in range(60):
            wanted = {key: "stays" if key in poison else f"edit{number}" for key in keys}
            desired = {key: Desired(key, (("region", region),)) for key, region in wanted.items()}
            run.controller.activate(Revision(str(number), desired))
            await asyncio.sleep(5.0)
    tried = sum(key in poison for _, key in api.posts)
    served = len(api.posts) - tried
    assert served > 50 * (len(keys) - len(poison))
    assert tried <= 10 * len(poison), "five minutes have room for 30 each, but for the backoff"


def admitted(allocations: dict[AllocationId, ManagedAllocation]) -> Scheduler:
    return Scheduler(WorkQueue(), ConcurrencyLimits(MOST), allocations)


def test_an_allocation_that_is_declared_no_more_passes_its_call_on() -> None:
    first, second, third = allocations = [new_allocation(key) for key in named(3)]
    admission = admitted({allocation.id: allocation for allocation in allocations})
    for allocation in allocations:
        allocation.read_failures, allocation.next_read_at = 6, 300.0
        admission.record_response(
            allocation, Operation.READ, DEAD, begun=0.0, now=0.0, uniform=lambda _, most: most
        )
    admission.record_response(
        third, Operation.READ, Live({}), begun=1.0, now=1.0, uniform=lambda _, most: most
    )
    assert (first.next_read_at < 2.0, second.next_read_at) == (True, 300.0)
    admission.forget(first.id, 1.0, lambda _, most: most)
    assert second.next_read_at < 2.0


@pytest.mark.parametrize(("failing", "within_seconds"), [(KEYS, 0.05), (40, 0.4), (2_000, SPREAD_SECONDS)])
def test_many_come_back_one_after_the_other_and_a_few_at_once(failing: int, within_seconds: float) -> None:
    allocations = [new_allocation(key) for key in named(failing)]
    admission = admitted({allocation.id: allocation for allocation in allocations})
    for number in range(failing + FAILURES):
        allocation = allocations[number % failing]
        allocation.read_failures, allocation.next_read_at = allocation.read_failures + 1, 300.0
        admission.record_response(
            allocation, Operation.READ, DEAD, begun=1.0, now=1.0, uniform=lambda _, most: most
        )
    turned = admission.record_response(
        allocations[0],
        Operation.READ,
        DEAD,
        begun=1.0,
        now=1.0 + SILENT_SECONDS,
        uniform=lambda _, most: most,
    )
    assert turned is not None
    assert turned.opened
    assert {allocation.next_read_at for allocation in allocations} == {1.0 + SILENT_SECONDS + within_seconds}
