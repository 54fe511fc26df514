"""The JSON of the pages under /api/v1: turns the controller's status into values that `json` can write.

The rules: times are RFC 3339 in UTC, or null. A live value is a string: itself if it is a string, otherwise
its JSON; null if it is absent. The shapes are a public interface that scripts and the commands read.

Left out: what the values mean (`reconcile.status`), and the pages (`web.server`).
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
from allocsync.model.times import WallTime
from allocsync.reconcile.gates.pause import Pause
from allocsync.reconcile.status.controller_status import AllocationStatus, ApiStatus, ControllerStatus
from allocsync.reconcile.status.explain import Explanation
from allocsync.telemetry.log_setup import rfc3339

Object: TypeAlias = Mapping[str, object]
MAX_PROBLEMS = 20  # of rejected files; `allocsync validate` lists all


@dataclass(frozen=True, slots=True)
class RejectedFiles:
    """Files that are rejected as a whole: since when (seconds since the epoch), and every problem in them."""

    since: WallTime
    problems: tuple[Problem, ...]


def status_row(row: AllocationStatus) -> Object:
    """Serialize one allocation of the status."""
    return {
        "id": row.id,
        "condition": row.condition.value,
        "reason": row.reason,
        "since": rfc3339(row.since),
        "confirmed_at": timestamp(row.confirmed_at),
        "next_read_at": timestamp(row.next_read_at),
        "waits_for": row.waits_for,
        "paused": paused(row.paused),
        "declaration": row.declaration,
        "needs_person": row.needs_person,
        "advice": row.advice,
    }


def paused(pause: Pause | None) -> Object | None:
    """Serialize the pause that an allocation is in; None if it is in none."""
    if pause is None:
        return None
    return {"until": pause.ends, "owner": pause.owner, "reason": pause.reason}


def revisions(status: ControllerStatus) -> Object:
    """Serialize the active revision, the one that awaits approval, and the one that was observed.

    The observed one is the newest that every allocation has been compared with.
    """
    return {
        "active": status.active_revision,
        "awaiting_approval": status.revision if status.awaiting_reason else None,
        "observed": status.observed_revision,
    }


def api(status: ApiStatus) -> Object:
    """Serialize whether the API is reachable, since when, and when the next request is due."""
    return {
        "reachable": status.reachable,
        "since": timestamp(status.since),
        "reason": status.reason,
        "last_confirmed_at": timestamp(status.last_confirmed_at),
        "next_attempt_at": timestamp(status.next_attempt_at),
    }


def awaiting_approval(status: ControllerStatus) -> Object | None:
    """Serialize why and since when the newest revision awaits approval, and its canaries; None if not."""
    if not status.awaiting_reason:
        return None
    return {
        "reason": status.awaiting_reason,
        "since": timestamp(status.awaiting_since),
        "canaries": [{"id": key, "verified": verified} for key, verified in status.canaries.items()],
    }


def rejected(rejection: RejectedFiles | None) -> Object | None:
    """Serialize why and since when the files are rejected, with the first problems; None if they load."""
    if rejection is None:
        return None
    return {
        "since": timestamp(rejection.since),
        "count": len(rejection.problems),
        "problems": [asdict(problem) for problem in rejection.problems[:MAX_PROBLEMS]],
    }


def explanation(found: Explanation) -> Object:
    """Serialize everything about one allocation; after `schema` come the keys of `status_row`."""
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
        "observed_at": timestamp(found.observed_at),
        "answer_age_seconds": round(found.answer_age_seconds),
        "missing": found.missing,
        "last_error": found.last_error,
        "read_failures": found.read_failures,
        "write_failures": found.write_failures,
        "no_update_before": timestamp(found.no_update_before),
        "fields": [
            {
                "field": each.field,
                "ignored_since": timestamp(each.ignored_since),
                "in_conflict": each.in_conflict,
                "next_attempt_at": timestamp(each.next_attempt_at),
                "changed_back_at": [rfc3339(at) for at in each.changed_back_at],
                "another_writer": each.another_writer,
            }
            for each in found.fields
        ],
        "open_update": None
        if update is None
        else {
            "changes": _changes(update.changes),
            "unknown_since": timestamp(update.unknown_since),
            "settles_at": timestamp(update.settles_at),
        },
    }


def not_found(found: NotFound) -> Object:
    """Serialize the body of a 404."""
    return {"schema": SCHEMA, "error": found.why, "suggestions": list(found.suggestions)}


def _changes(changes: Iterable[Change]) -> list[Object]:
    return [
        {"field": change.field, "live": as_text(change.live), "desired": change.desired} for change in changes
    ]


def timestamp(at: WallTime | None) -> str | None:
    """Format Unix seconds as RFC 3339; None for None or an infinity."""
    return rfc3339(at) if at is not None and math.isfinite(at) else None
