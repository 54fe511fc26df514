"""A run as a person reads it: one line for each thing that happened, with what was broken at the end."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.simulation.engine.schedule import Schedule
from tests.simulation.report.outcome import Note, Outcome

TOLD = {
    "read_finished": ("answer", "reason", "differs"),
    "update_intended": ("fields", "sequence"),
    "update_finished": ("outcome", "reason", "next_read_in_seconds"),
    "update_settled": ("outcome", "sequence", "reason"),
    "condition_changed": ("before", "after", "reason"),
    "revision_activated": ("revision", "changed"),
    "resync_finished": ("differ",),
    "bulk_unavailable": ("reason",),
}
SHOWN_LINES, SHOWN_ALLOCATIONS = 400, 40


def timeline(schedule: Schedule, outcome: Outcome, *, most: int = SHOWN_LINES) -> str:
    """All of it; of a long run the setting and the end."""
    head, lines = list(_setting(schedule)), list(_happened(outcome.notes[-most:]))
    if len(outcome.notes) > most:
        lines = [f"… {len(outcome.notes) - most:,} lines …", *lines]
    ends = [f"BROKEN {promise}: {what}" for promise, what in outcome.broken]
    return "\n".join([*head, *lines, *ends])


def _setting(schedule: Schedule) -> Iterator[str]:
    size = f"{len(schedule.allocations)} allocations, {len(schedule.events)} events"
    route = "" if schedule.bulk_route else " (the server has no such route)"
    yield f"seed {schedule.seed}: {size}, bulk {schedule.bulk}{route}, resync {schedule.resync_seconds:g} s"
    for each in schedule.allocations[:SHOWN_ALLOCATIONS]:
        traits = [name for name in ("ticking", "pending") if getattr(each, name)]
        traits += [f"deaf for {each.deaf}"] if each.deaf else []
        traits += [] if each.present else ["not declared at first"]
        yield f"  allocation-{each.key}: {', '.join(traits) or 'plain'}"
        yield f"    live {dict(each.live)}, declared {dict(each.declared)}"
    for spell in schedule.spells:
        shares = (
            f"{spell.reads:.0%} of reads, {spell.updates:.0%} of updates, {spell.lists:.0%} of bulk reads"
        )
        yield f"  {spell.begin:.1f} to {spell.end:.1f} s: {shares} fail; late by {spell.late_seconds:g} s"
    yield f"  calm from {schedule.calm_at:.1f} s"


def _happened(notes: Sequence[Note]) -> Iterator[str]:
    for note in notes:
        yield f"{note.at:9.3f}  {note.who:8} {note.key or '':13} {note.what}{_fields(note.what, note.fields)}"


def _fields(what: str, fields: Mapping[str, Any]) -> str:
    shown = [
        f"{name} {fields[name]}" for name in TOLD.get(what, ()) if fields.get(name) not in (None, "", [])
    ]
    return ": " + ", ".join(shown) if shown else ""
