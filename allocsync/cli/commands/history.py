"""`allocsync history`: shows the updates in the journal, and checks that the journal is complete.

The rule: it reads the journal's file and nothing else; a daemon may be writing it meanwhile.

Left out: reading the journal (`journal.reader`), and the check (`journal.hash_chain`).
"""

import json
import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import click

from allocsync import errors
from allocsync.cli import output
from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.journal import reader
from allocsync.journal.hash_chain import Checked
from allocsync.model.escaping import as_text, visible
from allocsync.model.intent_record import OUTCOMES
from allocsync.model.public_json import SCHEMA
from allocsync.model.times import WallTime
from allocsync.planning.rendering import Line, Tone, count
from allocsync.telemetry.log_setup import rfc3339

_TIME_AGO = re.compile(r"([0-9]{1,6})(s|m|h|d)")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TONES = {"applied": Tone.GOOD, "rejected": Tone.BAD, "stale_overwrite": Tone.BAD, reader.OPEN: Tone.WAIT}


class TimeParameter(click.ParamType[WallTime]):
    """A command-line value that is a time: RFC 3339, or how long ago (30m)."""

    name = "time"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> WallTime:
        """Return seconds since the epoch; a time without a zone is UTC."""
        if isinstance(value, float | int):
            return WallTime(float(value))
        if ago := _TIME_AGO.fullmatch(value):
            return WallTime(time.time()) - int(ago[1]) * _UNIT_SECONDS[ago[2]]
        try:
            at = datetime.fromisoformat(value)
            return WallTime((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a time. Try 2026-01-31T12:00:00Z, 30m, 6h or 2d (ago).", param, ctx)


@click.command()
@click.argument("id", required=False)
@click.option(
    "--since",
    type=TimeParameter(),
    metavar="TIME",
    help="Only updates since then: RFC 3339, or 30m, 6h, 2d ago.",
)
@click.option("--until", type=TimeParameter(), metavar="TIME", help="Only updates until then.")
@click.option(
    "--outcome",
    "outcomes",
    multiple=True,
    type=click.Choice([*OUTCOMES, reader.OPEN]),
    help="Only updates with this outcome; can be given more than once.",
)
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="Only the newest N updates.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option("--verify", is_flag=True, help="Check that no row was changed, removed or inserted.")
@setting_options("state_dir")
@click.pass_context
def history(
    context: click.Context,
    flags: Flags,
    id: str | None,  # noqa: A002 - the argument's name, as users see it
    since: WallTime | None,
    until: WallTime | None,
    outcomes: tuple[str, ...],
    last: int | None,
    as_json: bool,
    verify: bool,
) -> int:
    """Show the updates that were sent, and their outcomes.

    Only the updates of allocations whose id is ID or begins with it are shown; there may be several.

    With --verify it shows no update and ignores ID and the filters. It checks the hash chain of the whole
    journal, and exits with 1 if a row was changed, removed or inserted.
    """
    settings = settings_from(context, flags)
    query = reader.Query(allocation=id, since=since, until=until, outcomes=frozenset(outcomes), last=last)
    with reader.opened(settings.state_dir) as journal:
        if verify:
            checked, gaps = reader.verify(journal), list(reader.gaps(journal))
        else:
            found = list(reader.updates(journal, query))
    if verify:
        return _report_verification(checked, gaps, as_json=as_json)
    if as_json:
        for update in found:
            click.echo(json.dumps(_update_as_json(update)))
    else:
        output.write_lines(_format_updates(found) if found else [Line("no update matches.", Tone.DIM)])
    return errors.EXIT_FINE


def _report_verification(checked: Checked, gaps: list[tuple[WallTime, str]], *, as_json: bool) -> int:
    """Print what the check of the hash chain found, and what it cannot find."""
    head = checked.head
    if as_json:
        output.write_json(
            {
                "rows": checked.rows,
                "sequence": head.sequence,
                "hash": head.hash.hex(),
                "problems": list(checked.problems),
                "gaps": [{"at": rfc3339(at), "reason": reason} for at, reason in gaps],
            }
        )
        return errors.EXIT_ERROR if checked.problems else errors.EXIT_FINE
    lines = [Line(problem, Tone.BAD) for problem in checked.problems]
    lines += [Line(f"{rfc3339(at)}  a gap: {visible(reason)}", Tone.WAIT) for at, reason in gaps]
    if not checked.problems:
        lines.append(Line(f"{count(checked.rows, 'row')}: the hash chain is intact.", Tone.GOOD))
    lines += [
        Line(f"It ends with row {head.sequence:,}, {head.hash.hex()}."),
        Line("Rows removed at the end do not show here: compare with the last `journal_head` in the log."),
    ]
    output.write_lines(lines)
    return errors.EXIT_ERROR if checked.problems else errors.EXIT_FINE


def _format_updates(found: Iterable[reader.RecordedUpdate]) -> Iterator[Line]:
    for update in found:
        why = visible(update.endings[-1].reason) if update.endings else "its outcome is not known yet"
        head = (
            f"{rfc3339(update.at)}  {visible(update.allocation)}  {update.outcome.replace('_', ' ')}: {why}"
        )
        yield Line(head, _TONES.get(update.outcome, Tone.PLAIN))
        for change in update.changes:
            yield Line(f"    {change.field}: {visible(change.live)} → {visible(change.desired)}")


def _update_as_json(update: reader.RecordedUpdate) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "id": update.allocation,
        "at": rfc3339(update.at),
        "revision": update.revision,
        "reason": update.reason,
        "outcome": update.outcome,
        "before": {change.field: as_text(change.live) for change in update.changes},
        "after": {change.field: change.desired for change in update.changes},
        "endings": [
            {"at": rfc3339(ending.at), "outcome": ending.outcome, "reason": ending.reason}
            for ending in update.endings
        ],
    }
