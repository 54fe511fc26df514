"""The explanation of one allocation, and the names by which it is found."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.model.api_answers import Live, Missing, Rejected, RejectionClass
from allocsync.model.change import Change
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Mode, Revision
from allocsync.model.ids import PREFIX_MIN, SUGGESTIONS, AllocationId, NotFound
from allocsync.model.times import Monotonic, WallTime, to_wall_time
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.status.condition_rules import project
from allocsync.reconcile.status.explain import Explanation, explain
from allocsync.reconcile.status.report import Moment, ReportedCondition, statuses
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
    wanted,
)
from tests.support.scripted_api import KEYS, Run, ScriptedApi, revision

WALL = WallTime(1e9)


def moment(now: Monotonic) -> Moment:
    return Moment(now=now, wall=to_wall_time(now, float(WALL)), resync_seconds=RESYNC)


def explained(scripted: ScriptedAllocation) -> Explanation:
    condition, reason = project(scripted.allocation, scripted.now, RESYNC)
    found = explain(
        ID,
        {ID: scripted.allocation},
        {ID: ReportedCondition(condition, reason, WALL - 5)},
        moment(scripted.now),
    )
    assert isinstance(found, Explanation)
    return found


def test_before_the_first_read_there_are_no_live_values() -> None:
    found = explained(ScriptedAllocation())
    assert found.differences is None
    assert found.observed_at is None
    assert found.desired == (("region", "a"), ("version", "1"))
    assert found.status.condition is Condition.PENDING
    assert found.status.since == WALL - 5


def test_differences_are_those_of_the_latest_read_and_have_its_time() -> None:
    scripted = ScriptedAllocation(wanted(Mode.OBSERVE, **A))
    scripted.read(DIFFERENT, at=Monotonic(7.0))
    scripted.now = Monotonic(20.0)
    found = explained(scripted)
    assert found.differences == (Change("region", "x", "a"),)
    assert found.observed_at == WALL + 7
    assert found.mode is Mode.OBSERVE
    assert found.status.next_read_at == WALL + 7 + RESYNC


def test_differences_from_an_earlier_declaration_are_not_shown() -> None:
    scripted = ScriptedAllocation()
    scripted.read(DIFFERENT)
    scripted.allocation.set_desired(wanted(region="b"), now=Monotonic(1.0))
    assert explained(scripted).differences is None


def test_an_open_update_has_its_changes_and_the_times_when_it_became_unknown_and_settles() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    in_flight = explained(scripted).open_update
    assert in_flight is not None
    assert (in_flight.unknown_since, in_flight.settles_at) == (None, None)
    scripted.receive(UNKNOWN, at=Monotonic(3.0))
    found = explained(scripted)
    assert found.open_update is not None
    assert found.open_update.changes == (Change("region", "x", "a"),)
    assert found.open_update.unknown_since == WALL + 3
    assert found.open_update.settles_at == WALL + 3 + RULES.settle_seconds
    assert (found.read_failures, found.write_failures) == (0, 1)
    assert found.last_error == "504 Gateway Timeout"
    assert found.no_update_before == WALL + 5


def test_a_rejected_update_says_until_when_it_is_not_sent_again() -> None:
    scripted = ScriptedAllocation()
    scripted.update(DIFFERENT)
    scripted.receive(Rejected(400, "400 Bad Request", RejectionClass.BODY))
    assert explained(scripted).no_update_before == WALL + RULES.terminal_seconds


def test_an_answer_of_a_cache_has_its_age_and_is_observed_when_it_was_made() -> None:
    scripted = ScriptedAllocation()
    scripted.read(Live(cloud(**DIFFERENT), 43.0), at=Monotonic(100.0))
    found = explained(scripted)
    assert found.answer_age_seconds == 43.0
    assert found.observed_at == WALL + 57
    assert "43 s old: a cache between allocsync and the API gave it" in found.status.reason
    scripted.read(DIFFERENT, at=Monotonic(200.0))
    assert explained(scripted).answer_age_seconds == 0.0


def test_a_missing_allocation_is_shown_as_missing() -> None:
    scripted = ScriptedAllocation()
    scripted.read(Missing())
    found = explained(scripted)
    assert found.missing
    assert found.differences is None


def test_an_entry_with_errors_from_the_start_shows_its_problems() -> None:
    allocation = new_allocation(ID)
    allocation.set_desired(None, now=Monotonic(0.0), problems=("a.yaml:3:1: wrong",))
    found = explain(
        ID, {ID: allocation}, {ID: ReportedCondition(Condition.BLOCKED, "", WALL)}, moment(Monotonic(0))
    )
    assert isinstance(found, Explanation)
    assert (found.mode, found.desired, found.problems) == (None, (), ("a.yaml:3:1: wrong",))


# Names.

ALLOCATIONS = {
    AllocationId(key): new_allocation(key)
    for key in ("7b0c4c5e-1", "7b0c4c5e-2", "91d2a0f3-1", "91d2", "abcdefghi" * 3)
}


def find(
    name: str, allocations: Mapping[AllocationId, ManagedAllocation] = ALLOCATIONS
) -> Explanation | NotFound:
    reported = {key: ReportedCondition(Condition.PENDING, "", WALL) for key in allocations}
    return explain(name, allocations, reported, moment(Monotonic(0)))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("7b0c4c5e-1", "7b0c4c5e-1"),
        ("91d2", "91d2"),
        ("91d2a0f3", "91d2a0f3-1"),
        ("abcdefgh", "abcdefghi" * 3),
    ],
)
def test_an_id_or_a_unique_beginning_of_one_is_found(name: str, key: str) -> None:
    found = find(name)
    assert isinstance(found, Explanation)
    assert found.status.id == key


@pytest.mark.parametrize(
    ("name", "message", "suggestions"),
    [
        (
            "7b0c4c5e",
            "7b0c4c5e matches 2 allocations; give more characters of the id",
            ["7b0c4c5e-1", "7b0c4c5e-2"],
        ),
        (
            "abcdefg",
            "abcdefg is too short: give the whole id, or at least its first 8 characters",
            ["abcdefghi" * 3],
        ),
        ("7b0c4c5e-3", "7b0c4c5e-3: no such allocation is declared", ["7b0c4c5e-1", "7b0c4c5e-2"]),
        ("91d2xxxxxx", "91d2xxxxxx: no such allocation", ["91d2", "91d2a0f3-1"]),
        ("nobody", "nobody: no such allocation is declared", []),
    ],
)
def test_any_other_name_is_not_found_and_similar_ids_are_suggested(
    name: str, message: str, suggestions: list[str]
) -> None:
    found = find(name)
    assert isinstance(found, NotFound)
    assert found.why.startswith(message)
    assert list(found.suggestions) == suggestions


@given(st.sets(st.text("ab", min_size=1, max_size=12)), st.text("ab", max_size=12))
def test_a_found_id_always_begins_with_the_name(ids: set[str], name: str) -> None:
    allocations = {AllocationId(key): new_allocation(key) for key in ids}
    found = find(name, allocations)
    if isinstance(found, NotFound):
        assert name not in ids
        assert len(name) < PREFIX_MIN or sum(key.startswith(name) for key in ids) != 1
        assert len(found.suggestions) <= SUGGESTIONS
        assert set(found.suggestions) <= ids
    else:
        assert found.status.id == name or (len(name) >= PREFIX_MIN and found.status.id.startswith(name))


def test_an_allocation_released_while_a_report_is_read_is_left_out() -> None:
    allocations = dict(ALLOCATIONS)
    reported = {key: ReportedCondition(Condition.PENDING, "", WALL) for key in allocations}
    rows = statuses(allocations, reported, moment(Monotonic(0)))
    first = next(rows).id
    del allocations[AllocationId("91d2")]
    assert [first, *(row.id for row in rows)] == sorted(allocations)


@pytest.mark.looptime
async def test_the_controller_explains_its_allocations() -> None:
    async with Run(ScriptedApi()) as run:
        run.controller.activate(revision("mars"))
        await asyncio.sleep(5)
        found = run.controller.explain(KEYS[3])
        assert isinstance(found, Explanation)
        assert found.status.condition is Condition.IN_SYNC
        assert found.differences == ()
        assert isinstance(run.controller.explain("nobody"), NotFound)


@pytest.mark.looptime
@pytest.mark.parametrize("observed", [True, False])
async def test_a_declaration_that_moves_in_its_file_has_its_new_source(*, observed: bool) -> None:
    def at(line: int) -> Revision:
        found = revision().allocations
        moved = {key: replace(desired, source=f"a.yaml:{line}") for key, desired in found.items()}
        return replace(revision(), allocations=moved)

    async with Run(ScriptedApi()) as run:
        run.controller.activate(at(3))
        await asyncio.sleep(60 if observed else 0)
        run.controller.activate(at(9))
        found = run.controller.explain(KEYS[3])
        assert isinstance(found, Explanation)
        assert (found.observed_at is not None, found.source) == (observed, "a.yaml:9")


@pytest.mark.looptime
async def test_with_list_reads_the_next_read_of_each_allocation_is_that_of_the_list() -> None:
    async with Run(ScriptedApi()) as run:
        run.controller.activate(revision("live"))
        await asyncio.sleep(5)
        rows = list(run.controller.allocations())
        at = {row.next_read_at for row in rows}
        assert len(rows) == len(KEYS)
        assert len(at) == 1
        (next_read_at,) = at
        assert next_read_at is not None
        assert 45 < next_read_at - (WALL + asyncio.get_running_loop().time()) < 66
