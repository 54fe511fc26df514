"""The texts about fields that do not stay as declared: what reads show, both causes, what is next. Pure.

The rules: a text never blames the API alone, because another writer may have changed the field before the
first read. It names the field, the live value and the next attempt. Times are hours of the day in UTC: none
is more than a day away. A time in the past is not named as the next attempt. Long values are cut.

Left out: when a field is ignored or in conflict (`allocation.field_records`), and which condition applies
(`condition_rules`).
"""

from collections.abc import Iterable

from allocsync.model.change import Change
from allocsync.model.cloud import Json
from allocsync.model.desired_state import Mode
from allocsync.model.escaping import shorten, visible
from allocsync.model.times import NEVER, Monotonic, WallTime, time_of_day, to_wall_time
from allocsync.reconcile.allocation.field_records import FieldRecord
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation

VALUE_CHARACTERS = 60
LATEST = ("version", "latest")


def ignored(allocation: ManagedAllocation, now: Monotonic) -> str:
    """Return why the fields that differ are ignored at `now` (monotonic); empty if none is."""
    return "; ".join(
        _ignored(allocation, change, record, now)
        for change, record in allocation.read_back.field_records.ignored(allocation.changes)
    )


def conflict(allocation: ManagedAllocation, now: Monotonic) -> str:
    """Return why fields are in conflict, whether or not they differ at `now`; empty if none is."""
    differing = {change.field: change for change in allocation.changes}
    return "; ".join(
        _conflict(allocation, field, record, differing.get(field), now)
        for field, record in allocation.read_back.field_records.conflicts()
    )


def another_writer(allocation: ManagedAllocation, now: Monotonic) -> str:
    """Return a sentence that names the fields changed back often enough in a day; empty if none was."""
    flips = allocation.read_back.field_records.flips(now, allocation.rules)
    return suspicion(
        (field, [to_wall_time(time, allocation.write_gate.offset_seconds) for time in times])
        for field, times in flips
    )


def suspicion(flips: Iterable[tuple[str, Iterable[WallTime]]]) -> str:
    """Return the text that names when each field was changed back (wall-clock seconds)."""
    named = "; ".join(
        f"{field} changed back at {', '.join(time_of_day(at) for at in times)}" for field, times in flips
    )
    return f"another writer suspected: {named}" if named else ""


def _ignored(allocation: ManagedAllocation, change: Change, record: FieldRecord, now: Monotonic) -> str:
    shown, wanted = _value(change.live), _value(change.desired)
    if change.live == record.first_live:
        what = (
            f"{change.field}: {wanted} was accepted, and reads show {shown} as before: "
            "the API ignores it, or another writer changes it back"
        )
    else:
        what = (
            f"{change.field}: reads show {shown} for {wanted}: "
            "the API stores it so, or another writer sets it"
        )
    if (change.field, change.desired) == LATEST and isinstance(change.live, str):
        what += f" (latest may stand for a version: declare {shown} to keep it)"
    if record.moves:
        what += f" (the live value has changed {record.moves} times since)"
    return f"{what}; {_next_attempt(allocation, record, now)}"


def _conflict(
    allocation: ManagedAllocation, field: str, record: FieldRecord, change: Change | None, now: Monotonic
) -> str:
    offset_seconds = allocation.write_gate.offset_seconds
    why = suspicion([(field, [to_wall_time(at, offset_seconds) for at in record.flips])])
    if not record.flips:
        why = f"another writer suspected: {field} has another value after each update"
    if change is not None:
        shown = f"reads show {_value(change.live)} for {_value(change.desired)}"
        return f"{why}; {shown}; {_next_attempt(allocation, record, now)}"
    if record.equal_since == NEVER:
        return f"{why}; not read since"
    clears_at = record.equal_since + allocation.rules.conflict_clear_seconds
    until = to_wall_time(clears_at, offset_seconds)
    return f"{why}; it is as declared now, and the conflict ends at {time_of_day(until)} if it stays so"


def _next_attempt(allocation: ManagedAllocation, record: FieldRecord, now: Monotonic) -> str:
    if allocation.desired is not None and allocation.desired.mode is not Mode.ENFORCE:
        return f"mode {allocation.desired.mode.value} forbids the next attempt"
    if record.next_attempt_at <= now:
        return "it is sent again as soon as it may be"
    at = to_wall_time(record.next_attempt_at, allocation.write_gate.offset_seconds)
    return f"next attempt {time_of_day(at)}"


def _value(value: Json) -> str:
    return shorten(visible(value), VALUE_CHARACTERS)
