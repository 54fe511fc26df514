"""A run for people to read: one line per thing that happened, with the broken promises at the end."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.simulation.engine.schedule import Schedule
from tests.simulation.report.outcome import Note, Outcome

SHOWN_FIELDS = {
    "read_finished": ("answer", "reason", "differs"),
    "update_intended": ("fields", "sequence"),
    "update_finished": ("outcome", "reason", "next_read_in_seconds"),
    "update_settled": ("outcome", "sequence", "reason"),
    "condition_changed": ("before", "after", "reason"),
    "revision_activated": ("revision", "changed"),
    "resync_finished": ("differ",),
    "bulk_unavailable": ("reason",),
}
EVERYTHING = 100.0
SHOWN_LINES, SHOWN_ALLOCATIONS = 400, 40


def timeline(schedule: Schedule, outcome: Outcome, *, most: int = SHOWN_LINES) -> str:
    """The whole run; of a long run the setting and the last `most` lines."""
    head, lines = list(_setting(schedule)), list(_happened(outcome.notes[-most:]))
    if len(outcome.notes) > most:
        lines = [f"… {len(outcome.notes) - most:,} lines …", *lines]
    ends = [f"BROKEN {promise}: {what}" for promise, what in outcome.breaches]
    return "\n".join([*head, *lines, *ends])


def _setting(schedule: Schedule) -> Iterator[str]:
    size = f"{len(schedule.allocations)} allocations, {len(schedule.events)} events"
    route = "" if schedule.has_list_route else " (the server has no list route)"
    yield f"seed {schedule.seed}: {size}, bulk {schedule.bulk}{route}, resync {schedule.resync_seconds:g} s"
    for each in schedule.allocations[:SHOWN_ALLOCATIONS]:
        traits = [name for name in ("has_moving_timestamp", "pending") if getattr(each, name)]
        traits += [f"ignores {each.ignored_field}"] if each.ignored_field else []
        traits += [] if each.is_declared_at_first else ["not declared at first"]
        yield f"  allocation-{each.key}: {', '.join(traits) or 'plain'}"
        yield f"    live {dict(each.live)}, declared {dict(each.declared)}"
    for period in schedule.fault_periods:
        shares = f"{period.reads:.0%} of reads, {period.updates:.0%} of updates, {period.lists:.0%} of lists"
        yield f"  {period.begin:.1f} to {period.end:.1f} s: {shares} fail; late by {period.late_seconds:g} s"
    for outage in schedule.outages:
        what = "/".join(sorted(outage.operations))
        yield f"  {outage.begin:.1f} to {outage.end:.1f} s: each {what} {outage.kind}"
    yield from _gates(schedule)
    yield f"  no faults from {schedule.faults_end_at:.1f} s"


def _gates(schedule: Schedule) -> Iterator[str]:
    if schedule.closed_minutes is not None:
        closed = schedule.closed_minutes
        yield f"  write windows closed from minute {closed.start} to {closed.stop} of each hour"
    if schedule.max_writes_per_hour is not None:
        yield f"  at most {schedule.max_writes_per_hour} updates an hour"
    if schedule.max_changes_percent < EVERYTHING:
        yield f"  at most {schedule.max_changes_percent:g} % may change, {schedule.canary} canaries"
    if schedule.other_writer is not None:
        yield f"  another controller every {schedule.other_writer.every_seconds:.0f} s"
    if schedule.second is not None:
        yield f"  a second allocsync from {schedule.second.begin:.1f} s on"
        for key, kind, field in schedule.second.wanted:
            yield f"    allocation-{key}: {kind}{': ' if field else ''}{field}"
    if schedule.cache_seconds:
        yield f"  a cache of {schedule.cache_seconds:.0f} s"


def _happened(notes: Sequence[Note]) -> Iterator[str]:
    for note in notes:
        yield f"{note.at:9.3f}  {note.who:8} {note.key or '':13} {note.what}{_fields(note.what, note.fields)}"


def _fields(what: str, fields: Mapping[str, Any]) -> str:
    shown = [
        f"{name} {fields[name]}"
        for name in SHOWN_FIELDS.get(what, ())
        if fields.get(name) not in (None, "", [])
    ]
    return ": " + ", ".join(shown) if shown else ""
