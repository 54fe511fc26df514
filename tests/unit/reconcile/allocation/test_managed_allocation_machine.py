"""A managed allocation against a model of an API that loses responses, applies late and has other writers.

The model knows the live object; the allocation knows only the responses. After every step, no update was sent
while an outcome was unknown, without a read before it, or where nothing differs. Once the faults stop, the
live object reaches the desired state.
"""

from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from allocsync.model.api_answers import (
    Accepted,
    Failed,
    Live,
    Missing,
    NotSent,
    OutcomeUnknown,
    Rejected,
    RejectionClass,
)
from allocsync.model.change import Change
from allocsync.model.cloud import field_value
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Desired
from allocsync.model.ids import AllocationId
from allocsync.model.times import Monotonic, WallTime
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.propagation_window import PropagationWindow
from allocsync.reconcile.allocation.read_back import ReadBack
from allocsync.reconcile.allocation.settle_time import SettleTime
from allocsync.reconcile.allocation.updates import State, Update
from allocsync.reconcile.gates.pause import Pause
from allocsync.reconcile.gates.write_gate import WriteGate
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.status.condition_rules import project
from tests.support.tier import part_of

ID = AllocationId("7b0c4c5e-1f0e-4c53-9a3b-0a4b8f2f7d11")
RULES = Parameters()
VALUES = ("a", "b", "c")
RESYNC = 300.0
ANSWERS = ("ok", "unknown", "late", "lost", "partial", "rejected", "terminal", "not_sent", "late_ok", "echo")


def cloud(region: str, version: str) -> dict[str, Any]:
    return {
        "id": ID,
        "user": "u",
        "project": "p",
        "status": {"cloud": "RUNNING"},
        "urls": {"base": {"status": "RUNNING", "url": "x"}, "id": {"status": "RUNNING", "url": "y"}},
        "region": region,
        "version": version,
        "extra": {"kept": True},
    }


def desired(region: str, version: str) -> Desired:
    return Desired(ID, (("region", region), ("version", version)))


states = st.builds(desired, st.sampled_from(VALUES), st.sampled_from(VALUES))


@dataclass
class LateApplication:
    at: Monotonic
    body: dict[str, Any]


class AllocationMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = Monotonic(0.0)
        self.sent = 0
        self.live = cloud("a", "a")
        self.applications: list[LateApplication] = []
        self.settle_time = SettleTime(RULES)
        self.write_gate = WriteGate()
        read_back = ReadBack(
            rules=RULES, settle_time=self.settle_time, propagation_window=PropagationWindow(RULES)
        )
        self.allocation = ManagedAllocation(
            id=ID, rules=RULES, read_back=read_back, next_read_at=Monotonic(0.0), write_gate=self.write_gate
        )
        self.unknown_since: Monotonic | None = None
        self.accepted: dict[str, tuple[str, Monotonic]] = {}
        self.last_read: dict[str, Any] | None = None

    @initialize(region=st.sampled_from(VALUES), version=st.sampled_from(VALUES))
    def declare(self, region: str, version: str) -> None:
        self.set_desired(desired(region, version))

    def set_desired(self, wanted: Desired) -> None:
        self.allocation.set_desired(wanted, now=self.now)
        values = dict(wanted.fields)
        self.accepted = {k: v for k, v in self.accepted.items() if values[k] == v[0]}

    def apply_late_writes(self) -> None:
        for application in sorted(
            (each for each in self.applications if each.at <= self.now), key=lambda x: x.at
        ):
            self.live = dict(application.body)
            self.applications.remove(application)

    def read(
        self, *, fails: bool = False, missing: bool = False, edit: Desired | None = None, early: bool = False
    ) -> Update | None:
        """One read, begun when it is due or (`early`) at once; `edit` arrives while it is under way."""
        if not early:
            self.now = max(self.now, self.allocation.queue_entry().at)
        self.apply_late_writes()
        begun = self.now
        self.allocation.begin_read()
        if edit is not None:
            self.set_desired(edit)
        self.now += 0.1
        self.apply_late_writes()
        if missing:
            snapshot: Live | Missing | Failed = Missing()
            self.unknown_since = None
        elif fails:
            snapshot = Failed("504 Gateway Timeout", 504)
        else:
            snapshot = Live(dict(self.live))
            self.last_read = dict(self.live)
            self.accepted = {k: v for k, v in self.accepted.items() if field_value(self.live, k) != v[0]}
        decision = self.allocation.on_read(
            snapshot, begun=begun, now=self.now, delay_seconds=1.0, resync_seconds=RESYNC
        )
        if self.unknown_since is not None and self.allocation.intent is None:
            # Only of the latest update: the same read may show that an accepted one before it is ignored.
            if any((each.sequence, each.outcome) == (self.sent, "not_applied") for each in decision.findings):
                assert begun >= self.unknown_since + RULES.settle_seconds
            self.unknown_since = None
        for finding in decision.findings:
            if (
                finding.outcome == "late_applied"
            ):  # it explains the live values, so the propagation window of these fields is over
                self.accepted = {k: v for k, v in self.accepted.items() if k not in finding.fields}
        if decision.update is not None:
            assert self.unknown_since is None, "an update while an outcome is unknown"
            assert snapshot == Live(dict(self.live)), "an update without a read before it"
            assert decision.update.changes, "an update where nothing differs"
            assert not self.write_gate.blocked_reason(ID, self.now), "an update that the write gate forbids"
            assert not all(self.in_propagation_window(change) for change in decision.update.changes), (
                "sent twice within the propagation window"
            )
        return decision.update

    def in_propagation_window(self, change: Change) -> bool:
        value, at = self.accepted.get(change.field, ("", Monotonic(0.0)))
        return value == change.desired and self.now < at + RULES.propagation_window_seconds

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0, 11.0, 70.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.apply_late_writes()

    @rule(region=st.sampled_from(VALUES), version=st.sampled_from(VALUES))
    def edit(self, region: str, version: str) -> None:
        self.set_desired(desired(region, version))

    @rule()
    def a_person_asks_for_another_try(self) -> None:
        self.allocation.retry(self.now)
        self.accepted = {}

    @rule(awaiting=st.booleans())
    def a_change_limit(self, *, awaiting: bool) -> None:
        self.write_gate.awaiting_approval, self.write_gate.awaiting_reason = (
            (frozenset([ID]) if awaiting else frozenset()),
            "over the change limit",
        )

    @rule(seconds=st.sampled_from([0.0, 5.0, 60.0, 1000.0]), everything=st.booleans())
    def a_pause(self, *, seconds: float, everything: bool) -> None:
        pause = Pause(
            until=self.now + seconds, ends_at=WallTime(0.0), ends="later", reason="why", owner="who"
        )
        if everything:
            self.write_gate.everything = pause
        else:
            self.write_gate.pauses[ID] = pause

    @rule(field=st.sampled_from(["region", "version"]), value=st.sampled_from(VALUES))
    def another_writer(self, field: str, value: str) -> None:
        self.live = {**self.live, field: value}

    @rule(missing=st.booleans(), edit=st.one_of(st.none(), states))
    def read_without_a_snapshot(self, *, missing: bool, edit: Desired | None) -> None:
        before = self.allocation.desired
        assert self.read(fails=not missing, missing=missing, edit=edit) is None
        if edit is not None and edit != before and self.allocation.intent is None:
            assert self.allocation.queue_entry().at <= self.now, "an edit was lost"

    @rule(
        answer=st.sampled_from(ANSWERS),
        late=st.floats(0.1, 40.0),
        edit=st.one_of(st.none(), st.none(), states),
        edit_later=st.one_of(st.none(), st.none(), states),
        awaiting_later=st.booleans(),
        early=st.booleans(),
    )
    def work(
        self,
        *,
        answer: str,
        late: float,
        edit: Desired | None,
        edit_later: Desired | None,
        awaiting_later: bool,
        early: bool,
    ) -> None:
        update = self.read(edit=edit, early=early)
        if update is None:
            return
        self.begin_update(update)
        if edit_later is not None:
            self.set_desired(edit_later)
        if awaiting_later:
            self.a_change_limit(awaiting=True)
        aborted = self.allocation.abort_reason(update, self.now, commit_seconds=0.0)
        assert (aborted is None) == (self.allocation.desired == update.desired and not awaiting_later)
        if aborted is not None:
            self.allocation.abort_update(aborted, now=self.now, delay_seconds=1.0)
            return
        self.send(update, answer, late)

    def begin_update(self, update: Update) -> None:
        self.sent += 1
        self.allocation.begin_update(update.record("")).set_sequence(self.sent)

    def send(self, update: Update, answer: str, late: float) -> None:
        body = dict(update.body)
        assert any(field_value(self.live, change.field) != change.desired for change in update.changes)
        assert body["extra"] == {"kept": True}
        if answer in {"ok", "unknown"}:
            self.live = body
        elif answer == "partial":
            self.live = {**self.live, update.changes[0].field: update.changes[0].desired}
        elif answer in {"late", "late_ok"}:
            self.applications.append(LateApplication(self.now + late, body))
        outcome: Accepted | Rejected | OutcomeUnknown | NotSent
        match answer:
            case "ok" | "late_ok" | "echo":
                outcome = Accepted(200, body)
                for change in update.changes:
                    self.accepted[change.field] = (change.desired, self.now)
            case "rejected":
                outcome = Rejected(423, "423 Locked", RejectionClass.NOT_NOW)
            case "terminal":
                outcome = Rejected(400, "400 Bad Request", RejectionClass.BODY)
            case "not_sent":
                outcome = NotSent("connection refused")
            case _:
                outcome = OutcomeUnknown("504 Gateway Timeout", 504)
                self.unknown_since = self.now
        self.allocation.on_update_response(
            outcome, now=self.now, delay_seconds=1.0, confirm_seconds=1.5, resync_seconds=RESYNC
        )

    @invariant()
    def an_open_intent_has_an_unknown_outcome_and_is_read_back(self) -> None:
        if self.allocation.intent is not None:
            assert self.allocation.state is State.SETTLING
            assert self.unknown_since is not None
            assert self.allocation.queue_entry().at >= self.unknown_since + RULES.settle_seconds
            assert self.allocation.queue_entry().at <= self.now + 2 * RULES.settle_max_seconds
            assert project(self.allocation, self.now, RESYNC)[0] is Condition.OUTCOME_UNKNOWN

    @invariant()
    def an_allocation_always_has_a_next_read(self) -> None:
        assert self.allocation.queue_entry().at <= self.now + RULES.field_retry_max_seconds

    @invariant()
    def an_allocation_in_sync_had_the_desired_values_in_the_latest_read(self) -> None:
        if project(self.allocation, self.now, RESYNC)[0] is Condition.IN_SYNC:
            assert self.last_read is not None
            assert self.allocation.desired is not None
            assert all(
                field_value(self.last_read, field) == value for field, value in self.allocation.desired.fields
            )

    def teardown(self) -> None:
        """The faults stop: after a limited number of reads the live object has the desired values."""
        self.now += 50.0  # every late write has been applied
        self.write_gate.awaiting_approval = frozenset()
        self.apply_late_writes()
        for _ in range(500):  # flips are kept for a day
            update = self.read()
            if update is not None:
                self.begin_update(update)
                self.send(update, "ok", 0.0)
            elif (
                project(self.allocation, self.now, RESYNC)[0] is Condition.IN_SYNC
                and not self.allocation.read_back.field_records
            ):
                break
        wanted = self.allocation.desired
        if wanted is not None:
            assert project(self.allocation, self.now, RESYNC)[0] is Condition.IN_SYNC
            assert all(field_value(self.live, field) == value for field, value in wanted.fields)


TestAllocation = AllocationMachine.TestCase
TestAllocation.settings = settings(max_examples=part_of(300))
