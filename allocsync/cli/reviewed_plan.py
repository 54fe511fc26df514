"""Applies exactly the plan that was reviewed, given by its plan id or as a plan file.

The rules: if anything that would be sent differs from the reviewed plan, nothing is sent. An allocation
that changes while the apply runs is not sent either; the others are. The plan id covers allocation, field,
live value and desired value of every change.

Left out: how a plan is made (`planning.plan`).
"""

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from allocsync.errors import AllocsyncError, UsageError
from allocsync.model.api_answers import Live, NotSent, Snapshot, UpdateAnswer
from allocsync.model.change import Change
from allocsync.model.cloud import Cloud
from allocsync.model.desired_state import Revision
from allocsync.model.escaping import visible
from allocsync.model.ids import AllocationId
from allocsync.planning import rendering
from allocsync.planning.diff import compare
from allocsync.planning.plan import Plan
from allocsync.reconcile.ports import Api

MIN_PLAN_ID_DIGITS = 12  # as many as `plan` shows
_PLAN_ID = re.compile(r"[0-9a-f]{12,64}")
_MAX_LISTED = 10
_CHANGE_KEYS = {"id", "field", "live", "desired"}


Changes: TypeAlias = frozenset[tuple[str, str, str | None, str]]


@dataclass(frozen=True, slots=True)
class Review:
    """What a person has reviewed: a plan id or its first digits, and the changes if a plan file was given."""

    plan_id: str
    changes: Changes | None = None


def load_review(plan_id: str | None, file: Path | None) -> Review | None:
    """Return the review that `--plan-id` or `--plan` gives; None if neither is given.

    Only the form of a plan id is checked here; `check_unchanged` compares it.

    Raises:
        UsageError: both are given, the plan id is not one, or the file cannot be read or is no plan.
    """
    if plan_id is not None and file is not None:
        raise UsageError("--plan-id and --plan both name a plan: give one of them.")
    if file is not None:
        return _load_plan_file(file)
    if plan_id is None:
        return None
    if not _PLAN_ID.fullmatch(plan_id):
        raise UsageError(
            f"--plan-id {visible(plan_id)}: {MIN_PLAN_ID_DIGITS} to 64 hexadecimal digits are needed, "
            "as `allocsync plan` shows them."
        )
    return Review(plan_id)


def check_unchanged(review: Review, plan: Plan) -> None:
    """Check that the plan is the reviewed one.

    Raises:
        AllocsyncError: it is not; lists the differences if the review came from a plan file.
    """
    if plan.plan_id.startswith(review.plan_id):
        return
    now, then = plan.plan_id[:MIN_PLAN_ID_DIGITS], review.plan_id[:MIN_PLAN_ID_DIGITS]
    lines = [f"what would be sent now is not what was reviewed: the plan id is {now}, not {then}."]
    if review.changes is not None:
        lines += _describe_differences(review.changes, parse_changes(rendering.as_json(plan), "this plan"))
    lines.append("Nothing was sent. Review the output of `allocsync plan` again.")
    raise AllocsyncError("\n".join(lines))


def _describe_differences(then: Changes, now: Changes) -> Iterator[str]:
    differences = sorted(
        [(row[0], row[1], "new") for row in now - then]
        + [(row[0], row[1], "no longer") for row in then - now]
    )
    for key, name, how in differences[:_MAX_LISTED]:
        yield f"  {how}: {visible(key)} {name}"
    if len(differences) > _MAX_LISTED:
        yield f"  and {len(differences) - _MAX_LISTED:,} more"


class ReviewedApi:
    """An API client that sends an update only if the allocation's differences are still the reviewed ones."""

    def __init__(self, api: Api, revision: Revision, plan: Plan) -> None:
        self._api = api
        self._desired = revision.allocations
        self._reviewed: Mapping[AllocationId, tuple[Change, ...]] = {
            step.id: step.changes for step in plan.updates
        }
        self._live: dict[AllocationId, Cloud] = {}

    async def snapshot(self, allocation_id: AllocationId) -> Snapshot:
        """Read one allocation, and remember its live state for the check in `update`."""
        snapshot = await self._api.snapshot(allocation_id)
        if isinstance(snapshot, Live):
            self._live[allocation_id] = snapshot.cloud
        return snapshot

    async def update(self, allocation_id: AllocationId, body: Cloud) -> UpdateAnswer:
        """Send the update if its changes are the reviewed ones; otherwise return a terminal `NotSent`."""
        changes = compare(self._desired[allocation_id], self._live[allocation_id])
        reviewed = self._reviewed.get(allocation_id, ())
        if changes != reviewed:
            names = sorted({change.field for change in {*changes} ^ {*reviewed}})
            return NotSent(f"{', '.join(names)} changed since the plan was reviewed", terminal=True)
        return await self._api.update(allocation_id, body)

    def list(self) -> AsyncIterator[Live]:
        """Read the list. The check in `update` does not use it."""
        return self._api.list()


def _load_plan_file(file: Path) -> Review:
    try:
        document = json.loads(file.read_bytes())
    except OSError as error:
        raise UsageError(f"--plan {file}: {(error.strerror or 'unreadable').lower()}.") from error
    except ValueError as error:
        raise UsageError(
            f"--plan {file}: not a plan: {error}. `allocsync plan --out FILE` writes one."
        ) from error
    plan_id = document.get("plan_id") if isinstance(document, dict) else None
    if not isinstance(plan_id, str) or not _PLAN_ID.fullmatch(plan_id):
        raise UsageError(
            f"--plan {file}: not a plan: it has no `plan_id`. `allocsync plan --out FILE` writes one."
        )
    return Review(plan_id, parse_changes(document, str(file)))


def parse_changes(document: Mapping[str, object], name: str) -> Changes:
    """Return the changes of a plan in JSON; `name` is the file, for the message.

    Raises:
        UsageError: `changes` does not have the shape that `allocsync plan` writes.
    """
    rows = document.get("changes")
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and row.keys() >= _CHANGE_KEYS for row in rows
    ):
        raise UsageError(f"--plan {name}: not a plan: `changes` has another shape.")
    return frozenset((row["id"], row["field"], row["live"], row["desired"]) for row in rows)
