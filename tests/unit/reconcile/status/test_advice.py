"""For every condition and every wait: what `explain` advises, and what the next read waits for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from allocsync.cli.commands.explain import format_explanation
from allocsync.model.api_answers import Accepted, Failed, Live, Missing, Rejected, RejectionClass
from allocsync.model.cloud import Json
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Desired, Mode
from allocsync.model.times import Monotonic, WallTime, to_wall_time
from allocsync.planning.change_limit import NOT_DECLARED
from allocsync.planning.write_windows import parse_windows
from allocsync.reconcile.gates.pause import Pause
from allocsync.reconcile.gates.write_quota import HOUR, MINUTE, WriteQuota
from allocsync.reconcile.operation import Operation
from allocsync.reconcile.status.condition_rules import project
from allocsync.reconcile.status.controller_status import ApiStatus
from allocsync.reconcile.status.explain import Explanation, explain
from allocsync.reconcile.status.report import Moment, ReportedCondition
from allocsync.web import serializers
from tests.support.scripted_allocation import (
    DIFFERENT,
    ID,
    RESYNC,
    RULES,
    UNKNOWN,
    A,
    ScriptedAllocation,
    cloud,
    wanted,
)
from tests.unit.reconcile.allocation.test_field_records import World, ignores, in_conflict

OFFSET = 1e9  # Sunday, 2001-09-09 01:46:40Z
AWAITING = "9be01c44"
APPROVAL = (
    "`allocsync plan` shows the change, `allocsync approve 9be01c44` lets it through, and reverting the edit "
    "drops it"
)
VALIDATE = "correct its entry: `allocsync validate` lists each mistake with its place"
SEE_ERROR = f"see the error; it is tried again by itself, and now by `allocsync retry {ID}`"
WINDOW = (
    "wait until {} UTC, when the next write window opens, or change ALLOCSYNC_WRITE_WINDOWS and restart "
    "allocsync"
)
GONE = (
    "remove it from the files if it is gone for good; it is read again from time to time, and now by "
    f"`allocsync retry {ID}`"
)
WRONG = ("a.yaml:3:5: allocations.7b0c.regoin: unknown field",)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A situation: how it comes about, and what is said of it; `moment` has more of the controller."""

    name: str
    make: Callable[[], ScriptedAllocation]
    condition: Condition
    advice: str = ""
    reason: str = ""
    waits_for: str = "the resync"
    moment: Mapping[str, Any] = field(default_factory=dict)


def situation(
    *answers: Any,  # noqa: ANN401 - whatever `ScriptedAllocation.read` accepts
    desired: Desired | None = None,
    gate: Callable[[ScriptedAllocation], object] = lambda _scripted: None,
) -> Callable[[], ScriptedAllocation]:
    """Return what makes an allocation whose reads got these answers, with a gate in this state."""

    def make() -> ScriptedAllocation:
        scripted = ScriptedAllocation(desired)
        scripted.allocation.write_gate.set_wall_clock_offset(OFFSET)
        gate(scripted)
        for answer in answers:
            scripted.read(answer)
        return scripted

    return make


def updated(
    answer: Any,  # noqa: ANN401 - whatever `ScriptedAllocation.receive` accepts
) -> Callable[[], ScriptedAllocation]:
    def make() -> ScriptedAllocation:
        scripted = situation()()
        scripted.update(DIFFERENT)
        if answer is not None:
            scripted.receive(answer)
        return scripted

    return make


def then(
    make: Callable[[], ScriptedAllocation], more: Callable[[ScriptedAllocation], object]
) -> Callable[[], ScriptedAllocation]:
    def changed() -> ScriptedAllocation:
        scripted = make()
        more(scripted)
        return scripted

    return changed


def pauses(**seconds: float) -> Callable[[ScriptedAllocation], None]:
    def gate(scripted: ScriptedAllocation) -> None:
        for scope, until in seconds.items():
            ends = f"2001-09-09T01:{46 + int(until) // 60}:40Z"
            pause = Pause(
                until=Monotonic(until), ends_at=WallTime(0.0), ends=ends, reason="why", owner="mark"
            )
            scripted.allocation.write_gate.set_pause(None if scope == "all" else ID, pause)

    return gate


def closed(text: str) -> Callable[[ScriptedAllocation], None]:
    def gate(scripted: ScriptedAllocation) -> None:
        scripted.allocation.write_gate.windows = parse_windows(text)

    return gate


def used_up(*ago: float) -> Callable[[ScriptedAllocation], None]:
    """All updates of the hour were sent so many seconds ago."""

    def gate(scripted: ScriptedAllocation) -> None:
        spent = [(Monotonic(-each), 1) for each in ago]
        scripted.allocation.write_gate.write_quota = WriteQuota(len(ago), spent)

    return gate


def withheld(canaries: frozenset[Any] = frozenset()) -> Callable[[ScriptedAllocation], None]:
    def gate(scripted: ScriptedAllocation) -> None:
        scripted.allocation.write_gate.require_approval(
            frozenset({ID}), reason="revision 9be01c44 awaits approval", canaries=canaries
        )

    return gate


def ignored() -> ScriptedAllocation:
    world = World()
    world.store = ignores
    world.run(200.0)
    return world


def rejected_for_an_hour(scripted: ScriptedAllocation) -> None:
    """The resync is rarer than the next attempt."""
    scripted.allocation.next_read_at = scripted.allocation.write_backoff.terminal_until


def no_journal(scripted: ScriptedAllocation) -> None:
    scripted.allocation.journal_unavailable("database or disk is full", now=scripted.now)


PENDING_STATUS: Mapping[str, Json] = {**DIFFERENT, "status": {"cloud": "PENDING"}}
FAILED, BAD = Failed("503", 503), Rejected(400, "400 Bad Request", RejectionClass.BODY)
RETRY_AFTER = Failed("503", 503, retry_after_seconds=100.0)
READS, UNTIL = Operation.READ, Monotonic(50.0)

CASES = (
    # In sync, and what may be wrong even so.
    Case(name="in sync", make=situation(A), condition=Condition.IN_SYNC),
    Case(
        name="in sync; its newest entry has errors",
        make=then(situation(A), lambda s: s.allocation.keep_desired(WRONG)),
        condition=Condition.IN_SYNC,
        advice=VALIDATE,
    ),
    Case(
        name="in sync; its change awaits approval",
        make=situation(A, gate=withheld()),
        condition=Condition.IN_SYNC,
        advice=APPROVAL,
    ),
    Case(
        name="in sync; its release awaits approval",
        make=situation(A, desired=replace(wanted(**A), source=NOT_DECLARED)),
        condition=Condition.IN_SYNC,
        advice=APPROVAL,
    ),
    # Waiting for the controller.
    Case(name="new", make=situation(), condition=Condition.PENDING, waits_for="a free slot"),
    Case(
        name="the API asked to wait",
        make=situation(),
        condition=Condition.PENDING,
        waits_for="the API, which asked to wait",
        moment={"blocked_until": {READS: UNTIL}},
    ),
    Case(
        name="the breaker is open",
        make=situation(),
        condition=Condition.PENDING,
        waits_for="the next probe",
        moment={"blocked_until": {READS: UNTIL}, "probing": True},
    ),
    Case(
        name="being read",
        make=then(situation(), lambda s: s.allocation.begin_read()),
        condition=Condition.PENDING,
        waits_for="a request is in flight",
    ),
    Case(
        name="an update is in flight",
        make=updated(None),
        condition=Condition.PENDING,
        waits_for="a request is in flight",
    ),
    Case(
        name="an accepted update does not show yet",
        make=updated(Accepted(200, None)),
        condition=Condition.PENDING,
        waits_for="the confirmation of the update",
    ),
    Case(
        name="a status is PENDING",
        make=situation(PENDING_STATUS),
        condition=Condition.PENDING,
        waits_for="the resync",
        moment={"list_read_at": Monotonic(20.0)},
    ),
    Case(
        name="one read failed",
        make=situation(FAILED),
        condition=Condition.PENDING,
        waits_for="the backoff after 1 failed request",
    ),
    Case(
        name="Retry-After",
        make=situation(RETRY_AFTER),
        condition=Condition.PENDING,
        waits_for="Retry-After of the API",
    ),
    Case(
        name="an earlier process may have sent something",
        make=situation(DIFFERENT, gate=lambda s: s.allocation.send_nothing_before(UNTIL)),
        condition=Condition.PENDING,
        waits_for="the settle time of earlier updates",
    ),
    Case(
        name="a cache answers",
        make=then(situation(), lambda s: s.read(Live(cloud(**DIFFERENT), 43.0), at=Monotonic(100.0))),
        condition=Condition.PENDING,
        advice="wait until the cache asks the API again, or let no cache answer GETs of the API",
        waits_for="a newer answer than that of the cache",
    ),
    # Pauses.
    Case(
        name="everything is paused",
        make=situation(DIFFERENT, gate=pauses(all=120.0)),
        condition=Condition.PENDING,
        reason="differs in region; paused until 2001-09-09T01:48:40Z by mark: why",
        advice="wait until 2001-09-09T01:48:40Z, or ask mark; `allocsync resume --all` ends the pause",
        waits_for="the end of the pause",
    ),
    Case(
        name="it is paused",
        make=situation(DIFFERENT, gate=pauses(one=120.0)),
        condition=Condition.PENDING,
        advice=f"wait until 2001-09-09T01:48:40Z, or ask mark; `allocsync resume {ID}` ends the pause",
        waits_for="the end of the pause",
    ),
    Case(
        name="it and everything are paused",
        make=situation(DIFFERENT, gate=pauses(one=120.0, all=600.0)),
        condition=Condition.PENDING,
        advice="wait until 2001-09-09T01:56:40Z, or ask mark; `allocsync resume --all` and "
        f"`allocsync resume {ID}` end the pauses",
    ),
    Case(
        name="it is paused and not read",
        make=situation(gate=pauses(one=120.0)),
        condition=Condition.PENDING,
        waits_for="a free slot",
    ),
    # Other gates.
    Case(
        name="it awaits approval",
        make=situation(DIFFERENT, gate=withheld()),
        condition=Condition.AWAITING_APPROVAL,
        reason="revision 9be01c44 awaits approval",
        advice=APPROVAL,
    ),
    Case(
        name="it waits for canaries",
        make=situation(DIFFERENT, gate=withheld(frozenset({"other"}))),
        condition=Condition.AWAITING_APPROVAL,
        advice=f"wait for the canaries, or: {APPROVAL}",
    ),
    Case(
        name="the window opens soon",
        make=situation(DIFFERENT, gate=closed("Sun 01:48-02:00")),
        condition=Condition.BLOCKED,
        reason="outside the write windows: ALLOCSYNC_WRITE_WINDOWS allows updates in Sun 01:48-02:00 UTC; "
        "the next opens Sun 01:48",
        advice=WINDOW.format("Sun 01:48"),
        waits_for="the write window",
    ),
    Case(
        name="the window opens in days",
        make=situation(DIFFERENT, gate=closed("Sun 00:00-01:00, Wed-Thu 22:00-06:00")),
        condition=Condition.BLOCKED,
        advice=WINDOW.format("Wed 22:00"),
    ),
    Case(
        name="the quota is used up",
        make=situation(DIFFERENT, gate=used_up(HOUR, 100.0)),
        condition=Condition.BLOCKED,
        reason="write quota used up: ALLOCSYNC_MAX_WRITES_PER_HOUR allows 2 updates in an hour; the next at "
        "01:47:40Z",
        advice="wait until 01:47:40Z, when the quota allows the next update, or raise "
        "ALLOCSYNC_MAX_WRITES_PER_HOUR and restart allocsync",
        waits_for="the write quota",
    ),
    Case(
        name="the journal cannot be written",
        make=then(updated(None), no_journal),
        condition=Condition.BLOCKED,
        reason="the journal cannot be written (database or disk is full), and no update is sent without it",
        advice="make room on the disk of the state directory, or make it writable again; it goes on by "
        "itself",
        waits_for="the journal",
    ),
    Case(
        name="it was never declared without errors",
        make=then(situation(), lambda s: s.allocation.set_desired(None, now=Monotonic(0.0), problems=WRONG)),
        condition=Condition.BLOCKED,
        reason=WRONG[0],
        advice=VALIDATE,
        waits_for="",
    ),
    Case(
        name="it is released while it is read",
        make=then(
            then(situation(A), lambda s: s.allocation.begin_read()),
            lambda s: s.allocation.set_desired(None, now=Monotonic(0.0)),
        ),
        condition=Condition.BLOCKED,
        reason="no longer declared",
        advice="nothing: it is released when its request has ended",
        waits_for="a request is in flight",
    ),
    # Modes.
    Case(
        name="mode suspend",
        make=situation(desired=wanted(Mode.SUSPEND, **A)),
        condition=Condition.SUSPENDED,
        advice="set another mode in the files to have it managed again",
        waits_for="",
    ),
    Case(
        name="mode observe",
        make=situation(DIFFERENT, desired=wanted(Mode.OBSERVE, **A)),
        condition=Condition.DRIFTED,
        advice="set its mode to enforce to have it corrected, or declare the live values",
    ),
    # What the API did.
    Case(
        name="the outcome is unknown",
        make=updated(UNKNOWN),
        condition=Condition.OUTCOME_UNKNOWN,
        advice="nothing: it is read back, and sent again only if it was not applied",
        waits_for="the settle time",
    ),
    Case(
        name="it is missing",
        make=situation(Missing()),
        condition=Condition.MISSING,
        advice=GONE,
        waits_for="the next probe of a missing allocation",
    ),
    Case(
        name="it is missing, and its newest entry has errors",
        make=then(situation(Missing()), lambda s: s.allocation.keep_desired(WRONG)),
        condition=Condition.MISSING,
        advice=f"{VALIDATE}; {GONE}",
        waits_for="the next probe of a missing allocation",
    ),
    Case(
        name="three reads failed",
        make=situation(FAILED, FAILED, FAILED),
        condition=Condition.FAILING,
        advice=SEE_ERROR,
        waits_for="the backoff after 3 failed requests",
    ),
    Case(
        name="the API rejects the body",
        make=updated(BAD),
        condition=Condition.FAILING,
        advice=f"correct what the error names; `allocsync retry {ID}` sends it again now",
    ),
    Case(
        name="the API rejects the body, and nothing is read for an hour",
        make=then(updated(BAD), rejected_for_an_hour),
        condition=Condition.FAILING,
        advice=f"correct what the error names; `allocsync retry {ID}` sends it again now",
        waits_for="the next attempt",
    ),
    Case(
        name="a status stays PENDING",
        make=then(
            situation(PENDING_STATUS), lambda s: s.read(PENDING_STATUS, at=Monotonic(RULES.pending_seconds))
        ),
        condition=Condition.FAILING,
        advice="ask the operator of the API why the status stays PENDING",
    ),
    Case(
        name="a status stays PENDING, and reads fail",
        make=then(situation(PENDING_STATUS), lambda s: [s.read(FAILED, at=Monotonic(2e3)) for _ in range(3)]),
        condition=Condition.FAILING,
        advice=SEE_ERROR,
        waits_for="the backoff after 3 failed requests",
    ),
    Case(
        name="the API ignores it",
        make=ignored,
        condition=Condition.IGNORED,
        advice="ask whether the API ignores the value or somebody else sets the field; to end it, remove the "
        f"field from the files or declare what reads show; `allocsync retry {ID}` tries again now",
        waits_for="the next attempt",
    ),
    Case(
        name="somebody else sets it",
        make=in_conflict,
        condition=Condition.CONFLICT,
        advice="find out who else sets the field, and let only one side set it; "
        f"`allocsync retry {ID}` tries again now",
        waits_for="the next attempt",
    ),
)
WAITS = {
    *("", "a request is in flight", "a free slot", "the next probe", "the API, which asked to wait"),
    *("the resync", "the settle time", "the settle time of earlier updates", "Retry-After of the API"),
    *("the journal", "the backoff after 1 failed request", "the backoff after 3 failed requests"),
    *("the next probe of a missing allocation", "a newer answer than that of the cache"),
    *("the confirmation of the update", "the next attempt", "the end of the pause"),
    *("the write window", "the write quota"),
}


def explained(case: Case) -> Explanation:
    scripted = case.make()
    condition, reason = project(scripted.allocation, scripted.now, RESYNC)
    wall = to_wall_time(scripted.now, OFFSET)
    moment = Moment(
        now=scripted.now, wall=wall, resync_seconds=RESYNC, awaiting_revision=AWAITING, **case.moment
    )
    found = explain(ID, {ID: scripted.allocation}, {ID: ReportedCondition(condition, reason, wall)}, moment)
    assert isinstance(found, Explanation)
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_advice_fits_the_reason_and_the_next_read_names_what_it_waits_for(case: Case) -> None:
    found = explained(case)
    assert found.status.condition is case.condition
    assert case.reason in found.status.reason
    assert found.status.waits_for == case.waits_for
    assert found.status.advice == case.advice
    assert "None" not in found.status.advice


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_command_prints_the_advice_and_the_wait(case: Case) -> None:
    found = explained(case)
    answer = {
        **serializers.explanation(found),
        "api": serializers.api(ApiStatus(reachable=True)),
        "rejected": None,
    }
    lines = [line.text for line in format_explanation(answer, datetime.fromtimestamp(OFFSET, UTC))]
    assert [line for line in lines if line.startswith("  do ")] == (
        [f"  do          {case.advice}"] if case.advice else []
    )
    (line,) = [line for line in lines if line.startswith("  next read")]
    assert line.endswith(f", waits for {case.waits_for}" if case.waits_for else "never")
    validates = any("allocsync validate" in line for line in lines)
    assert validates == bool(found.problems), "only what has errors is told to validate"


def test_the_table_has_every_condition_and_every_wait() -> None:
    assert {case.condition for case in CASES} == set(Condition)
    assert {case.waits_for for case in CASES} == WAITS


@pytest.mark.parametrize(
    ("gate", "until"),
    [
        (closed("Sun 01:48-02:00"), 80.0),
        (used_up(HOUR, 100.0), MINUTE),
        (pauses(one=120.0), 120.0),
        (lambda _scripted: None, None),
    ],
)
def test_no_update_is_promised_before_the_gate_opens(
    gate: Callable[[ScriptedAllocation], None], until: float | None
) -> None:
    found = explained(
        Case(name="", make=situation(DIFFERENT, gate=gate), condition=Condition.BLOCKED)
    ).no_update_before
    assert found == (None if until is None else WallTime(OFFSET + until))


@pytest.mark.parametrize("more", [0, 1])
def test_the_quota_frees_when_enough_tokens_have_come_back(more: int) -> None:
    spent = [(Monotonic(float(minute * 60)), 1) for minute in range(5)]
    quota = WriteQuota(5 - more, spent)
    assert quota.frees_at(Monotonic(300.0)) == Monotonic(HOUR + MINUTE + 60.0 * more)
    assert WriteQuota(6, spent).frees_at(Monotonic(300.0)) is None
    assert WriteQuota(None, spent).frees_at(Monotonic(300.0)) is None
