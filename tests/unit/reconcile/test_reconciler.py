"""What a change costs: one read for each update, and nothing for an unchanged declaration."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from allocsync.model.condition import Condition
from allocsync.model.ids import AllocationId
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from tests.support.scripted_api import KEYS, Run, ScriptedApi, revision

pytestmark = pytest.mark.looptime


async def test_a_difference_in_the_list_leads_to_one_read_before_the_update() -> None:
    api = ScriptedApi()
    async with Run(api) as run:
        run.controller.activate(revision("wanted"))
        await asyncio.sleep(0.5)
        while len(api.posts) < len(KEYS):
            await asyncio.sleep(0.1)
        for at, key, *_ in api.posts:
            assert [each for read_at, each in api.reads if each == key and read_at <= at] == [key]


async def test_a_revision_sets_the_declarations_that_it_changes_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    updated = list[AllocationId]()
    set_desired = ManagedAllocation.set_desired
    async with Run(ScriptedApi()) as run:
        before = revision("live")
        run.controller.activate(before)
        await asyncio.sleep(5)

        def counted(self: ManagedAllocation, *args: Any, **more: Any) -> None:  # noqa: ANN401 - as it is called
            updated.append(self.id)
            set_desired(self, *args, **more)

        monkeypatch.setattr(ManagedAllocation, "set_desired", counted)
        changed = revision("edited", keys=KEYS[:1]).allocations
        run.controller.activate(replace(before, id="edited", allocations={**before.allocations, **changed}))
        assert updated == list(KEYS[:1])
        await asyncio.sleep(5)
        assert run.count(Condition.IN_SYNC) == len(KEYS)
