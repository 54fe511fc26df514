"""A managed allocation with a clock that the test sets, and the values that its examples share."""

from collections.abc import Mapping
from typing import Any

from allocsync.model.api_answers import Failed, Live, Missing, OutcomeUnknown, Snapshot, UpdateAnswer
from allocsync.model.cloud import Json
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Desired, Mode
from allocsync.model.ids import AllocationId
from allocsync.model.times import Monotonic
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.propagation_window import PropagationWindow
from allocsync.reconcile.allocation.read_back import ReadBack
from allocsync.reconcile.allocation.settle_time import SettleTime
from allocsync.reconcile.allocation.updates import Decision, Finding, Update
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.status.condition_rules import project

ID = AllocationId("7b0c4c5e-1f0e-4c53-9a3b-0a4b8f2f7d11")
RULES = Parameters()
RESYNC = 300.0
A = {"region": "a", "version": "1"}


def cloud(**fields: Json) -> dict[str, Any]:
    return {
        "id": ID,
        "user": "u",
        "project": "p",
        "status": {"cloud": "RUNNING"},
        "urls": {"base": {"status": "RUNNING", "url": "x"}, "id": {"status": "RUNNING", "url": "y"}},
        **fields,
    }


def wanted(mode: Mode = Mode.ENFORCE, /, **fields: str) -> Desired:
    return Desired(ID, tuple(sorted(fields.items())), mode)


def new_allocation(key: str = ID) -> ManagedAllocation:
    return ManagedAllocation(
        id=AllocationId(key),
        rules=RULES,
        read_back=ReadBack(
            rules=RULES, settle_time=SettleTime(RULES), propagation_window=PropagationWindow(RULES)
        ),
        next_read_at=Monotonic(0.0),
    )


class ScriptedAllocation:
    """A managed allocation with a clock that the test sets; arguments that do not matter are filled in."""

    def __init__(self, desired: Desired | None = None) -> None:
        self.now = Monotonic(0.0)
        self.sequence = 0
        self.allocation = new_allocation()
        self.allocation.set_desired(desired or wanted(**A), now=self.now)

    def read(self, answer: Snapshot | Mapping[str, Json], *, at: Monotonic | None = None) -> Decision:
        self.now = self.now if at is None else at
        snapshot = answer if isinstance(answer, Live | Missing | Failed) else Live(cloud(**answer))
        self.allocation.begin_read()
        return self.allocation.on_read(
            snapshot, begun=self.now, now=self.now, delay_seconds=2.0, resync_seconds=RESYNC
        )

    def update(self, answer: Snapshot | Mapping[str, Json], *, at: Monotonic | None = None) -> Update:
        update = self.read(answer, at=at).update
        assert update is not None
        self.begin_update(update)
        return update

    def begin_update(self, update: Update) -> None:
        self.sequence += 1
        self.allocation.begin_update(update.record("")).set_sequence(self.sequence)

    def receive(
        self, response: UpdateAnswer, *, at: Monotonic | None = None, delay_seconds: float = 2.0
    ) -> None:
        self.now = self.now if at is None else at
        self.allocation.on_update_response(
            response,
            now=self.now,
            delay_seconds=delay_seconds,
            confirm_seconds=1.5,
            resync_seconds=RESYNC,
        )

    def condition(self) -> Condition:
        return project(self.allocation, self.now, RESYNC)[0]


def verdict(decision: Decision) -> Finding:
    """The only finding of a read."""
    (finding,) = decision.findings
    return finding


UNKNOWN = OutcomeUnknown("504 Gateway Timeout", 504)
DIFFERENT = {"region": "x", "version": "1"}
