"""A plan: the same whatever the order, complete whatever was done already, and readable."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.model.api_answers import Failed, Live, Missing, Snapshot
from allocsync.model.cloud import NumberLiteral
from allocsync.model.desired_state import Desired, Generation, Mode
from allocsync.model.ids import AllocationId
from allocsync.planning import rendering
from allocsync.planning.diff import update_body
from allocsync.planning.plan import Plan, Verdict, plan
from tests.support import strategies

World = tuple[Generation, dict[AllocationId, Snapshot]]
KEYS = ("7b0c4c5e", "91d2a0f3", "c44e11aa")
snapshots = st.one_of(strategies.clouds.map(Live), st.just(Missing()), st.just(Failed("504")))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A generation and what is live."""
    modes = st.sampled_from([Mode.ENFORCE, Mode.ENFORCE, *Mode])
    wanted = {AllocationId(key): draw(strategies.desired(key, modes)) for key in KEYS}
    live = {AllocationId(key): draw(snapshots) for key in KEYS if draw(st.integers(0, 9))}
    quarantined = {AllocationId("0bad"): ("a.yaml:3:1: wrong",)} if draw(st.booleans()) else {}
    return Generation("d" * 64, wanted, quarantined, 1), live


@given(worlds())
def test_the_order_of_input_does_not_show(world: World) -> None:
    generation, live = world
    turned = Generation(
        generation.digest,
        dict(reversed(list(generation.allocations.items()))),
        generation.quarantined,
        generation.files,
    )
    one, other = plan(generation, live), plan(turned, dict(reversed(live.items())))
    assert one == other
    assert one.digest == other.digest


@given(worlds(), st.integers(0, len(KEYS)))
def test_planning_after_any_part_of_it_was_done_gives_the_rest(world: World, done: int) -> None:
    generation, live = world
    before = plan(generation, live)
    for step in before.updates[:done]:
        snapshot = live[step.id]
        assert isinstance(snapshot, Live)
        body, problems = update_body(generation.allocations[step.id], snapshot.cloud)
        assert not problems
        live[step.id] = Live(body)
    assert plan(generation, live).updates == before.updates[done:]


@given(worlds(), worlds())
def test_two_digests_are_equal_exactly_if_the_updates_are(
    one: World,
    other: World,
) -> None:
    first, second = plan(*one), plan(*other)
    same = [(step.id, step.changes) for step in first.updates] == [
        (step.id, step.changes) for step in second.updates
    ]
    assert (first.digest == second.digest) == same


@given(worlds())
def test_every_allocation_is_one_step_and_is_counted(
    world: World,
) -> None:
    generation, live = world
    made = plan(generation, live)
    assert [step.id for step in made.steps] == sorted([*generation.allocations, *generation.quarantined])
    assert sum(made.counts.values()) == len(made.steps)
    assert list(rendering.as_json(made)["counts"]) == ["in_sync", "update", "missing", "held", "failing"]  # type: ignore[call-overload]  # JSON


@given(worlds())
def test_what_is_shown_cannot_steer_a_terminal_and_is_json(
    world: World,
) -> None:
    made = plan(*world)
    for line in rendering.text(made, read_how="live read in 0.1 s", files=1):
        assert line.text.isprintable()
    assert json.loads(json.dumps(rendering.as_json(made)))["digest"] == made.digest


def one(live: Any, mode: Mode = Mode.ENFORCE) -> Plan:  # noqa: ANN401 - a snapshot or a cloud
    wanted = Desired(AllocationId("a"), (("region", "eu"), ("version", "1.10")), mode, "eu.yaml:18")
    snapshot = live if isinstance(live, Missing | Failed) else Live(live)
    return plan(Generation("7f3a91c2" * 8, {wanted.id: wanted}), {wanted.id: snapshot})


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
def test_what_a_plan_says_of_one_allocation(live: Any, mode: Mode, verdict: Verdict, reason: str) -> None:  # noqa: ANN401 - a snapshot or a cloud
    (step,) = one(live, mode).steps
    assert step.verdict is verdict
    assert reason in step.reason


def test_a_number_and_its_text_give_two_digests() -> None:
    number, text = ({**WHOLE, "version": value, "region": "eu"} for value in (NumberLiteral("1.9"), "1.9"))
    assert one(number).digest != one(text).digest
    rows: Any = rendering.as_json(one(number))["changes"]
    assert rows == [{"id": "a", "field": "version", "live": '{"number": "1.9"}', "desired": "1.10"}]


def test_a_plan_reads_well() -> None:
    made = one({**WHOLE, "version": "1.9\x1b[2J"})
    lines = rendering.text(made, read_how="live read in 0.4 s", files=3)
    assert [line.text for line in lines] == [
        "Generation 7f3a91c2 · 3 files · 1 allocation · live read in 0.4 s",
        "",
        "  a   eu.yaml:18",
        "    region    (absent)   → eu",
        "    version   1.9\\x1b[2J → 1.10",
        "",
        f"1 of 1 allocation not in sync: 1 to update (2 fields). Digest {made.digest[:12]}.",
    ]


def test_a_plan_says_why_an_allocation_is_left_alone() -> None:
    lines = rendering.text(one(Failed("500 Internal Server Error")), read_how="x", files=1)
    assert [line.text for line in lines[2:4]] == [
        "  a   eu.yaml:18",
        "    failing: 500 Internal Server Error",
    ]


def test_a_plan_with_nothing_to_do_says_so() -> None:
    lines = rendering.text(one({**WHOLE, "region": "eu", "version": "1.10"}), read_how="x", files=1)
    assert lines[-1].text == "All of 1 allocation in sync. Nothing to do."
