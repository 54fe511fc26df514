"""What a change costs: one look for each update, and nothing for what is as before."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from allocsync.model.condition import Condition
from allocsync.model.ids import AllocationId
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from tests.support.scripted_api import KEYS, Run, ScriptedApi, revision

pytestmark = pytest.mark.looptime


async def test_what_a_bulk_answer_shows_to_differ_is_read_once_before_it_is_sent() -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        run.controller.activate(revision("wanted"))
        await asyncio.sleep(0.5)
        while len(api.posts) < len(KEYS):
            await asyncio.sleep(0.1)
        for at, key, *_ in api.posts:
            assert [each for on_read, each in api.reads if each == key and on_read <= at] == [key]


async def test_a_generation_costs_what_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = list[AllocationId]()
    set_desired = ManagedAllocation.set_desired
    async with Run(ScriptedApi()) as run:
        before = revision("live")
        run.controller.activate(before)
        await asyncio.sleep(5)

        def counted(self: ManagedAllocation, *args: Any, **more: Any) -> None:  # noqa: ANN401 - as it is called
            scripted.append(self.id)
            set_desired(self, *args, **more)

        monkeypatch.setattr(ManagedAllocation, "set_desired", counted)
        changed = revision("edited", keys=KEYS[:1]).allocations
        run.controller.activate(replace(before, id="edited", allocations={**before.allocations, **changed}))
        assert scripted == list(KEYS[:1])
        await asyncio.sleep(5)
        assert run.count(Condition.IN_SYNC) == len(KEYS)
