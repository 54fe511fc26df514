"""A lane and the clock that it is told: what the examples of a lane start from."""

from collections.abc import Mapping
from typing import Any

from allocsync.model.api_answers import Failed, Live, Missing, OutcomeUnknown, Snapshot, UpdateAnswer
from allocsync.model.cloud import Json
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Desired, Mode
from allocsync.model.ids import AllocationId
from allocsync.reconcile.allocation.managed_allocation import Lane
from allocsync.reconcile.allocation.read_back import Past
from allocsync.reconcile.allocation.settle_time import Settle
from allocsync.reconcile.allocation.updates import Decision, Finding, Update
from allocsync.reconcile.parameters import Rules
from allocsync.reconcile.status.condition_rules import project

ID = AllocationId("7b0c4c5e-1f0e-4c53-9a3b-0a4b8f2f7d11")
RULES = Rules()
RESYNC = 300.0
A = {"region": "a", "version": "1"}


def cloud(**leaves: Json) -> dict[str, Any]:
    return {
        "id": ID,
        "user": "u",
        "project": "p",
        "status": {"cloud": "RUNNING"},
        "urls": {"base": {"status": "RUNNING", "url": "x"}, "id": {"status": "RUNNING", "url": "y"}},
        **leaves,
    }


def wanted(mode: Mode = Mode.ENFORCE, /, **leaves: str) -> Desired:
    return Desired(ID, tuple(sorted(leaves.items())), mode)


def new_lane(key: str = ID) -> Lane:
    return Lane(id=AllocationId(key), rules=RULES, past=Past(rules=RULES, settle=Settle(RULES)), look_at=0.0)


class Told:
    """A lane and the clock it is told, with the arguments that do not matter filled in."""

    def __init__(self, desired: Desired | None = None) -> None:
        self.now = 0.0
        self.sequence = 0
        self.lane = new_lane()
        self.lane.want(desired or wanted(**A), now=0.0)

    def look(self, answer: Snapshot | Mapping[str, Json], *, at: float | None = None) -> Decision:
        self.now = self.now if at is None else at
        snapshot = answer if isinstance(answer, Live | Missing | Failed) else Live(cloud(**answer))
        self.lane.begin_look()
        return self.lane.looked(
            snapshot, begun=self.now, now=self.now, delay_seconds=2.0, resync_seconds=RESYNC
        )

    def update(self, answer: Snapshot | Mapping[str, Json], *, at: float | None = None) -> Update:
        update = self.look(answer, at=at).update
        assert update is not None
        self.intend(update)
        return update

    def intend(self, update: Update) -> None:
        self.sequence += 1
        self.lane.intend(update.record("")).sequence = self.sequence

    def post(self, answer: UpdateAnswer, *, at: float | None = None, delay_seconds: float = 2.0) -> None:
        self.now = self.now if at is None else at
        self.lane.posted(
            answer,
            now=self.now,
            delay_seconds=delay_seconds,
            confirm_seconds=1.5,
            resync_seconds=RESYNC,
        )

    def condition(self) -> Condition:
        return project(self.lane, self.now, RESYNC)[0]


def verdict(decision: Decision) -> Finding:
    """The only finding of a look."""
    (finding,) = decision.findings
    return finding


UNKNOWN = OutcomeUnknown("504 Gateway Timeout", 504)
DIFFERENT = {"region": "x", "version": "1"}
