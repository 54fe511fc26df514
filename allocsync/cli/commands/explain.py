"""`allocsync explain ID`: everything the running daemon knows of one allocation, and what to do about it.

The rule: it shows what the daemon's latest usable look saw, and when that was; nothing is asked of the
Allocation API, so that explaining during an outage works and adds nothing to it.
"""

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import click

from allocsync import errors
from allocsync.cli import daemon_client, output
from allocsync.cli.commands.status import TONES
from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.model.condition import Condition
from allocsync.model.escaping import visible
from allocsync.planning.rendering import Line, Tone

PATH = "/api/v1/allocations/"
_ADVICE: Mapping[str, str] = {
    Condition.UNKNOWN: "nothing: it is read back, and sent again only if it was not applied",
    Condition.MISSING: "remove it from the files if it is gone for good; it is looked for from time to time",
    Condition.REFUSED: "take it out of the file if the API owns it, or ask its operator why it is ignored",
    Condition.CONTESTED: "find out who else sets the field; let only one of you declare it",
    Condition.HELD: "see why; for a mistake in the files, `allocsync validate` shows every one and its place",
    Condition.SUSPENDED: "see why: lift a pause with `allocsync resume`, change a mode in the files",
    Condition.DRIFTED: "set its mode to enforce to have it corrected, or declare what is live",
    Condition.FAILING: "see the last error; it is tried again by itself, and at once after an edit",
}


@click.command()
@click.argument("allocation_id", metavar="ID")
@click.option("--url", metavar="URL", help="Address of the daemon; default: where ALLOCSYNC_LISTEN says.")
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as JSON.")
@setting_options("listen")
@click.pass_context
def explain(context: click.Context, flags: Flags, allocation_id: str, url: str | None, as_json: bool) -> int:
    """Say what the running daemon knows of one allocation: desired, live, why, and what comes next.

    ID may be shortened to 8 characters or more, if only one allocation begins with them.
    """
    address = daemon_client.daemon_url(url, settings_from(context, flags))
    code, answer = asyncio.run(daemon_client.ask(address, PATH + quote(allocation_id, safe="")))
    if code == HTTPStatus.NOT_FOUND and "error" in answer:
        raise errors.DaemonError(output.with_suggestions(str(answer["error"]), answer.get("suggestions", ())))
    if code != HTTPStatus.OK:
        raise daemon_client.stranger(address, code)
    if as_json:
        output.write_json(answer)
        return errors.EXIT_FINE
    try:
        shown = list(lines(answer, datetime.now(UTC)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise daemon_client.stranger(address, code) from error
    output.write_lines(shown)
    return errors.EXIT_FINE


def lines(answer: Mapping[str, Any], now: datetime) -> Iterator[Line]:
    """Show what the daemon said to people.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: the answer lacks something.
    """
    condition = str(answer["condition"])
    tone = TONES.get(condition, Tone.BAD)
    since = daemon_client.ago(answer["since"], now)
    yield Line(f"{visible(answer['id'])}   {visible(condition)} since {since}", tone)
    if answer["reason"]:
        yield _row("why", answer["reason"], tone)
    if answer["mode"] is not None:
        yield _row("declared", f"{answer['source']}   mode {answer['mode']}")
    for problem in answer["problems"]:
        yield _row("problem", problem, Tone.BAD)
    if answer.get("canary"):
        yield _row("canary", "it goes first: the rest of the generation that is held waits for it", Tone.WAIT)
    yield from _fields(answer)
    if answer["open_update"] is not None:
        yield from _open_update(answer["open_update"], now)
    if answer["last_error"]:
        yield _row("last error", answer["last_error"], Tone.BAD)
    if answer["read_failures"] or answer["write_failures"]:
        yield _row(
            "failures", f"{answer['read_failures']} reads, {answer['write_failures']} updates in a row"
        )
    yield _row("looked at", daemon_client.ago(answer["observed_at"], now))
    if answer["no_update_before"] is not None:
        yield _row("no update", f"before {daemon_client.ago(answer['no_update_before'], now)}")
    yield _row("next look", daemon_client.ago(answer["next_look_at"], now))
    if condition in _ADVICE:
        yield _row("do", _ADVICE[condition])


def _fields(answer: Mapping[str, Any]) -> Iterator[Line]:
    """Each declared field with what was live at the latest look; what is equal is dim."""
    desired, differences = answer["desired"], answer["differences"]
    live = None if differences is None else {row["field"]: row["live"] for row in differences}
    width = max(map(len, desired), default=0)
    if answer["missing"]:
        yield _row("live", "there is none: the API answers 410")
    elif desired and live is None:
        yield _row("live", "not compared yet with what is declared now")
    for field, wanted in desired.items():
        name = visible(field).ljust(width)
        if live is None:
            yield _row("field", f"{name}   declared {visible(wanted)}")
        elif field in live:
            yield _row(
                "differs", f"{name}   live {visible(live[field])} → declared {visible(wanted)}", Tone.WAIT
            )
        else:
            yield _row("equal", f"{name}   {visible(wanted)}", Tone.DIM)


def _open_update(update: Mapping[str, Any], now: datetime) -> Iterator[Line]:
    what = ", ".join(f"{row['field']} → {visible(row['desired'])}" for row in update["changes"])
    if update["unknown_since"] is None:
        yield _row("update", f"{what}   under way", Tone.WAIT)
        return
    yield _row(
        "update",
        f"{what}   outcome unknown since {daemon_client.ago(update['unknown_since'], now)}",
        Tone.WAIT,
    )
    yield _row(
        "", f"a read from {daemon_client.ago(update['settles_at'], now)} on may say that it was not applied"
    )


def _row(name: str, text: str, tone: Tone = Tone.PLAIN) -> Line:
    return Line(f"  {name:<12}{visible(text)}".rstrip(), tone)
