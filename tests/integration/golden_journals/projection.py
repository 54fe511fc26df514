"""What a process has restored from its journal, in plain words that no renaming of the product changes.

The rule: this is the only module of the golden journals that reads attributes of restored objects. A renamed
attribute is followed here; the words on the left and the expected values stay as they are. Times are seconds
from the wall clock at the recording, whatever the clock of the process says.

Left out: what the values should be (the JSON file beside each journal).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from allocsync.journal import reader
from allocsync.journal.database import JournalFile
from allocsync.model.change import Change
from allocsync.model.cloud import Json, NumberLiteral
from allocsync.model.desired_state import Desired
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import OpenIntent, Restored
from allocsync.reconcile.allocation.field_records import Leaf
from allocsync.reconcile.allocation.late_writes import Ghost
from allocsync.reconcile.allocation.managed_allocation import Lane
from allocsync.reconcile.allocation.updates import Intent, State
from allocsync.reconcile.checkpoint import ALLOCATION, Keeper
from allocsync.reconcile.controller import Loop
from allocsync.reconcile.gates.pause import Pause
from allocsync.reconcile.status.explain import Explanation

NEVER, LONG_AGO = "never", "long ago"  # infinity and minus infinity
OTHER = AllocationId("an allocation of which nothing is stored")
HISTORY = 5  # so many of the newest updates are compared
Seconds = Callable[[float], float | str]  # a time on the clock of the process, from the recording on


@dataclass(frozen=True, slots=True)
class Reopened:
    """A journal that is open again, and all that was restored from it. `restored_at` is on the wall clock."""

    file: JournalFile
    restored: Restored
    keeper: Keeper
    baseline: Mapping[AllocationId, Desired]
    in_force: Mapping[AllocationId, Desired | None]
    recorded_at: float
    restored_at: float
    now: float


def projected(of: Reopened) -> dict[str, Any]:
    """Everything that was restored."""

    def seconds(at: float) -> float | str:
        if at in {inf, -inf}:
            return NEVER if at == inf else LONG_AGO
        return round(at - of.now + of.restored_at - of.recorded_at, 3)

    keeper, gap_at = of.keeper, of.restored.gap_at
    stops = keeper.stops
    resumed = {lane.id: lane for lane in keeper.left_open()}
    remembered = {AllocationId(key) for key in keeper.recalled(ALLOCATION)}
    lanes = {key: resumed.get(key) or keeper.lane(key) for key in sorted(remembered | resumed.keys())}
    return {
        "record_lost": of.restored.gap,
        "record_lost_at": None if gap_at is None else round(gap_at - of.recorded_at, 3),
        "last_row": of.file.head.sequence,
        "cut_off_up_to_row": of.file.anchor.sequence,
        "open_updates_in_the_journal": [
            _recorded(each, round(each.at - of.recorded_at, 3)) for each in of.restored.open_intents
        ],
        "settle_seconds": keeper.settle.seconds(of.now),
        "largest_lag_seconds": keeper.settle.lag_seconds,
        "unknown_outcomes": [
            {"since": seconds(at), "took_seconds": took} for at, took in keeper.settle.unknowns
        ],
        "updates_sent": [{"minute_begins": seconds(at), "updates": sent} for at, sent in stops.budget.spent],
        "all_paused": stops.everything and _pause(stops.everything, seconds, of.recorded_at),
        "paused": {key: _pause(each, seconds, of.recorded_at) for key, each in stops.pauses.items()},
        "baseline": {key: _declared(each) for key, each in of.baseline.items()},
        "in_force": {key: _declared(each) for key, each in of.in_force.items()},
        "allocations": {key: _allocation(lane, seconds) for key, lane in lanes.items()},
        "no_update_of_others_before": {
            reason: seconds(at) for reason, at in keeper.lane(OTHER).restraint.until.items()
        },
    }


def history(directory: Path, recorded_at: float) -> list[dict[str, Any]]:
    """The newest updates as they are shown to people, and when the record was lost."""
    with reader.opened(directory) as connection:
        updates: list[dict[str, Any]] = [
            {
                "row": past.sequence,
                "allocation": past.allocation,
                "at": round(past.at - recorded_at, 3),
                "generation": past.generation,
                "why": past.reason,
                "changes": [_change(change) for change in past.changes],
                "endings": [
                    {"at": round(each.at - recorded_at, 3), "outcome": each.outcome, "reason": each.reason}
                    for each in past.endings
                ],
            }
            for past in reader.updates(connection, reader.Query(last=HISTORY))
        ]
        lost = [
            {"record_lost_at": round(at - recorded_at, 3), "reason": reason}
            for at, reason in reader.gaps(connection)
        ]
    return updates + lost


def said(loop: Loop, keys: Iterable[AllocationId], recorded_at: float) -> dict[str, Any]:
    """What the loop says of itself and of these allocations before it has looked at anything."""

    def seconds(at: float | None) -> float | None:
        return None if at is None else round(at - recorded_at, 3)

    status = loop.status()
    explained = {key: loop.explain(key) for key in keys}
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
    """A live value in which a number, the text of it, an object and a list differ."""
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
        "generation": left.record.generation,
        "why": left.record.reason,
        "changes": [_change(change) for change in left.record.changes],
        "declared": [list(pair) for pair in left.record.leaves],
        "unmanaged_hash": left.record.undeclared,
    }


def _pause(pause: Pause, seconds: Seconds, recorded_at: float) -> dict[str, object]:
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
    return {"id": desired.id, "fields": [list(pair) for pair in desired.leaves], "mode": str(desired.mode)}


def _allocation(lane: Lane, seconds: Seconds) -> dict[str, object]:
    past, restraint = lane.past, lane.restraint
    return {
        "outcome_is_open": lane.state is State.SETTLING,
        "open_update": None if past.intent is None else _open_update(past.intent, seconds),
        "late_writes": [_late_write(each, seconds) for each in past.ghosts.ghosts],
        "last_value_of_fields_of_late_writes": _values(past.ghosts.known),
        "value_before_accepted_updates": _values(past.ghosts.before),
        "set_by_late_landings_since_the_update_is_open": _values(past.meanwhile),
        "unmanaged_fields_moved_since_the_update_is_open": past.moved,
        "fields": {name: _field(each, seconds) for name, each in past.leaves.records.items()},
        "no_update_before": {reason: seconds(at) for reason, at in restraint.until.items()},
        "failed_updates_in_a_row": restraint.failures,
        "error": restraint.error,
        "rejected_changes": [_change(change) for change in restraint.terminal],
        "rejected_until": seconds(restraint.terminal_until),
    }


def _values(values: Mapping[str, Json]) -> dict[str, object]:
    return {name: live(value) for name, value in values.items()}


def _open_update(intent: Intent, seconds: Seconds) -> dict[str, object]:
    return {
        "row": intent.sequence,
        "changes": [_change(change) for change in intent.changes],
        "declared": [list(pair) for pair in intent.leaves],
        "unmanaged_hash": intent.undeclared,
        "outcome_unknown_since": None if intent.unknown_since is None else seconds(intent.unknown_since),
        "not_given_up_before": seconds(intent.settles_at),
    }


def _late_write(ghost: Ghost, seconds: Seconds) -> dict[str, object]:
    return {
        "row": ghost.sequence,
        "request_ended_at": seconds(ghost.since),
        "may_land_until": seconds(ghost.until),
        "carries": ghost.leaves,
        "changes": sorted(ghost.changes),
        "unmanaged_hash": ghost.undeclared,
        "accepted": ghost.accepted,
        "last_not_seen_at": seconds(ghost.unseen_at),
        "unmanaged_hash_last_seen": ghost.rest,
        "told_as_landed": ghost.told,
    }


def _field(leaf: Leaf, seconds: Seconds) -> dict[str, object]:
    return {
        "accepted_value_not_shown_yet": leaf.accepted,
        "accepted_at": seconds(leaf.accepted_at),
        "live_when_it_was_accepted": live(leaf.accepted_live),
        "value_not_honoured": leaf.refused,
        "not_honoured_since": seconds(leaf.refused_at),
        "live_instead": live(leaf.refused_live),
        "sent_again_at": seconds(leaf.again_at),
        "moves_of_the_live_value": leaf.moves,
        "changed_back_at": [seconds(at) for at in leaf.flips],
        "slowed_until": seconds(leaf.slowed_until),
        "slowed_times": leaf.slowdowns,
        "equal_since": seconds(leaf.equal_since),
    }
