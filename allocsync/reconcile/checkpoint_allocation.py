"""What of a lane survives a restart: what became of what was sent, and who forbids an update. Pure.

The rule: a daemon that is restarted over and over again sends no more than one that runs. What a look will
show anyway (differences, conditions, failed reads) is not kept.

Left out: where it is kept (the journal), and when (`cycle`).
"""

from collections.abc import Mapping
from typing import Any

from allocsync.model.intent_record import OpenIntent
from allocsync.reconcile.allocation.managed_allocation import Lane
from allocsync.reconcile.allocation.updates import Intent, State
from allocsync.reconcile.allocation.write_backoff import TAKEOVER


def dump(lane: Lane, offset_seconds: float) -> dict[str, Any] | None:
    """All that has to be kept, times moved by this much to the wall clock; None when nothing has to."""
    parts = lane.past.dump(offset_seconds)
    restraint = lane.restraint.dump(offset_seconds)
    if restraint:
        parts["restraint"] = restraint
    return parts or None


def load(lane: Lane, data: Mapping[str, Any], offset_seconds: float, now: float) -> None:
    """Give a new lane what `dump` gave."""
    lane.past.load(data, offset_seconds, now)
    if "restraint" in data:
        lane.restraint.load(data["restraint"], offset_seconds, now, lane.rules)


def resume(lane: Lane, left: OpenIntent, now: float) -> None:
    """An earlier process sent this update, or was about to: nobody knows how it ended, from now on."""
    record = left.record
    intent = Intent(
        changes=record.changes,
        leaves=record.leaves,
        undeclared=record.undeclared,
        sequence=left.sequence,
    )
    lane.state, lane.restraint.error = State.SETTLING, "the process ended before the outcome was known"
    lane.past.unknown(intent, now)
    lane.look_at = intent.settles_at


def wait(lane: Lane, until: float) -> None:
    """What an earlier process sent is not known: nothing is sent before then."""
    lane.restraint.until[TAKEOVER] = until
