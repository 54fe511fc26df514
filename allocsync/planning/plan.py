"""A plan: the verdict on each allocation after one read of all, and the updates that an apply would send.

The rules: steps are sorted by id, so the order of the input does not matter. The plan id is a hash of
all changes that would be sent (allocation, field, live and desired value), so two plans have the same id if
and only if these are the same. Unmanaged fields, which an update sends back, are not in the hash. An
allocation that cannot be read, or whose update the API's schema would reject, is a failing step of its own
and does not stop the others.

Left out: how a plan is shown (`planning.rendering`), and how it is applied (`cli.commands.apply`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from allocsync.model.api_answers import Failed, Missing, Snapshot
from allocsync.model.change import Change
from allocsync.model.cloud import Cloud
from allocsync.model.desired_state import Desired, Mode, Revision
from allocsync.model.ids import AllocationId
from allocsync.model.lossless_json import encode_lossless
from allocsync.planning.diff import compare, pending, update_body


class Verdict(StrEnum):
    """What a plan says about one allocation."""

    IN_SYNC = "in_sync"
    UPDATE = "update"
    MISSING = "missing"
    BLOCKED = "blocked"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Step:
    """One allocation in a plan. `source` is where it is declared, as `file:line`."""

    id: AllocationId
    verdict: Verdict
    changes: tuple[Change, ...] = ()
    reason: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of all allocations, sorted by id; `revision` is the whole id of the revision."""

    revision: str
    steps: tuple[Step, ...]

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many steps have each verdict; 0 for one that none has."""
        counts = dict.fromkeys(Verdict, 0)
        for step in self.steps:
            counts[step.verdict] += 1
        return counts

    @property
    def updates(self) -> tuple[Step, ...]:
        """The steps that would send something."""
        return tuple(step for step in self.steps if step.verdict is Verdict.UPDATE)

    @property
    def plan_id(self) -> str:
        """The plan id: the SHA-256 of the changes that would be sent, in hexadecimal."""
        sent = [
            [
                step.id,
                [[change.field, encode_lossless(change.live), change.desired] for change in step.changes],
            ]
            for step in self.updates
        ]
        return sha256(json.dumps(sent, separators=(",", ":")).encode()).hexdigest()


def plan(revision: Revision, snapshots: Mapping[AllocationId, Snapshot]) -> Plan:
    """Plan what the revision changes, given a snapshot of each allocation; without one, it is FAILING."""
    unread = Failed("it has not been read")
    steps = [
        _plan_allocation(desired, snapshots.get(key, unread)) for key, desired in revision.allocations.items()
    ]
    steps.extend(
        Step(key, Verdict.BLOCKED, reason="; ".join(problems))
        for key, problems in revision.quarantined.items()
    )
    return Plan(revision.id, tuple(sorted(steps, key=lambda each: each.id)))


def _plan_allocation(desired: Desired, snapshot: Snapshot) -> Step:
    """Plan one allocation."""
    match snapshot:
        case Missing():
            reason = "the API answers 410 Cloud not found; no update will be sent"
            return Step(desired.id, Verdict.MISSING, reason=reason, source=desired.source)
        case Failed():
            return Step(desired.id, Verdict.FAILING, reason=snapshot.reason, source=desired.source)
        case _:
            return _plan_live(desired, snapshot.cloud)


def _plan_live(desired: Desired, cloud: Cloud) -> Step:
    changes = compare(desired, cloud)
    verdict, reason = Verdict.UPDATE, ""
    if not changes:
        verdict = Verdict.IN_SYNC
    elif desired.mode is not Mode.ENFORCE:
        verdict, reason = Verdict.BLOCKED, f"mode {desired.mode} forbids the update"
    elif statuses := pending(cloud):
        verdict = Verdict.BLOCKED
        reason = f"{', '.join(statuses)} PENDING: no update is sent while the server is changing it"
    else:
        _, problems = update_body(desired, cloud)
        if problems:
            verdict, reason = Verdict.FAILING, "; ".join(problems)
    return Step(desired.id, verdict, changes, reason, desired.source)
