"""A cache answers reads for a minute: what its answers may prove, and that it ends in one POST."""

import asyncio
import random
from collections.abc import Mapping
from math import inf

import pytest

from allocsync.model.api_answers import Accepted, Live, Missing, OutcomeUnknown, Snapshot, UpdateAnswer
from allocsync.model.cloud import Cloud, Json
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Desired, Mode, Revision
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import OpenIntent
from allocsync.model.times import NEVER, Monotonic, WallTime
from allocsync.planning.change_limit import NO_LIMIT
from allocsync.reconcile import events
from allocsync.reconcile.allocation.updates import Decision
from allocsync.reconcile.cached_reads import REPORT_EVERY_SECONDS
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.resync import BulkPolicy
from allocsync.reconcile.status.condition_rules import project
from tests.support.scripted_allocation import (
    DIFFERENT,
    ID,
    RESYNC,
    RULES,
    UNKNOWN,
    A,
    ScriptedAllocation,
    cloud,
    new_allocation,
    verdict,
    wanted,
)
from tests.support.scripted_api import KEYS, Run, ScriptedApi, revision
from tests.support.tier import part_of

ONE = KEYS[0]
NO_HEARTBEATS = Parameters(heartbeat_seconds=inf)


def cached(
    scripted: ScriptedAllocation, fields: Mapping[str, Json] | Missing, *, at: float, age: float
) -> Decision:
    answer = Missing(age) if isinstance(fields, Missing) else Live(cloud(**fields), age)
    return scripted.read(answer, at=Monotonic(at))


def after_a_504(at: float = 100.0) -> ScriptedAllocation:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT, at=Monotonic(at - 20))
    scripted.receive(UNKNOWN, at=Monotonic(at))
    return scripted


# Read-backs.


def test_an_answer_from_before_the_end_of_the_update_settles_nothing() -> None:
    scripted = after_a_504()
    for fields in (DIFFERENT, A, Missing()):
        decision = cached(scripted, fields, at=110.0, age=10.5)
        assert (decision.findings, decision.update, decision.failed) == ((), None, True)
        assert scripted.condition() is Condition.OUTCOME_UNKNOWN
        assert scripted.allocation.next_read_at == Monotonic(120.5), "the age of the answer later"


def test_an_answer_from_before_a_restart_settles_nothing_that_was_open_then() -> None:
    scripted = ScriptedAllocation()
    record = scripted.update(DIFFERENT).record("g")
    scripted.allocation = new_allocation()
    scripted.allocation.outcome_unknown_since_restart(
        OpenIntent(7, ID, WallTime(0.0), record), Monotonic(100.0)
    )
    scripted.allocation.set_desired(wanted(**A), now=Monotonic(100.0))
    for fields in (A, Missing()):
        assert cached(scripted, fields, at=120.0, age=20.5).findings == ()
    assert verdict(cached(scripted, Missing(), at=120.0, age=19.5)).outcome == "void"


def test_an_answer_from_before_the_settle_time_may_only_say_applied() -> None:
    scripted = after_a_504()
    assert cached(scripted, DIFFERENT, at=115.0, age=6.0).findings == ()
    assert scripted.allocation.next_read_at == Monotonic(121.0), (
        "not at once, although the settle time is over"
    )
    assert verdict(cached(scripted, A, at=121.0, age=12.0)).outcome == "applied"
    assert scripted.condition() is Condition.IN_SYNC


def test_an_answer_from_after_the_settle_time_may_say_not_applied_but_carries_no_update() -> None:
    scripted = after_a_504()
    decision = cached(scripted, DIFFERENT, at=130.0, age=20.0)
    assert verdict(decision).outcome == "not_applied"
    assert decision.update is None
    assert scripted.allocation.next_read_at == Monotonic(150.0)
    assert scripted.read(DIFFERENT, at=Monotonic(150.0)).update is not None


# Updates and conditions.


def test_no_update_is_built_on_an_answer_that_is_more_than_two_seconds_old() -> None:
    scripted = ScriptedAllocation()
    assert cached(scripted, DIFFERENT, at=100.0, age=2.5).update is None
    assert project(scripted.allocation, scripted.now, RESYNC) == (
        Condition.PENDING,
        "differs in region; the latest answer is 2 s old: a cache between allocsync and the API gave it",
    )
    assert scripted.allocation.next_read_at == Monotonic(102.5)
    assert cached(scripted, DIFFERENT, at=102.5, age=2.0).update is not None


def test_the_wait_doubles_with_the_age_from_a_second_to_a_minute() -> None:
    scripted = after_a_504()
    waits = list[float]()
    for _ in range(9):
        begun = float(scripted.allocation.next_read_at)
        cached(scripted, DIFFERENT, at=begun, age=begun - 99.5 if waits else 0.25)
        waits.append(float(scripted.allocation.next_read_at) - begun)
        scripted.allocation.written_at = NEVER  # the answer stays too old
    assert waits == [1.0, 11.5, 23.0, 46.0, *[60.0] * 5]


def test_an_answer_older_than_the_latest_observation_is_no_change_and_waits_for_the_resync() -> None:
    scripted = ScriptedAllocation()
    scripted.read(A, at=Monotonic(100.0))
    decision = cached(scripted, DIFFERENT, at=110.0, age=11.0)
    assert (decision.findings, decision.update) == ((), None)
    assert scripted.condition() is Condition.IN_SYNC
    assert scripted.allocation.observed_at == Monotonic(100.0)
    assert scripted.allocation.next_read_at == Monotonic(110.0 + RESYNC)


def test_after_an_edit_an_answer_that_is_too_old_is_read_again_soon() -> None:
    scripted = ScriptedAllocation()
    scripted.read(A, at=Monotonic(100.0))
    scripted.allocation.set_desired(wanted(region="b", version="1"), now=Monotonic(110.0))
    assert cached(scripted, A, at=110.0, age=11.0).update is None
    assert scripted.allocation.next_read_at == Monotonic(121.0)


def test_in_sync_by_an_old_answer_ends_three_resyncs_after_the_answer_was_made() -> None:
    scripted = ScriptedAllocation()
    cached(scripted, A, at=100.0, age=60.0)
    scripted.now = Monotonic(40.0 + 3 * RESYNC)
    assert scripted.condition() is Condition.IN_SYNC
    scripted.now += 1
    assert scripted.condition() is Condition.PENDING


def test_an_accepted_update_is_not_missed_by_an_answer_from_before_the_end_of_the_window() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT, at=Monotonic(100.0))
    scripted.receive(Accepted(200, None), at=Monotonic(100.0))
    after_window = 100.0 + RULES.propagation_window_seconds + 5
    assert cached(scripted, DIFFERENT, at=after_window, age=10.0).update is None
    assert scripted.allocation.next_read_at == Monotonic(after_window + 10), (
        "no read in a loop until the cache ends"
    )
    again = scripted.read(DIFFERENT, at=Monotonic(after_window + 10))
    assert again.update is not None, "it did not show in its window, so it is sent once more"


def test_after_a_restart_an_answer_from_before_the_takeover_permits_no_update() -> None:
    scripted = ScriptedAllocation()
    scripted.allocation.send_nothing_before(Monotonic(100.0))
    assert cached(scripted, DIFFERENT, at=101.0, age=1.5).update is None
    assert scripted.allocation.next_read_at == Monotonic(102.5)
    assert scripted.read(DIFFERENT, at=Monotonic(102.5)).update is not None


def test_a_cached_410_is_missing_and_one_from_before_an_update_is_not() -> None:
    scripted = ScriptedAllocation()
    cached(scripted, Missing(), at=100.0, age=30.0)
    assert scripted.condition() is Condition.MISSING
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT, at=Monotonic(100.0))
    scripted.receive(Accepted(200, None), at=Monotonic(100.0))
    cached(scripted, Missing(), at=101.5, age=30.0)
    assert scripted.condition() is Condition.PENDING


def test_retry_after_is_kept_by_an_answer_that_is_too_old() -> None:
    scripted = after_a_504()
    scripted.allocation.write_backoff.read_failed("503", retry_after=Monotonic(300.0))
    cached(scripted, DIFFERENT, at=110.0, age=10.5)
    assert scripted.allocation.next_read_at == Monotonic(300.0)


# The controller, in virtual time.


class CachedApi(ScriptedApi):
    """A cache that keeps each answer to a GET, and the list, for `lifetime` seconds."""

    def __init__(self, *, lifetime: float, bulk: bool = True) -> None:
        super().__init__(bulk=bulk, keys=(ONE,))
        self.lifetime = lifetime
        self.old_answers = 0
        self._kept: dict[str, tuple[float, Snapshot]] = {}

    async def snapshot(self, allocation_id: AllocationId) -> Snapshot:
        now = asyncio.get_running_loop().time()
        made_at, kept = self._kept.get(allocation_id, (-1e9, Missing()))
        if now - made_at < self.lifetime:
            self.reads.append((now, allocation_id))
            await asyncio.sleep(0.001)
            self.old_answers += 1
            return kept_answer(kept, now - made_at)
        answer = await super().snapshot(allocation_id)
        self._kept[allocation_id] = now, answer
        return answer

    def is_fresh(self) -> bool:
        """Whether an update may be built on the kept answer."""
        made_at, _ = self._kept.get(ONE, (-1e9, None))
        return asyncio.get_running_loop().time() - made_at <= Parameters().fresh_seconds


def kept_answer(kept: Snapshot, age: float) -> Snapshot:
    return Live(kept.cloud, age) if isinstance(kept, Live) else Missing(age)


@pytest.mark.looptime
@pytest.mark.parametrize("bulk", [BulkPolicy.AUTO, BulkPolicy.OFF])
async def test_a_504_that_was_applied_behind_a_cache_of_a_minute_is_one_post(bulk: BulkPolicy) -> None:
    api = CachedApi(lifetime=60.0)
    api.post_seconds = lambda _key: 22.0

    def applied_with_a_504(key: str, body: Cloud) -> UpdateAnswer:
        api.truth[key] = body
        return OutcomeUnknown("504 Gateway Timeout", 504)

    api.on_update = applied_with_a_504
    async with Run(api, bulk=bulk, rules=NO_HEARTBEATS) as run:
        run.controller.activate(revision("wanted", keys=(ONE,)))
        await asyncio.sleep(30.0)
        assert len(api.posts) == 1
        read_before = len(api.reads)
        await asyncio.sleep(270.0)
        assert run.count(Condition.IN_SYNC) == 1
        assert len(api.posts) == 1
        assert api.old_answers >= 1, "the cache answered"
        assert len(api.reads) - read_before <= 8
        assert [event.outcome for event in run.events(events.UpdateSettled)] == ["applied"]
        (said,) = run.events(events.ReadsCached)
        assert said.age_seconds > 0


@pytest.mark.looptime
async def test_an_accepted_update_behind_a_cache_is_one_post_and_is_confirmed() -> None:
    api = CachedApi(lifetime=50.0)
    async with Run(api, bulk=BulkPolicy.OFF, rules=NO_HEARTBEATS) as run:
        run.controller.activate(revision("wanted", keys=(ONE,)))
        await asyncio.sleep(3_600.0)
        assert run.count(Condition.IN_SYNC) == 1
        assert len(api.posts) == 1
        assert api.old_answers > 2
        assert len(api.reads) < 30


@pytest.mark.looptime
@pytest.mark.parametrize("seed", range(part_of(50)))
async def test_a_change_of_another_writer_behind_a_cache_is_never_overwritten(seed: int) -> None:
    """Others change an unmanaged field all the time, also while the cache answers with what was before."""
    rng = random.Random(seed)
    lifetime = rng.choice([5.0, 60.0, 300.0])
    api = CachedApi(lifetime=lifetime)
    counted = 0

    def update(key: str, body: Cloud) -> UpdateAnswer | None:
        assert body["counter"] == api.truth[key]["counter"], "somebody else's change is overwritten"
        if rng.random() < 0.5:
            api.truth[key] = body
            return OutcomeUnknown("504 Gateway Timeout", 504)
        return None

    api.on_update = update
    api.truth[ONE] = {**api.truth[ONE], "counter": "0"}
    async with Run(api, bulk=rng.choice([BulkPolicy.AUTO, BulkPolicy.OFF]), rules=NO_HEARTBEATS) as run:
        for edit in range(6):
            wanted_one = Desired(ONE, (("region", f"edit {edit}"),), Mode.ENFORCE)
            run.controller.activate(Revision(f"edit {edit}", {ONE: wanted_one}))
            for _ in range(5):
                # Not within the time of one update, nor of the snapshot that it may be built on: no client
                # can exclude that.
                while api.under_way or run.controller.status().open_intents or api.is_fresh():
                    await asyncio.sleep(1.0)
                counted += 1
                api.truth[ONE] = {**api.truth[ONE], "counter": f"{counted}"}
                await asyncio.sleep(rng.uniform(0.5, 1.2 * lifetime))
        await asyncio.sleep(4 * lifetime + 600)
        assert api.truth[ONE] == {**api.truth[ONE], "region": "edit 5", "counter": f"{counted}"}
        assert run.count(Condition.IN_SYNC) == 1
    assert api.old_answers >= 2
    assert len(api.posts) >= 2


@pytest.mark.looptime
async def test_a_list_of_a_cache_confirms_no_more_than_the_reads_before_it() -> None:
    api = ScriptedApi(keys=(ONE,))
    async with Run(api, bulk=BulkPolicy.ON, rules=NO_HEARTBEATS) as run:
        run.controller.activate(revision("live", keys=(ONE,)))
        await asyncio.sleep(1.0)
        old = {**api.truth[ONE]}
        api.list = lambda: listed(old, api)  # type: ignore[method-assign]  # as of a cache
        await asyncio.sleep(1_000.0)
        assert run.count(Condition.IN_SYNC) == 0, "nothing has been proved for three resyncs"
        assert len(run.events(events.ReadsCached)) == 1


async def listed(old: Cloud, api: ScriptedApi):  # type: ignore[no-untyped-def]  # noqa: ANN201 - as the interface's
    api.lists += 1
    yield Live(old, asyncio.get_running_loop().time() - 0.5)


@pytest.mark.looptime
async def test_a_cache_is_reported_at_once_and_then_once_an_hour_with_the_oldest_answer() -> None:
    api = CachedApi(lifetime=250.0)
    async with Run(api, bulk=BulkPolicy.OFF, change_limit=NO_LIMIT) as run:
        run.controller.activate(revision("wanted", keys=(ONE,)))
        await asyncio.sleep(REPORT_EVERY_SECONDS - 10)
        assert len(run.events(events.ReadsCached)) == 1
        for number in range(30):
            run.controller.activate(revision(f"{number}", keys=(ONE,)))
            await asyncio.sleep(120.0)
        said = run.events(events.ReadsCached)
        assert len(said) == 2
        assert said[1].age_seconds > 60
