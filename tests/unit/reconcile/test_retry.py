"""A person asks for another try: what is forgotten, what is kept, and whose names are found."""

import asyncio

import pytest

from allocsync.model.api_answers import Accepted, Rejected, RejectionClass
from allocsync.model.condition import Condition
from allocsync.model.ids import NotFound
from allocsync.reconcile import events
from allocsync.reconcile.status.explain import Explanation
from tests.support.scripted_api import KEYS, Run, ScriptedApi, VirtualClock, revision

pytestmark = pytest.mark.looptime
ONE, OTHER = KEYS[:2]


def ignoring_api() -> ScriptedApi:
    api = ScriptedApi(bulk=False)
    api.on_update = lambda _key, _body: Accepted(200, None)
    return api


async def test_a_retry_of_one_allocation_sends_its_ignored_value_at_once_and_those_of_others_not() -> None:
    api = ignoring_api()
    async with Run(api) as run:
        run.controller.activate(revision(keys=(ONE, OTHER)))
        await asyncio.sleep(200)
        assert run.count(Condition.IGNORED) == 2
        sent, begun = len(api.posts), asyncio.get_running_loop().time()
        assert run.controller.retry(ONE) == 1
        await asyncio.sleep(5)
        ((at, key),) = api.posts[sent:]
        assert (key, at - begun < 1.0) == (ONE, True)


@pytest.mark.parametrize("name", [None, ONE])
async def test_a_retry_ends_backoff_and_rejection_and_survives_a_restart(name: str | None) -> None:
    api = ScriptedApi(bulk=False)
    api.on_update = lambda _key, _body: Rejected(422, "422", RejectionClass.BODY)
    async with Run(api) as run:
        run.controller.activate(revision(keys=(ONE,)))
        await asyncio.sleep(100)
        assert len(api.posts) == 1
        assert run.count(Condition.FAILING) == 1
        stored = dict(run.journal.memories)
        assert run.controller.retry(name) == 1
        assert f"allocation/{ONE}" in stored
        assert f"allocation/{ONE}" not in run.journal.memories
        await asyncio.sleep(5)
        assert len(api.posts) == 2


async def test_a_retry_keeps_retry_after() -> None:
    api = ScriptedApi(bulk=False)
    busy = Rejected(423, "423", RejectionClass.NOT_NOW, retry_after_seconds=120.0)
    api.on_update = lambda _key, _body: busy
    async with Run(api) as run:
        run.controller.activate(revision(keys=(ONE,)))
        await asyncio.sleep(10)
        api.on_update = lambda _key, _body: None
        assert run.controller.retry(None) == 1
        await asyncio.sleep(100)
        assert len(api.posts) == 1
        await asyncio.sleep(30)
        assert len(api.posts) == 2


async def test_a_retry_during_a_request_is_followed_by_another_read() -> None:
    api = ignoring_api()
    async with Run(api) as run:
        run.controller.activate(revision(keys=(ONE,)))
        await asyncio.sleep(200)
        api.seconds = 3.0
        run.controller.sync()
        await asyncio.sleep(1)
        assert api.under_way
        reads = len(api.reads)
        assert run.controller.retry(ONE) == 1
        api.on_update = lambda _key, _body: None
        await asyncio.sleep(30)
        assert len(api.reads) > reads
        assert run.count(Condition.IN_SYNC) == 1


async def test_a_retry_needs_a_declared_allocation() -> None:
    async with Run(ScriptedApi()) as run:
        run.controller.activate(revision("live"))
        assert isinstance(run.controller.retry("nobody"), NotFound)
        assert not run.events(events.RetryRequested)
        assert run.controller.retry(None) == len(KEYS)


async def test_a_retry_is_told_once_with_its_scope_and_who_asked() -> None:
    async with Run(ScriptedApi()) as run:
        run.controller.activate(revision("live"))
        run.controller.retry(None, "mark@here")
        run.controller.retry(ONE)
        assert run.events(events.RetryRequested) == [
            events.RetryRequested(allocation=None, scope="all", by="mark@here"),
            events.RetryRequested(allocation=ONE, scope="one", by=""),
        ]


async def test_an_ignored_allocation_keeps_since_when_over_a_restart_and_explain_names_the_next_attempt() -> (
    None
):
    api = ignoring_api()
    async with Run(api) as first:
        first.controller.activate(revision(keys=(ONE,)))
        await asyncio.sleep(200)
        before = first.controller.explain(ONE)
    async with Run(api, before=first) as second:
        second.controller.activate(revision(keys=(ONE,)))
        await asyncio.sleep(10)
        after = second.controller.explain(ONE)
    assert isinstance(before, Explanation)
    assert isinstance(after, Explanation)
    assert after.status.condition is Condition.IGNORED
    assert after.status.since == pytest.approx(before.status.since, abs=0.01)
    (field,) = after.fields
    assert field.ignored_since == pytest.approx(before.status.since, abs=0.01)
    assert field.next_attempt_at == pytest.approx(before.status.since + 300.0, abs=0.01)
    assert not field.another_writer


async def test_a_field_that_is_changed_back_is_told_once_and_explained() -> None:
    api = ScriptedApi(bulk=False)
    async with Run(api) as run:
        run.controller.activate(revision(keys=(ONE,)))
        await asyncio.sleep(100)
        begun = VirtualClock().wall()
        for _ in range(4):
            found = run.controller.explain(ONE)
            assert isinstance(found, Explanation)
            assert not any(field.another_writer for field in found.fields)
            assert all(field.next_attempt_at is None for field in found.fields)
            api.truth[ONE] = {**api.truth[ONE], "region": "theirs"}
            run.controller.sync()
            await asyncio.sleep(100)
            if run.events(events.AnotherWriterSuspected):
                break
        (told,) = run.events(events.AnotherWriterSuspected)
        assert (told.allocation, told.fields, told.flips) == (ONE, ("region",), 3)
        (times,) = told.changed_back_at
        assert [at - begun for at in times] == pytest.approx([0.0, 100.0, 200.0], abs=0.1)
        found = run.controller.explain(ONE)
        assert isinstance(found, Explanation)
        (field,) = found.fields
        assert (field.in_conflict, field.another_writer) == (True, True)
        assert field.changed_back_at == times


async def test_records_that_end_by_a_list_leave_the_checkpoint() -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        run.controller.activate(revision(keys=KEYS[:5]))
        await asyncio.sleep(30)
        assert len(api.posts) == 5
        assert f"allocation/{ONE}" in run.journal.memories, "the window is not over"
        await asyncio.sleep(200)
        reads = {key for at, key in api.reads if at > 100}
        assert not [key for key in run.journal.memories if key.startswith("allocation/")]
        assert run.count(Condition.IN_SYNC) == 5
        assert reads <= {*KEYS[:5]}
