"""Renders a plan: as lines of text with a tone, and as JSON.

The rule: values from a server or a file are escaped in text (`model.escaping`), and unchanged in JSON.

Left out: colours and output (`cli.output`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from allocsync.model.change import Change
from allocsync.model.escaping import as_text, visible
from allocsync.model.public_json import SCHEMA
from allocsync.planning.plan import Plan, Step, Verdict


class Tone(StrEnum):
    """What a line means. A colour may repeat it, never carry it alone."""

    PLAIN = "plain"
    GOOD = "good"
    WAIT = "wait"
    BAD = "bad"
    DIM = "dim"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text."""

    text: str
    tone: Tone = Tone.PLAIN


_TONES = {
    Verdict.IN_SYNC: Tone.GOOD,
    Verdict.UPDATE: Tone.WAIT,
    Verdict.MISSING: Tone.BAD,
    Verdict.BLOCKED: Tone.WAIT,
    Verdict.FAILING: Tone.BAD,
}
_SUMMARY_WORDS = {
    Verdict.UPDATE: "to update",
    Verdict.MISSING: "missing",
    Verdict.BLOCKED: "blocked",
    Verdict.FAILING: "failing",
}


def count(number: int, noun: str) -> str:
    """A number and its noun, in the plural unless it is one: `1 allocation`, `5,000 allocations`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def text(plan: Plan, *, read_how: str, files: int) -> list[Line]:
    """The plan for people. `read_how` says how live state was read; `files` is the number of files loaded."""
    lines = [
        Line(
            f"Revision {plan.revision[:8]} · {count(files, 'file')} · "
            f"{count(len(plan.steps), 'allocation')} · {read_how}"
        ),
        Line(""),
    ]
    for step in plan.steps:
        if step.verdict is not Verdict.IN_SYNC:
            lines.extend(_step_lines(step))
    if len(lines) > 2:  # noqa: PLR2004 - the heading and the blank line
        lines.append(Line(""))
    lines.append(_summary(plan))
    return lines


def _step_lines(step: Step) -> Iterator[Line]:
    yield Line(f"  {visible(step.id)}   {visible(step.source)}".rstrip(), Tone.DIM)
    yield from _change_lines(step.changes, _TONES[step.verdict])
    if step.reason:
        yield Line(f"    {step.verdict.value}: {visible(step.reason)}", _TONES[step.verdict])


def _change_lines(changes: tuple[Change, ...], tone: Tone) -> Iterator[Line]:
    width = max((len(change.field) for change in changes), default=0)
    lives = [visible(change.live) for change in changes]
    live_width = max((len(live) for live in lives), default=0)
    for change, live in zip(changes, lives, strict=True):
        yield Line(
            f"    {change.field.ljust(width)}   {live.ljust(live_width)} → {visible(change.desired)}", tone
        )


def _summary(plan: Plan) -> Line:
    counts, total = plan.counts, len(plan.steps)
    differ = total - counts[Verdict.IN_SYNC]
    if not differ:
        return Line(f"All of {count(total, 'allocation')} in sync. Nothing to do.", Tone.GOOD)
    parts = []
    for verdict, name in _SUMMARY_WORDS.items():
        if counts[verdict]:
            fields = sum(len(step.changes) for step in plan.updates)
            more = f" ({count(fields, 'field')})" if verdict is Verdict.UPDATE else ""
            parts.append(f"{counts[verdict]:,} {name}{more}")
    plan_id = f" Plan {plan.plan_id[:12]}." if plan.updates else ""
    return Line(
        f"{differ:,} of {count(total, 'allocation')} not in sync: {', '.join(parts)}.{plan_id}", Tone.WAIT
    )


def as_json(plan: Plan) -> dict[str, object]:
    """The plan for programs; `changes` has only the steps with the verdict UPDATE.

    A live value that is not text becomes its JSON text; an absent one is null.
    """
    return {
        "schema": SCHEMA,
        "plan_id": plan.plan_id,
        "revision": plan.revision,
        "counts": {verdict.value: number for verdict, number in plan.counts.items()},
        "changes": [
            {
                "id": step.id,
                "field": change.field,
                "live": as_text(change.live),
                "desired": change.desired,
            }
            for step in plan.updates
            for change in step.changes
        ],
    }
