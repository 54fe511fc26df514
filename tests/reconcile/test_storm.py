"""A storm: when it begins, when it is over, and who may try again then."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.planning.model import Cloud, Live, OutcomeUnknown, Snapshot
from allocsync.reconcile.admission import SPREAD_SECONDS, Admission
from allocsync.reconcile.lane import Lane
from allocsync.reconcile.limiter import MOST, Limiter, Slot
from allocsync.reconcile.queue import Queue
from allocsync.reconcile.status import Condition
from allocsync.reconcile.storm import BEGINS, LATEST, OVER, Storm
from tests.reconcile.scripted import ScriptedApi, generation
from tests.reconcile.told import new_lane
from tests.reconcile.troubled import DEAD, TIMEOUT, named, now, real_run

STORM_SECONDS = 60.0


def heard(storm: Storm[int], *results: tuple[int, bool]) -> list[int]:
    """What the latest of these ends."""
    told: list[int] = []
    for key, served in results:
        told = list(storm.hear(key, served=served))
    return told


def raging(keys: int = BEGINS) -> Storm[int]:
    storm: Storm[int] = Storm()
    assert heard(storm, *((key % keys, False) for key in range(3 * LATEST))) == []
    return storm


def test_who_failed_and_has_not_succeeded_since_is_told_once_when_it_is_over() -> None:
    storm = raging()
    over = LATEST - OVER
    assert heard(storm, *((3, True) for _ in range(over - 1))) == []
    assert sorted(heard(storm, (3, True))) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert heard(storm, *((3, True) for _ in range(over))) == []


def test_who_fails_in_calm_too_is_not_told_again_before_it_has_succeeded() -> None:
    storm, over = raging(), [(100, True)] * (LATEST - OVER)
    failing = [(key % BEGINS, False) for key in range(2 * BEGINS)]
    assert len(heard(storm, *over)) == BEGINS
    assert heard(storm, *failing, *over) == []
    assert heard(storm, (3, True), *failing, *over) == [3]


def test_fewer_than_half_are_no_storm_and_whoever_fails_then_keeps_its_backoff() -> None:
    storm: Storm[int] = Storm()
    few = [(key, False) for key in range(BEGINS - 1)]
    healthy = [(100, True)] * (LATEST - BEGINS + 1)
    assert heard(storm, *few, *healthy, *healthy) == []


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=200))
def test_nobody_is_told_who_did_not_fail_or_has_succeeded_since(results: list[tuple[int, bool]]) -> None:
    storm: Storm[int] = Storm()
    last: dict[int, bool] = {}
    for key, served in results:
        last[key] = served
        for again in list(storm.hear(key, served=served)):
            assert not last[again]


@pytest.mark.looptime
async def test_backoffs_do_not_outlast_a_storm_in_which_some_are_served() -> None:
    keys, chance, failed = named(1000), random.Random(5), []
    api = ScriptedApi(keys=keys)
    api.look_seconds, api.post_seconds = lambda _: 0.02, lambda _: 0.1

    def half_fail(_key: str, _body: Cloud) -> OutcomeUnknown | None:
        failed.append(now() < STORM_SECONDS and chance.random() < 0.5)
        return TIMEOUT if failed[-1] else None

    api.on_update = half_fail
    async with real_run(api) as run:
        run.loop.adopt(generation(keys=keys))
        await asyncio.sleep(STORM_SECONDS)
        assert sum(failed) > len(keys) / 2
        assert not run.kinds("breaker_opened"), "some are served"
        assert run.count(Condition.IN_SYNC) < len(keys) - BEGINS, "backoffs hold some up"
        await asyncio.sleep(2 * SPREAD_SECONDS)
        assert run.count(Condition.IN_SYNC) == len(keys)


@pytest.mark.parametrize(("failing", "within_seconds"), [(5, 0.05), (40, 0.4), (2_000, SPREAD_SECONDS)])
def test_many_come_back_one_after_the_other_and_a_few_at_once(failing: int, within_seconds: float) -> None:
    lanes = {key: new_lane(key) for key in named(failing + 1)}
    *hit, healthy = lanes.values()
    admission = Admission(Queue(), Limiter(MOST), lanes)

    def hear(lane: Lane, answer: Snapshot, at: float) -> None:
        admission.hear(lane, Slot.READ, answer, begun=at, now=at, uniform=lambda _, most: most)

    for number in range(failing + LATEST):
        hear(hit[number % failing], DEAD, at=1.0)
        hear(healthy, Live({}), at=1.0)
    for lane in hit:
        lane.read_failures, lane.look_at = 6, 300.0
    for _ in range(LATEST):
        hear(healthy, Live({}), at=100.0)
    assert {lane.look_at for lane in hit} == {100.0 + within_seconds}
