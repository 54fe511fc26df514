"""Apply exactly what was reviewed: a digest or a plan file, and nothing that has moved since.

The rules: when anything that would be sent is not what the plan said, nothing at all is sent; and what moves
while the apply is under way is not sent either, each allocation by itself. The digest covers allocation,
field, live and desired value, so that a plan which was read is the plan that is carried out.

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
from allocsync.model.desired_state import Generation
from allocsync.model.escaping import visible
from allocsync.model.ids import AllocationId
from allocsync.planning import rendering
from allocsync.planning.diff import compare
from allocsync.planning.plan import Plan
from allocsync.reconcile.ports import Api

LEAST_DIGITS = 12  # of a digest: what `plan` shows
_DIGEST = re.compile(r"[0-9a-f]{12,64}")
_SHOWN = 10
_KEYS = {"id", "field", "live", "desired"}


Changes: TypeAlias = frozenset[tuple[str, str, str | None, str]]


@dataclass(frozen=True, slots=True)
class Review:
    """What somebody has read: a digest or the beginning of one, and the changes where there is a file."""

    digest: str
    changes: Changes | None = None


def review_of(plan_id: str | None, file: Path | None) -> Review | None:
    """What `--plan-id` or `--plan` say, None when neither is given.

    Raises:
        UsageError: both are given, or one is none.
    """
    if plan_id is not None and file is not None:
        raise UsageError("--plan-id and --plan say the same thing: give one of them.")
    if file is not None:
        return _read(file)
    if plan_id is None:
        return None
    if not _DIGEST.fullmatch(plan_id):
        raise UsageError(
            f"--plan-id {visible(plan_id)}: {LEAST_DIGITS} to 64 hexadecimal digits are needed, "
            "as `allocsync plan` shows them."
        )
    return Review(plan_id)


def check(review: Review, plan: Plan) -> None:
    """See that the plan is the one that was reviewed.

    Raises:
        AllocsyncError: it is not; says what is different as far as that is known.
    """
    if plan.digest.startswith(review.digest):
        return
    now, then = plan.digest[:LEAST_DIGITS], review.digest[:LEAST_DIGITS]
    lines = [f"what would be sent now is not what was reviewed: its plan id is {now}, not {then}."]
    if review.changes is not None:
        lines += _moved(review.changes, changes_of(rendering.as_json(plan), "this plan"))
    lines.append("Nothing was sent. Read `allocsync plan` again.")
    raise AllocsyncError("\n".join(lines))


def _moved(then: Changes, now: Changes) -> Iterator[str]:
    moved = sorted(
        [(row[0], row[1], "now, too") for row in now - then]
        + [(row[0], row[1], "no longer") for row in then - now]
    )
    for key, name, how in moved[:_SHOWN]:
        yield f"  {how}: {visible(key)} {name}"
    if len(moved) > _SHOWN:
        yield f"  and {len(moved) - _SHOWN:,} more"


class Reviewed:
    """An API to which only reviewed updates go, each built on a live state that differs as it did then."""

    def __init__(self, api: Api, generation: Generation, plan: Plan) -> None:
        self._api = api
        self._desired = generation.allocations
        self._reviewed: Mapping[AllocationId, tuple[Change, ...]] = {
            step.id: step.changes for step in plan.updates
        }
        self._live: dict[AllocationId, Cloud] = {}

    async def snapshot(self, allocation_id: AllocationId) -> Snapshot:
        """Read as usual, and remember what an update would be built on."""
        snapshot = await self._api.snapshot(allocation_id)
        if isinstance(snapshot, Live):
            self._live[allocation_id] = snapshot.cloud
        return snapshot

    async def update(self, allocation_id: AllocationId, body: Cloud) -> UpdateAnswer:
        """Send what was reviewed, once; refuse anything else."""
        changes = compare(self._desired[allocation_id], self._live[allocation_id])
        reviewed = self._reviewed.get(allocation_id, ())
        if changes != reviewed:
            names = sorted({change.field for change in {*changes} ^ {*reviewed}})
            return NotSent(f"{', '.join(names)} moved since the plan was reviewed", terminal=True)
        return await self._api.update(allocation_id, body)

    def list(self) -> AsyncIterator[Cloud]:
        """Every cloud, as usual."""
        return self._api.list()


def _read(file: Path) -> Review:
    try:
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise UsageError(f"--plan {file}: {(error.strerror or 'unreadable').lower()}.") from error
    except ValueError as error:
        raise UsageError(
            f"--plan {file}: not a plan: {error}. `allocsync plan --out FILE` writes one."
        ) from error
    digest = found.get("plan_id") if isinstance(found, dict) else None
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise UsageError(
            f"--plan {file}: not a plan: it has no plan id. `allocsync plan --out FILE` writes one."
        )
    return Review(digest, changes_of(found, str(file)))


def changes_of(found: Mapping[str, object], name: str) -> Changes:
    """The changes of a plan in JSON.

    Raises:
        UsageError: it has another shape.
    """
    rows = found.get("changes")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() >= _KEYS for row in rows):
        raise UsageError(f"--plan {name}: not a plan: its changes have another shape.")
    return frozenset((row["id"], row["field"], row["live"], row["desired"]) for row in rows)
