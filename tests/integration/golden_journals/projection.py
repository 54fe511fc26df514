"""What a process has restored from its journal, in words that do not depend on the names in the code.

The rule: this is the only module of the golden journals that reads attributes of restored objects. When an
attribute is renamed, only this module changes; its words and the expected values stay. Times are in seconds
since the end of the recording, on the wall clock.

Left out: the expected values (the JSON file of each journal).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allocsync.journal import reader
from allocsync.journal.database import JournalFile
from allocsync.model.change import Change
from allocsync.model.cloud import Json, NumberLiteral
from allocsync.model.desired_state import Desired
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import OpenIntent, Restored
from allocsync.model.times import LONG_AGO, NEVER, Monotonic, WallTime
from allocsync.reconcile.allocation.field_records import FieldRecord
from allocsync.reconcile.allocation.late_writes import LateWrite
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.updates import Intent, State
from allocsync.reconcile.checkpoint import ALLOCATION, Checkpoint
from allocsync.reconcile.controller import Controller
from allocsync.reconcile.gates.pause import Pause
from allocsync.reconcile.status.explain import Explanation

OTHER = AllocationId("an allocation of which nothing is stored")
HISTORY = 5  # how many of the newest updates are compared
Seconds = Callable[[Monotonic], float | str]  # converts a monotonic time to seconds since the recording


@dataclass(frozen=True, slots=True)
class Reopened:
    """A journal that is open again, and all that was restored from it.

    `recorded_at` and `restored_at` are wall times, `now` is monotonic; all are in seconds.
    """

    file: JournalFile
    restored: Restored
    checkpoint: Checkpoint
    baseline: Mapping[AllocationId, Desired]
    in_force: Mapping[AllocationId, Desired | None]
    recorded_at: WallTime
    restored_at: WallTime
    now: Monotonic


def projected(of: Reopened) -> dict[str, Any]:
    """Everything that was restored."""

    def seconds(at: Monotonic) -> float | str:
        if at in {NEVER, LONG_AGO}:
            return "never" if at == NEVER else "long ago"
        return round(at - of.now + (of.restored_at - of.recorded_at), 3)

    checkpoint, gap_at = of.checkpoint, of.restored.gap_at
    write_gate = checkpoint.write_gate
    resumed = {allocation.id: allocation for allocation in checkpoint.allocations_with_open_intents()}
    remembered = {AllocationId(key) for key in checkpoint.stored(ALLOCATION)}
    allocations = {
        key: resumed.get(key) or checkpoint.create_allocation(key)
        for key in sorted(remembered | resumed.keys())
    }
    return {
        "record_lost": of.restored.gap,
        "record_lost_at": None if gap_at is None else round(gap_at - of.recorded_at, 3),
        "last_row": of.file.head.sequence,
        "cut_off_up_to_row": of.file.anchor.sequence,
        "open_updates_in_the_journal": [
            _recorded(each, round(each.at - of.recorded_at, 3)) for each in of.restored.open_intents
        ],
        "settle_seconds": checkpoint.settle_time.seconds(of.now),
        "largest_lag_seconds": checkpoint.settle_time.lag_seconds,
        "unknown_outcomes": [
            {"since": seconds(at), "took_seconds": took} for at, took in checkpoint.settle_time.unknowns
        ],
        "updates_sent": [
            {"minute_begins": seconds(at), "updates": sent} for at, sent in write_gate.write_quota.spent
        ],
        "all_paused": write_gate.everything and _pause(write_gate.everything, seconds, of.recorded_at),
        "paused": {key: _pause(each, seconds, of.recorded_at) for key, each in write_gate.pauses.items()},
        "baseline": {key: _declared(each) for key, each in of.baseline.items()},
        "in_force": {key: _declared(each) for key, each in of.in_force.items()},
        "allocations": {key: _allocation(allocation, seconds) for key, allocation in allocations.items()},
        "no_update_of_others_before": {
            reason: seconds(at)
            for reason, at in checkpoint.create_allocation(OTHER).write_backoff.until.items()
        },
    }


def history(directory: Path, recorded_at: WallTime) -> list[dict[str, Any]]:
    """The newest updates as `allocsync history` shows them, and when entries were lost."""
    with reader.opened(directory) as connection:
        updates: list[dict[str, Any]] = [
            {
                "row": update.sequence,
                "allocation": update.allocation,
                "at": round(update.at - recorded_at, 3),
                "generation": update.revision,
                "why": update.reason,
                "changes": [_change(change) for change in update.changes],
                "endings": [
                    {"at": round(each.at - recorded_at, 3), "outcome": each.outcome, "reason": each.reason}
                    for each in update.endings
                ],
            }
            for update in reader.updates(connection, reader.Query(last=HISTORY))
        ]
        lost = [
            {"record_lost_at": round(at - recorded_at, 3), "reason": reason}
            for at, reason in reader.gaps(connection)
        ]
    return updates + lost


def reported(controller: Controller, keys: Iterable[AllocationId], recorded_at: WallTime) -> dict[str, Any]:
    """What the controller reports of itself and of these allocations before the first read."""

    def seconds(at: WallTime | None) -> float | None:
        return None if at is None else round(at - recorded_at, 3)

    status = controller.status()
    explained = {key: controller.explain(key) for key in keys}
    return {
        "open_updates": status.open_intents,
        "settle_seconds": status.settle_seconds,
        "pauses": {
            scope: {"number": number, "last_ends": seconds(ends_at) if number else None}
            for scope, (number, ends_at) in status.pauses.items()
        },
        "allocations": {
            key: {
                "no_update_before": seconds(each.no_update_before),
                "failed_updates_in_a_row": each.write_failures,
                "last_error": each.last_error,
                "open_update": each.open_update
                and {
                    "changes": [_change(change) for change in each.open_update.changes],
                    "unknown_since": seconds(each.open_update.unknown_since),
                    "not_given_up_before": seconds(each.open_update.settles_at),
                },
            }
            for key, each in explained.items()
            if isinstance(each, Explanation)
        },
    }


def live(value: Json) -> object:
    """A live value in a form that distinguishes a number, its text, an object and a list."""
    match value:
        case NumberLiteral(text):
            return f"number {text}"
        case str():
            return f"text {value}"
        case bool() | None:
            return value
        case Mapping():
            return {key: live(item) for key, item in value.items()}
        case _:
            return [live(item) for item in value]


def _change(change: Change) -> dict[str, object]:
    return {"field": change.field, "from": live(change.live), "to": change.desired}


def _recorded(left: OpenIntent, at_seconds: float) -> dict[str, object]:
    return {
        "row": left.sequence,
        "allocation": left.allocation,
        "written_at": at_seconds,
        "generation": left.record.revision,
        "why": left.record.reason,
        "changes": [_change(change) for change in left.record.changes],
        "declared": [list(pair) for pair in left.record.fields],
        "unmanaged_hash": left.record.unmanaged_hash,
    }


def _pause(pause: Pause, seconds: Seconds, recorded_at: WallTime) -> dict[str, object]:
    return {
        "ends": seconds(pause.until),
        "ends_on_the_wall_clock": round(pause.ends_at - recorded_at, 3),
        "ends_for_people": pause.ends,
        "reason": pause.reason,
        "owner": pause.owner,
    }


def _declared(desired: Desired | None) -> object:
    if desired is None:
        return "not declared"
    return {"id": desired.id, "fields": [list(pair) for pair in desired.fields], "mode": str(desired.mode)}


def _allocation(allocation: ManagedAllocation, seconds: Seconds) -> dict[str, object]:
    read_back, write_backoff = allocation.read_back, allocation.write_backoff
    return {
        "outcome_is_open": allocation.state is State.SETTLING,
        "open_update": None if read_back.intent is None else _open_update(read_back.intent, seconds),
        "late_writes": [_late_write(each, seconds) for each in read_back.late_writes.late_writes],
        "last_value_of_fields_of_late_writes": _values(read_back.late_writes.latest),
        "value_before_accepted_updates": _values(read_back.late_writes.before_accepted),
        "set_by_late_landings_since_the_update_is_open": _values(read_back.late_values),
        "unmanaged_fields_moved_since_the_update_is_open": read_back.unmanaged_changed,
        "fields": {name: _field(each, seconds) for name, each in read_back.field_records.records.items()},
        "no_update_before": {reason: seconds(at) for reason, at in write_backoff.until.items()},
        "failed_updates_in_a_row": write_backoff.failures,
        "error": write_backoff.error,
        "rejected_changes": [_change(change) for change in write_backoff.terminal],
        "rejected_until": seconds(write_backoff.terminal_until),
    }


def _values(values: Mapping[str, Json]) -> dict[str, object]:
    return {name: live(value) for name, value in values.items()}


def _open_update(intent: Intent, seconds: Seconds) -> dict[str, object]:
    return {
        "row": intent.sequence,
        "changes": [_change(change) for change in intent.changes],
        "declared": [list(pair) for pair in intent.fields],
        "unmanaged_hash": intent.unmanaged_hash,
        "outcome_unknown_since": None if intent.unknown_since is None else seconds(intent.unknown_since),
        "not_given_up_before": seconds(intent.settles_at),
    }


def _late_write(late_write: LateWrite, seconds: Seconds) -> dict[str, object]:
    return {
        "row": late_write.sequence,
        "request_ended_at": seconds(late_write.since),
        "may_land_until": seconds(late_write.until),
        "carries": late_write.fields,
        "changes": sorted(late_write.changes),
        "unmanaged_hash": late_write.unmanaged_hash,
        "accepted": late_write.accepted,
        "last_not_seen_at": seconds(late_write.absent_at),
        "unmanaged_hash_last_seen": late_write.latest_unmanaged_hash,
        "told_as_landed": late_write.reported,
    }


def _field(record: FieldRecord, seconds: Seconds) -> dict[str, object]:
    return {
        "accepted_value_not_shown_yet": record.accepted,
        "accepted_at": seconds(record.accepted_at),
        "live_when_it_was_accepted": live(record.accepted_live),
        "value_not_honoured": record.ignored,
        "not_honoured_since": seconds(record.ignored_at),
        "live_instead": live(record.ignored_live),
        "sent_again_at": seconds(record.retry_at),
        "moves_of_the_live_value": record.moves,
        "changed_back_at": [seconds(at) for at in record.flips],
        "slowed_until": seconds(record.slowed_until),
        "slowed_times": record.slowdowns,
        "equal_since": seconds(record.equal_since),
    }
