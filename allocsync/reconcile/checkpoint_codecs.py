"""The stored form of everything that survives a restart: one encoder and one decoder for each value. Pure.

The rules: a stored key never changes its name or its meaning, whatever the attribute behind it is called; a
new key gets a default in its decoder; a change that an older allocsync would misread raises the format of the
journal (`journal.database.FORMAT`), and an older one rejects such a file. Every time is stored on the wall
clock, in seconds to the millisecond, and null means never. A wall clock can jump, so a decoded time is never
later than the rules could have put it.

Live values are stored in the form of `model.lossless_json`, written `value` below. The keys of the table:

    allocation/ID   {"leaves": …, "ghosts": …, "meanwhile": {field: value}, "moved": bool, "restraint": …}
                    without the parts that are empty
    settle          see `encode_settle_time`
    window          see `encode_propagation_window`
    writes          see `encode_write_quota`
    baseline/ID     see `encode_declaration`: what a new revision is compared with
    in_force/ID     the same: what is active where the baseline has something else
    pause/all, pause/of/ID     see `encode_pause`

Left out: when each is stored (`checkpoint`, `pause_control`, `rollout`), and checksums (`journal.checksum`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeAlias

from allocsync.model.desired_state import Desired, Mode
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import decode_changes, encode_changes
from allocsync.model.lossless_json import decode_lossless, encode_lossless
from allocsync.model.times import LONG_AGO, NEVER, Monotonic, WallTime, to_monotonic, to_wall_time
from allocsync.reconcile.allocation.field_records import (
    LEAST_WINDOW_SECONDS,
    FieldRecord,
    FieldRecords,
)
from allocsync.reconcile.allocation.late_writes import LateWrite, LateWrites
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.propagation_window import PropagationWindow
from allocsync.reconcile.allocation.settle_time import SettleTime
from allocsync.reconcile.allocation.write_backoff import BACKOFF, JOURNAL, RejectedBy, WriteBackoff
from allocsync.reconcile.gates.pause import Pause
from allocsync.reconcile.gates.write_quota import WriteQuota
from allocsync.reconcile.parameters import Parameters

Stored: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Clocks:
    """Moves times between the monotonic clock and the wall clock. `now` is monotonic, in seconds."""

    offset_seconds: float  # from the monotonic clock to the wall clock
    now: Monotonic

    def to_wall(self, at: Monotonic) -> WallTime | None:
        """The wall time of a monotonic time, to the millisecond; None for `NEVER` and `LONG_AGO`."""
        return WallTime(round(float(to_wall_time(at, self.offset_seconds)), 3)) if isfinite(at) else None

    def from_wall(self, at: WallTime | None, *, latest: Monotonic, never: Monotonic = LONG_AGO) -> Monotonic:
        """The monotonic time of a stored wall time, at most `latest`; `never` for None."""
        return never if at is None else min(to_monotonic(at, self.offset_seconds), latest)


def encode_allocation(allocation: ManagedAllocation, clocks: Clocks) -> Stored | None:
    """What must survive a restart of one allocation; None if there is nothing to store.

    What any read shows (differences, the condition, failed reads) is not stored.
    """
    parts: Stored = {
        "leaves": encode_field_records(allocation.read_back.field_records, clocks),
        "ghosts": encode_late_writes(allocation.read_back.late_writes, clocks),
        "meanwhile": {
            name: encode_lossless(value) for name, value in allocation.read_back.late_values.items()
        },
        "moved": allocation.read_back.unmanaged_changed,
        "restraint": encode_write_backoff(allocation.write_backoff, clocks),
    }
    return {name: part for name, part in parts.items() if part} or None


def decode_allocation(allocation: ManagedAllocation, stored: Mapping[str, Any], clocks: Clocks) -> None:
    """Restore a new allocation from what `encode_allocation` returned."""
    rules = allocation.rules
    allocation.read_back.restore(
        field_records=decode_field_records(stored.get("leaves", {}), clocks, rules),
        late_writes=decode_late_writes(stored.get("ghosts", {}), clocks, rules),
        late_values={name: decode_lossless(value) for name, value in stored.get("meanwhile", {}).items()},
        unmanaged_changed=stored.get("moved", False),
    )
    if "restraint" in stored:
        allocation.restore_write_backoff(decode_write_backoff(stored["restraint"], clocks, rules))


def encode_late_writes(late_writes: LateWrites, clocks: Clocks) -> Stored:
    """{"ghosts": [a late write, …], "known": {field: value}, "before": {field: value}}, the oldest first.

    Each late write: sequence (its row in the journal), since and until (it may be applied until then), leaves
    {field: text}, changes [field], undeclared and rest (hashes of the unmanaged fields, as sent and as last
    read), accepted, unseen_at (when the latest read began that did not show it), told (already reported as
    applied). Empty without late writes.
    """
    if not late_writes.late_writes:
        return {}
    return {
        "ghosts": [
            {
                "sequence": late_write.sequence,
                "since": clocks.to_wall(late_write.since),
                "until": clocks.to_wall(late_write.until),
                "leaves": dict(late_write.fields),
                "changes": sorted(late_write.changes),
                "undeclared": late_write.unmanaged_hash,
                "accepted": late_write.accepted,
                "unseen_at": clocks.to_wall(late_write.absent_at),
                "rest": late_write.latest_unmanaged_hash,
                "told": late_write.reported,
            }
            for late_write in late_writes.late_writes
        ],
        "known": {name: encode_lossless(value) for name, value in late_writes.latest.items()},
        "before": {name: encode_lossless(value) for name, value in late_writes.before_accepted.items()},
    }


def decode_late_writes(stored: Mapping[str, Any], clocks: Clocks, rules: Parameters) -> LateWrites:
    """What `encode_late_writes` was given.

    No time is later than `clocks.now`, but `until`, which is at most the time that `rules` gives a late write
    after it: the wall clock may have been set back.

    Raises:
        KeyError: a required key is missing.
    """
    return LateWrites(
        late_writes=[
            LateWrite(
                sequence=row["sequence"],
                since=clocks.from_wall(row["since"], latest=clocks.now),
                until=clocks.from_wall(row["until"], latest=clocks.now + rules.late_write_seconds),
                fields=dict(row["leaves"]),
                changes=frozenset(row["changes"]),
                unmanaged_hash=row["undeclared"],
                accepted=row["accepted"],
                absent_at=clocks.from_wall(row["unseen_at"], latest=clocks.now),
                latest_unmanaged_hash=row.get("rest", ""),
                reported=row.get("told", False),
            )
            for row in stored.get("ghosts", ())
        ],
        latest={name: decode_lossless(value) for name, value in stored.get("known", {}).items()},
        before_accepted={name: decode_lossless(value) for name, value in stored.get("before", {}).items()},
    )


def encode_field_records(field_records: FieldRecords, clocks: Clocks) -> Stored:
    """{field: one record}, empty without records.

    Each record: accepted (text or null), accepted_at, accepted_live (value); refused (an ignored text,
    or null), refused_at, refused_live (value), again_at, moves; flips [time], slowed_until, slowdowns (not 0
    in conflict), equal_since.

    These parts are left out where they say nothing: window (seconds, if not 60), shown (the accepted text, if
    a read has shown it; `accepted` is null then), desired (the text that the record is about, if neither
    accepted nor refused says it), missed, first_at and first_live (before the updates that do not show, if
    not `accepted_at` and `accepted_live`), third ([value]), retries, cleared_at.
    """
    return {field: _encode_field(record, clocks) for field, record in field_records.records.items()}


def _encode_field(record: FieldRecord, clocks: Clocks) -> Stored:
    accepted = None if record.is_shown else record.accepted
    stored: Stored = {
        "accepted": accepted,
        "accepted_at": clocks.to_wall(record.accepted_at),
        "accepted_live": encode_lossless(record.accepted_live),
        "refused": record.ignored,
        "refused_at": clocks.to_wall(record.ignored_at),
        "refused_live": encode_lossless(record.ignored_live),
        "again_at": clocks.to_wall(record.retry_at),
        "moves": record.moves,
        "flips": [clocks.to_wall(at) for at in record.flips],
        "slowed_until": clocks.to_wall(record.slowed_until),
        "slowdowns": record.slowdowns,
        "equal_since": clocks.to_wall(record.equal_since),
    }
    if record.accepted is not None and record.window_seconds != LEAST_WINDOW_SECONDS:
        stored["window"] = record.window_seconds
    if record.accepted != accepted:
        stored["shown"] = record.accepted
    if record.desired is not None and not {accepted, record.ignored} & {record.desired}:
        stored["desired"] = record.desired
    if record.missed:
        stored["missed"] = record.missed
        stored["first_at"] = clocks.to_wall(record.first_accepted_at)
        stored["first_live"] = encode_lossless(record.first_live)
    if record.third:
        stored["third"] = [encode_lossless(value) for value in record.third]
    if record.retries:
        stored["retries"] = record.retries
    if record.flips and isfinite(record.cleared_at):
        stored["cleared_at"] = clocks.to_wall(record.cleared_at)
    return stored


def decode_field_records(stored: Mapping[str, Any], clocks: Clocks, rules: Parameters) -> FieldRecords:
    """What `encode_field_records` was given."""
    return FieldRecords({field: _decode_field(row, clocks, rules) for field, row in stored.items()})


def _decode_field(row: Mapping[str, Any], clocks: Clocks, rules: Parameters) -> FieldRecord:
    now, latest = clocks.now, clocks.now + rules.field_retry_max_seconds
    accepted = row["accepted"] if "shown" not in row else row["shown"]
    accepted_at = clocks.from_wall(row["accepted_at"], latest=now)
    accepted_live = decode_lossless(row["accepted_live"])
    has_missed = "missed" in row
    return FieldRecord(
        desired=row.get("desired", accepted if accepted is not None else row["refused"]),
        accepted=accepted,
        accepted_at=accepted_at,
        accepted_live=accepted_live,
        window_seconds=min(row.get("window", LEAST_WINDOW_SECONDS), rules.propagation_window_max_seconds),
        confirm_seconds=rules.confirm_seconds,
        is_shown="shown" in row,
        first_accepted_at=clocks.from_wall(row["first_at"], latest=now) if has_missed else accepted_at,
        first_live=decode_lossless(row["first_live"]) if has_missed else accepted_live,
        missed=row.get("missed", 0),
        third=tuple(decode_lossless(value) for value in row.get("third", ())),
        ignored=row["refused"],
        ignored_at=clocks.from_wall(row["refused_at"], latest=now),
        ignored_live=decode_lossless(row["refused_live"]),
        retry_at=clocks.from_wall(row["again_at"], latest=latest, never=NEVER),
        retries=row.get("retries", 0),
        moves=row["moves"],
        flips=tuple(clocks.from_wall(at, latest=now) for at in row["flips"]),
        slowed_until=clocks.from_wall(row["slowed_until"], latest=latest),
        slowdowns=row["slowdowns"],
        equal_since=clocks.from_wall(row["equal_since"], latest=now, never=NEVER),
        cleared_at=clocks.from_wall(row.get("cleared_at"), latest=now),
    )


def encode_write_backoff(write_backoff: WriteBackoff, clocks: Clocks) -> Stored:
    """{"until": {reason: time}, "failures", "error", "terminal": [[field, value, text]], "terminal_until"}.

    Empty if nothing forbids an update. Two causes end with the process and are not stored: an unavailable
    journal, because a process that could open the journal can write it, and a failed check by
    allocsync itself, which is made again.
    """
    until = {reason: at for reason, at in write_backoff.until.items() if reason != JOURNAL}
    terminal = write_backoff.terminal if write_backoff.rejected_by is RejectedBy.API else ()
    if not (write_backoff.failures or terminal or until):
        return {}
    return {
        "until": {reason: clocks.to_wall(at) for reason, at in until.items()},
        "failures": write_backoff.failures,
        "error": write_backoff.error,
        "terminal": encode_changes(terminal),
        "terminal_until": clocks.to_wall(write_backoff.terminal_until),
    }


def decode_write_backoff(stored: Mapping[str, Any], clocks: Clocks, rules: Parameters) -> WriteBackoff:
    """What `encode_write_backoff` was given."""
    longest = {BACKOFF: max(rules.wait_max_seconds, rules.rejected_max_seconds)}
    return WriteBackoff(
        until={
            reason: clocks.from_wall(at, latest=clocks.now + longest.get(reason, rules.wait_max_seconds))
            for reason, at in stored["until"].items()
        },
        failures=stored["failures"],
        error=stored["error"],
        terminal=decode_changes(stored["terminal"]),
        terminal_until=clocks.from_wall(stored["terminal_until"], latest=clocks.now + rules.terminal_seconds),
    )


def encode_settle_time(settle_time: SettleTime, clocks: Clocks) -> Stored:
    """{"lag_seconds": the largest seen, "unknowns": [[when, seconds of the request], …]}."""
    return {
        "lag_seconds": round(settle_time.lag_seconds, 3),
        "unknowns": [[clocks.to_wall(at), round(took, 3)] for at, took in settle_time.unknowns],
    }


def decode_settle_time(stored: Mapping[str, Any], clocks: Clocks, rules: Parameters) -> SettleTime:
    """What `encode_settle_time` was given."""
    return SettleTime(
        rules,
        lag_seconds=stored["lag_seconds"],
        unknowns=[(clocks.from_wall(at, latest=clocks.now), took) for at, took in stored["unknowns"]],
    )


def encode_propagation_window(window: PropagationWindow, clocks: Clocks) -> Stored | None:
    """{"shown": [[when, seconds after the first acceptance], …]}; None if nothing was learned."""
    shown = [[clocks.to_wall(at), round(took, 3)] for at, took in window.shown]
    return {"shown": shown} if shown else None


def decode_propagation_window(
    stored: Mapping[str, Any], clocks: Clocks, rules: Parameters
) -> PropagationWindow:
    """What `encode_propagation_window` was given."""
    shown = [(clocks.from_wall(at, latest=clocks.now), took) for at, took in stored["shown"]]
    return PropagationWindow(rules, shown=shown)


def encode_write_quota(write_quota: WriteQuota, clocks: Clocks) -> Stored | None:
    """{"spent": [[start of a minute, updates in it], …]}; None if no update was sent."""
    spent = [[clocks.to_wall(at), number] for at, number in write_quota.spent]
    return {"spent": spent} if spent else None


def decode_write_quota(stored: Mapping[str, Any], clocks: Clocks) -> list[tuple[Monotonic, int]]:
    """The updates of the last hour by the minute: [(start of the minute, updates in it)]."""
    return [(clocks.from_wall(at, latest=clocks.now), number) for at, number in stored["spent"]]


def encode_pause(pause: Pause) -> Stored:
    """{"ends_at": wall time, not rounded, "reason", "owner"}."""
    return {"ends_at": pause.ends_at, "reason": pause.reason, "owner": pause.owner}


def encode_declaration(desired: Desired | None) -> Stored:
    """{"leaves": [[field, text]], "mode"}; {"mode": null} for an allocation that is not declared."""
    if desired is None:
        return {"mode": None}
    return {"leaves": [list(pair) for pair in desired.fields], "mode": desired.mode.value}


def decode_declaration(key: str, stored: Mapping[str, Any]) -> Desired | None:
    """What `encode_declaration` was given for this id; None if it was not declared."""
    if stored["mode"] is None:
        return None
    fields = tuple((name, value) for name, value in stored["leaves"])
    return Desired(AllocationId(key), fields, Mode(stored["mode"]))
