"""What a rejection says decides when the update is sent again: not now, never this body, or neither."""

import asyncio
from itertools import pairwise

import pytest

from allocsync.api.backoff import FullJitter
from allocsync.model.api_answers import Accepted, Rejected, RejectionClass, UpdateAnswer
from allocsync.model.condition import Condition
from allocsync.model.ids import AllocationId
from allocsync.model.times import Monotonic
from allocsync.reconcile import checkpoint_codecs as codecs
from allocsync.reconcile.allocation.write_backoff import BACKOFF, RETRY_AFTER, WriteBackoff
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.resync import BulkPolicy
from tests.support.scripted_allocation import DIFFERENT, RESYNC, A, ScriptedAllocation
from tests.support.scripted_api import KEYS, Run, ScriptedApi, revision

ONE = KEYS[7]
DAY_SECONDS = 86_400.0
RULES = Parameters()
BACKOFF_OF_RUN = FullJitter(uniform=lambda _, high: high).delay_seconds
REJECTION_BACKOFF = FullJitter(
    uniform=lambda _, high: high, max_seconds=RULES.rejected_max_seconds
).delay_seconds
FORBIDDEN = Rejected(403, "403 Forbidden", RejectionClass.OTHER)


def run_with(api: ScriptedApi) -> Run:
    return Run(api, bulk=BulkPolicy.OFF, backoff=BACKOFF_OF_RUN, rejection_backoff=REJECTION_BACKOFF)


async def posts_of_one(answer: UpdateAnswer, seconds: float) -> list[float]:
    """Reject one allocation for so long. Return when it was posted; the others are in sync meanwhile."""
    api = ScriptedApi()
    api.truth[ONE] = {**api.truth[ONE], "region": "elsewhere"}
    api.on_update = lambda _key, _body: answer
    async with run_with(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(seconds)
        assert run.count(Condition.IN_SYNC) == len(KEYS) - 1
    assert {AllocationId(key) for _, key in api.posts} == {ONE}
    return [at for at, _ in api.posts]


@pytest.mark.looptime
@pytest.mark.parametrize("status", [409, 423, 425, 429, 403, 451])
async def test_what_says_not_now_is_sent_again_when_retry_after_ends(status: int) -> None:
    not_now = Rejected(status, f"{status}", RejectionClass.NOT_NOW, retry_after_seconds=3.0)
    first, second, *_ = await posts_of_one(not_now, seconds=10.0)
    assert 3.0 <= second - first < 3.5


@pytest.mark.looptime
async def test_a_backoff_after_not_now_doubles_to_five_minutes() -> None:
    posts = await posts_of_one(Rejected(409, "409 Conflict", RejectionClass.NOT_NOW), seconds=7_200.0)
    waits = [second - first for first, second in pairwise(posts)]
    assert [round(wait) for wait in waits[:8]] == [2, 4, 8, 16, 32, 64, 128, 256]
    assert all(299 < wait < 302 for wait in waits[8:])
    assert len(waits) > 8


@pytest.mark.looptime
async def test_a_backoff_after_any_other_rejection_doubles_to_an_hour() -> None:
    posts = await posts_of_one(FORBIDDEN, seconds=DAY_SECONDS)
    waits = [second - first for first, second in pairwise(posts)]
    assert [round(wait) for wait in waits[:8]] == [2, 4, 8, 16, 32, 64, 128, 256]
    assert [round(wait, -1) for wait in waits[8:11]] == [510, 1020, 2050]
    assert all(3_590 < wait < 3_610 for wait in waits[11:])
    assert len(waits) > 12


@pytest.mark.looptime
async def test_a_body_that_is_never_accepted_is_sent_again_after_an_hour() -> None:
    never = Rejected(415, "415 Unsupported Media Type", RejectionClass.BODY)
    posts = await posts_of_one(never, seconds=3 * 3_600.0)
    assert len(posts) == 3
    assert all(3_600 <= second - first < 3_600 + 1.2 * RESYNC for first, second in pairwise(posts))


@pytest.mark.looptime
async def test_reads_go_on_during_a_backoff_of_an_hour_and_an_edit_ends_it() -> None:
    api = ScriptedApi()
    api.on_update = lambda key, _: FORBIDDEN if key == ONE else None
    api.truth[ONE] = {**api.truth[ONE], "region": "elsewhere"}
    async with run_with(api) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(9_000.0)
        tried, reads = len(api.posts), sum(key == ONE for _, key in api.reads)
        assert tried == 13
        await asyncio.sleep(1_000.0)
        assert len(api.posts) == tried
        assert sum(key == ONE for _, key in api.reads) - reads >= 3, "it is read at each resync"
        api.on_update = lambda _key, _body: None
        run.controller.activate(revision("live again"))
        await asyncio.sleep(5.0)
        assert api.truth[ONE]["region"] == "live again"


def test_a_rejection_of_the_body_ends_with_a_live_change() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(Rejected(413, "413 Content Too Large", RejectionClass.BODY))
    assert scripted.condition() is Condition.FAILING
    assert scripted.read(DIFFERENT, at=Monotonic(300.0)).update is None
    assert scripted.read({**A, "region": "moved"}, at=Monotonic(301.0)).update is not None


def test_after_an_accepted_update_the_backoff_begins_anew() -> None:
    scripted = ScriptedAllocation()
    for at in range(5):
        scripted.update(DIFFERENT, at=Monotonic(float(at * 10)))
        scripted.receive(FORBIDDEN)
    assert scripted.allocation.write_backoff.failures == 5
    scripted.update(DIFFERENT, at=Monotonic(50.0))
    scripted.receive(Accepted(202, None))
    assert scripted.allocation.write_backoff.failures == 0


def test_a_backoff_of_an_hour_survives_a_restart_and_retry_after_stays_within_five_minutes() -> None:
    backoff = WriteBackoff(until={BACKOFF: Monotonic(3_500.0), RETRY_AFTER: Monotonic(3_500.0)}, failures=12)
    stored = codecs.encode_write_backoff(backoff, codecs.Clocks(offset_seconds=1e9, now=Monotonic(0.0)))
    again = codecs.decode_write_backoff(
        stored, codecs.Clocks(offset_seconds=1e9, now=Monotonic(100.0)), RULES
    )
    assert again.until == {BACKOFF: Monotonic(3_500.0), RETRY_AFTER: Monotonic(400.0)}
