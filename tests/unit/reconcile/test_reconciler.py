"""What a change costs: one look for each update, and nothing for what is as before."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from allocsync.model.condition import Condition
from allocsync.model.ids import AllocationId
from allocsync.reconcile.allocation.managed_allocation import Lane
from tests.support.scripted_api import KEYS, Run, ScriptedApi, generation

pytestmark = pytest.mark.looptime


async def test_what_a_bulk_answer_shows_to_differ_is_read_once_before_it_is_sent() -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        run.loop.adopt(generation("wanted"))
        await asyncio.sleep(0.5)
        while len(api.posts) < len(KEYS):
            await asyncio.sleep(0.1)
        for at, key, *_ in api.posts:
            assert [each for looked, each in api.looks if each == key and looked <= at] == [key]


async def test_a_generation_costs_what_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[AllocationId]()
    want = Lane.want
    async with Run(ScriptedApi()) as run:
        before = generation("live")
        run.loop.adopt(before)
        await asyncio.sleep(5)

        def counted(self: Lane, *args: Any, **more: Any) -> None:  # noqa: ANN401 - as it is called
            told.append(self.id)
            want(self, *args, **more)

        monkeypatch.setattr(Lane, "want", counted)
        changed = generation("edited", keys=KEYS[:1]).allocations
        run.loop.adopt(replace(before, digest="edited", allocations={**before.allocations, **changed}))
        assert told == list(KEYS[:1])
        await asyncio.sleep(5)
        assert run.count(Condition.IN_SYNC) == len(KEYS)
