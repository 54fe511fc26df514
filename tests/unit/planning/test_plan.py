"""A plan does not depend on the order of its input, lists exactly the updates left, and is readable."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.model.api_answers import Failed, Live, Missing, Snapshot
from allocsync.model.cloud import NumberLiteral
from allocsync.model.desired_state import Desired, Mode, Revision
from allocsync.model.ids import AllocationId
from allocsync.planning import rendering
from allocsync.planning.diff import update_body
from allocsync.planning.plan import Plan, Verdict, plan
from tests.support import strategies

PlanningInput = tuple[Revision, dict[AllocationId, Snapshot]]
KEYS = ("7b0c4c5e", "91d2a0f3", "c44e11aa")
snapshots = st.one_of(strategies.clouds.map(Live), st.just(Missing()), st.just(Failed("504")))


@st.composite
def planning_inputs(draw: st.DrawFn) -> PlanningInput:
    """A revision and the snapshots of its allocations."""
    modes = st.sampled_from([Mode.ENFORCE, Mode.ENFORCE, *Mode])
    wanted = {AllocationId(key): draw(strategies.desired(key, modes)) for key in KEYS}
    live = {AllocationId(key): draw(snapshots) for key in KEYS if draw(st.integers(0, 9))}
    quarantined = {AllocationId("0bad"): ("a.yaml:3:1: wrong",)} if draw(st.booleans()) else {}
    return Revision("d" * 64, wanted, quarantined, 1), live


@given(planning_inputs())
def test_a_plan_does_not_depend_on_the_order_of_its_input(planning_input: PlanningInput) -> None:
    revision, live = planning_input
    reversed_revision = Revision(
        revision.id,
        dict(reversed(list(revision.allocations.items()))),
        revision.quarantined,
        revision.files,
    )
    one, other = plan(revision, live), plan(reversed_revision, dict(reversed(live.items())))
    assert one == other
    assert one.plan_id == other.plan_id


@given(planning_inputs(), st.integers(0, len(KEYS)))
def test_a_plan_made_after_some_updates_has_exactly_the_other_updates(
    planning_input: PlanningInput, done: int
) -> None:
    revision, live = planning_input
    before = plan(revision, live)
    for step in before.updates[:done]:
        snapshot = live[step.id]
        assert isinstance(snapshot, Live)
        body, problems = update_body(revision.allocations[step.id], snapshot.cloud)
        assert not problems
        live[step.id] = Live(body)
    assert plan(revision, live).updates == before.updates[done:]


@given(planning_inputs(), planning_inputs())
def test_two_plans_have_the_same_id_exactly_if_their_updates_are_equal(
    one: PlanningInput,
    other: PlanningInput,
) -> None:
    first, second = plan(*one), plan(*other)
    same = [(step.id, step.changes) for step in first.updates] == [
        (step.id, step.changes) for step in second.updates
    ]
    assert (first.plan_id == second.plan_id) == same


@given(planning_inputs())
def test_a_plan_has_one_counted_step_for_each_allocation(
    planning_input: PlanningInput,
) -> None:
    revision, live = planning_input
    made = plan(revision, live)
    assert [step.id for step in made.steps] == sorted([*revision.allocations, *revision.quarantined])
    assert sum(made.counts.values()) == len(made.steps)
    assert list(rendering.as_json(made)["counts"]) == ["in_sync", "update", "missing", "blocked", "failing"]  # type: ignore[call-overload]  # JSON


@given(planning_inputs())
def test_a_rendered_plan_has_no_control_characters_and_is_valid_json(
    planning_input: PlanningInput,
) -> None:
    made = plan(*planning_input)
    for line in rendering.text(made, read_how="live read in 0.1 s", files=1):
        assert line.text.isprintable()
    assert json.loads(json.dumps(rendering.as_json(made)))["plan_id"] == made.plan_id


def one(live: Any, mode: Mode = Mode.ENFORCE) -> Plan:  # noqa: ANN401 - a snapshot or a cloud
    wanted = Desired(AllocationId("a"), (("region", "eu"), ("version", "1.10")), mode, "eu.yaml:18")
    snapshot = live if isinstance(live, Missing | Failed) else Live(live)
    return plan(Revision("7f3a91c2" * 8, {wanted.id: wanted}), {wanted.id: snapshot})


WHOLE = {
    "id": "a",
    "user": "u",
    "project": "p",
    "status": {"cloud": "RUNNING"},
    "urls": {"base": {"status": "x", "url": "y"}, "id": {"status": "x", "url": "y"}},
}


@pytest.mark.parametrize(
    ("live", "mode", "verdict", "reason"),
    [
        ({**WHOLE, "region": "eu", "version": "1.10"}, Mode.ENFORCE, Verdict.IN_SYNC, ""),
        (WHOLE, Mode.ENFORCE, Verdict.UPDATE, ""),
        (WHOLE, Mode.OBSERVE, Verdict.BLOCKED, "mode observe"),
        ({**WHOLE, "status": {"cloud": "PENDING"}}, Mode.ENFORCE, Verdict.BLOCKED, "status.cloud PENDING"),
        ({}, Mode.ENFORCE, Verdict.FAILING, "user is missing"),
        (Missing(), Mode.ENFORCE, Verdict.MISSING, "410"),
        (Failed("500 Internal Server Error"), Mode.ENFORCE, Verdict.FAILING, "500"),
    ],
)
def test_the_verdict_and_reason_for_one_allocation(
    live: Any,  # noqa: ANN401 - a snapshot or a cloud
    mode: Mode,
    verdict: Verdict,
    reason: str,
) -> None:
    (step,) = one(live, mode).steps
    assert step.verdict is verdict
    assert reason in step.reason


def test_a_live_number_and_the_same_text_give_different_plan_ids() -> None:
    number, text = ({**WHOLE, "version": value, "region": "eu"} for value in (NumberLiteral("1.9"), "1.9"))
    assert one(number).plan_id != one(text).plan_id
    rows: Any = rendering.as_json(one(number))["changes"]
    assert rows == [{"id": "a", "field": "version", "live": '{"number": "1.9"}', "desired": "1.10"}]


def test_a_plan_is_rendered_as_aligned_text() -> None:
    made = one({**WHOLE, "version": "1.9\x1b[2J"})
    lines = rendering.text(made, read_how="live read in 0.4 s", files=3)
    assert [line.text for line in lines] == [
        "Revision 7f3a91c2 · 3 files · 1 allocation · live read in 0.4 s",
        "",
        "  a   eu.yaml:18",
        "    region    (absent)   → eu",
        "    version   1.9\\x1b[2J → 1.10",
        "",
        f"1 of 1 allocation not in sync: 1 to update (2 fields). Plan {made.plan_id[:12]}.",
    ]


def test_a_plan_says_why_an_allocation_is_not_updated() -> None:
    lines = rendering.text(one(Failed("500 Internal Server Error")), read_how="x", files=1)
    assert [line.text for line in lines[2:4]] == [
        "  a   eu.yaml:18",
        "    failing: 500 Internal Server Error",
    ]


def test_a_plan_without_changes_says_that_all_are_in_sync() -> None:
    lines = rendering.text(one({**WHOLE, "region": "eu", "version": "1.10"}), read_how="x", files=1)
    assert lines[-1].text == "All of 1 allocation in sync. Nothing to do."
