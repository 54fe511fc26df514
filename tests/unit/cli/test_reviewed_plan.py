"""An apply sends only changes that were reviewed."""

import asyncio
import json
from pathlib import Path

import pytest

from allocsync.cli.reviewed_plan import ReviewedApi, load_review
from allocsync.errors import UsageError
from allocsync.model.api_answers import Live, OutcomeUnknown
from allocsync.model.condition import Condition
from allocsync.planning.plan import plan
from allocsync.reconcile import events
from tests.support.scripted_api import KEYS, Run, ScriptedApi, revision


@pytest.mark.looptime
async def test_an_allocation_that_changed_since_the_review_is_not_sent_and_the_reason_says_so() -> None:
    api, wanted = ScriptedApi(), revision()
    reviewed = ReviewedApi(api, wanted, plan(wanted, {key: Live(api.truth[key]) for key in KEYS}))
    api.truth[KEYS[3]] = {**api.truth[KEYS[3]], "region": "moved"}
    async with Run(reviewed) as run:
        run.controller.activate(wanted)
        await asyncio.sleep(30)
        assert run.controller.settled()
        (row,) = [row for row in run.controller.allocations() if row.condition is not Condition.IN_SYNC]
        assert (row.id, row.condition) == (KEYS[3], Condition.FAILING)
        assert row.reason.startswith("region changed since the plan was reviewed")
        assert [event.allocation for event in run.events(events.UpdateIntended)].count(KEYS[3]) == 1
    assert sorted(key for _, key in api.posts) == sorted(key for key in KEYS if key != KEYS[3])
    assert api.truth[KEYS[3]]["region"] == "moved"


@pytest.mark.looptime
async def test_a_reviewed_update_of_unknown_outcome_is_sent_again_if_nothing_changed() -> None:
    api, wanted = ScriptedApi(), revision()
    reviewed = ReviewedApi(api, wanted, plan(wanted, {key: Live(api.truth[key]) for key in KEYS}))
    api.on_update = lambda key, _: (
        OutcomeUnknown("504", 504) if key == KEYS[0] and len(api.posts) <= 40 else None
    )
    async with Run(reviewed) as run:
        run.controller.activate(wanted)
        await asyncio.sleep(30)
        assert run.count(Condition.IN_SYNC) == len(KEYS)
    assert [key for _, key in api.posts].count(KEYS[0]) == 2


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"plan_id": "x"}', json.dumps({"plan_id": "0" * 64, "changes": [1]})]
)
def test_a_file_that_is_not_a_plan_is_an_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "plan.json"
    file.write_text(text)
    with pytest.raises(UsageError, match="not a plan"):
        load_review(None, file)
