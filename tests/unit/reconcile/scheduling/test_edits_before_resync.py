"""While changed files are loaded, periodic reads wait, but never for long."""

import asyncio
from itertools import pairwise
from math import inf

import pytest

from allocsync.model.api_answers import OutcomeUnknown
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Desired, Revision
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.resync import BulkPolicy
from allocsync.reconcile.scheduling.scheduler import PREFER_EDITS_SECONDS
from tests.support.failing_api import named, now
from tests.support.scripted_api import KEYS, Run, ScriptedApi, revision

pytestmark = pytest.mark.looptime

NUMBER = 1_000
ALL = named(NUMBER)
# One resync follows the other: eight reads at once of 0.1 s each.
RULES = Parameters(resync_each_seconds=5.0)


def busy_run(api: ScriptedApi) -> Run:
    api.seconds = 0.1
    return Run(api, bulk=BulkPolicy.OFF, rules=RULES)


async def test_while_files_are_loaded_edits_and_read_backs_go_and_periodic_reads_do_not() -> None:
    api = ScriptedApi(keys=ALL)
    unknown, edited = ALL[7], ALL[8]
    api.on_update = lambda _key, _body: OutcomeUnknown("504", 504) if len(api.posts) == 1 else None
    async with busy_run(api) as run:
        run.controller.activate(revision("live", ALL))
        await asyncio.sleep(20)  # first reads are not periodic ones
        api.truth[unknown] = {**api.truth[unknown], "region": "drift"}
        async with asyncio.timeout(100):
            while not run.count(Condition.OUTCOME_UNKNOWN):
                await asyncio.sleep(0.05)
        ((lost, _),) = api.posts
        await asyncio.sleep(lost + 0.1 + RULES.settle_seconds - now() - 0.5)
        before = len(api.reads)
        run.controller.rollout.expect_edits()
        await asyncio.sleep(0.2)
        run.controller.activate(
            Revision(
                "edit",
                {**revision("live", ALL).allocations, edited: Desired(edited, (("region", "edit"),))},
            )
        )
        await asyncio.sleep(0.7)
        read_keys = [key for _, key in api.reads[before:]]
        assert set(read_keys) == {edited, unknown}
        assert api.posts[-1][1] in {edited, unknown}
        assert len(api.posts) == 3
        await asyncio.sleep(1.0)
        assert len(api.reads) > before + 40, "periodic reads go on"


async def test_delayed_periodic_reads_go_after_a_second_though_nothing_else_happens() -> None:
    api = ScriptedApi()
    async with Run(api, bulk=BulkPolicy.OFF, rules=Parameters(heartbeat_seconds=inf)) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(10)
        before = len(api.reads)
        run.controller.rollout.expect_edits()
        run.controller.sync()
        await asyncio.sleep(0.9 * PREFER_EDITS_SECONDS)
        assert len(api.reads) == before
        await asyncio.sleep(0.2 * PREFER_EDITS_SECONDS)
        assert {key for _, key in api.reads[before:]} == set(KEYS)


async def test_files_that_change_all_the_time_delay_periodic_reads_half_of_the_time_at_most() -> None:
    api = ScriptedApi(keys=ALL)
    async with busy_run(api) as run:
        run.controller.activate(revision("live", ALL))
        await asyncio.sleep(30)
        begun, before = now(), len(api.reads)
        for _ in range(200):
            run.controller.rollout.expect_edits()
            await asyncio.sleep(0.1)
        times = [at for at, _ in api.reads[before:]]
        assert len(times) >= (now() - begun) / 2 * 80 * 0.9
        gaps = [later - earlier for earlier, later in pairwise(times) if later - earlier > 0.2]
        assert len(gaps) >= 8, "periodic reads waited"
        assert max(gaps) <= PREFER_EDITS_SECONDS + 0.2
