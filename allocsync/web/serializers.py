"""The JSON of the pages under /api/v1: what the loop says of itself, as values that `json` can write.

The rule: times are RFC 3339 in UTC or null, and a value that a server sent is text: its own if it is one,
otherwise JSON; null is an absent one. These shapes are a contract: scripts and the commands read them.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TypeAlias

from allocsync.errors import Problem
from allocsync.model.change import Change
from allocsync.model.escaping import as_text
from allocsync.model.ids import NotFound
from allocsync.model.public_json import SCHEMA
from allocsync.reconcile.gates.pause import Pause
from allocsync.reconcile.status.controller_status import AllocationStatus, LoopStatus
from allocsync.reconcile.status.explain import Explanation
from allocsync.telemetry.log_setup import rfc3339

Object: TypeAlias = Mapping[str, object]
PROBLEMS_MOST = 20  # of files that are rejected; `allocsync validate` has them all


@dataclass(frozen=True, slots=True)
class Rejection:
    """Files that are rejected as a whole: since when (seconds since the epoch), and all that is wrong now."""

    since: float
    problems: tuple[Problem, ...]


def status_row(row: AllocationStatus) -> Object:
    """One allocation in the status."""
    return {
        "id": row.id,
        "condition": row.condition.value,
        "reason": row.reason,
        "since": rfc3339(row.since),
        "next_read_at": _time(row.next_read_at),
        "paused": paused(row.paused),
    }


def paused(pause: Pause | None) -> Object | None:
    """The pause that an allocation is in; null where it is in none."""
    if pause is None:
        return None
    return {"until": pause.ends, "owner": pause.owner, "reason": pause.reason}


def revisions(status: LoopStatus) -> Object:
    """The active revision, the one that awaits approval, and the newest that loaded; null for none."""
    return {
        "active": status.active_revision,
        "awaiting_approval": status.revision if status.held_reason else None,
        "observed": status.revision,
    }


def awaiting_approval(status: LoopStatus) -> Object | None:
    """Why the newest revision awaits approval, since when, and its canaries; null where it does not."""
    if not status.held_reason:
        return None
    return {
        "reason": status.held_reason,
        "since": _time(status.held_since),
        "canaries": [{"id": key, "verified": verified} for key, verified in status.canaries.items()],
    }


def rejected(rejection: Rejection | None) -> Object | None:
    """Why the files are rejected, the first problems as `validate` has them; null where they load."""
    if rejection is None:
        return None
    return {
        "since": _time(rejection.since),
        "count": len(rejection.problems),
        "problems": [asdict(problem) for problem in rejection.problems[:PROBLEMS_MOST]],
    }


def explanation(found: Explanation) -> Object:
    """Everything about one allocation; it begins as its row in the status does."""
    update = found.open_update
    return {
        "schema": SCHEMA,
        **status_row(found.status),
        "source": found.source,
        "mode": None if found.mode is None else found.mode.value,
        "problems": list(found.problems),
        "desired": dict(found.desired),
        "differences": None if found.differences is None else _changes(found.differences),
        "canary": found.canary,
        "observed_at": _time(found.observed_at),
        "missing": found.missing,
        "last_error": found.last_error,
        "read_failures": found.read_failures,
        "write_failures": found.write_failures,
        "no_update_before": _time(found.no_update_before),
        "open_update": None
        if update is None
        else {
            "changes": _changes(update.changes),
            "unknown_since": _time(update.unknown_since),
            "settles_at": _time(update.settles_at),
        },
    }


def not_found(found: NotFound) -> Object:
    """What a 404 says."""
    return {"schema": SCHEMA, "error": found.why, "suggestions": list(found.suggestions)}


def _changes(changes: Iterable[Change]) -> list[Object]:
    return [
        {"field": change.field, "live": as_text(change.live), "desired": change.desired} for change in changes
    ]


def _time(seconds: float | None) -> str | None:
    return rfc3339(seconds) if seconds is not None and math.isfinite(seconds) else None
