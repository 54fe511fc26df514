"""`allocsync explain ID`: what the running daemon knows about one allocation, and what to do about it.

The rule: it shows what the daemon's latest successful read showed, and when that was. It sends no request
to the Allocation API, so that it works during an outage and adds no load.

Left out: what the daemon knows (`reconcile.status.explain`), and its JSON (`web.serializers`).
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
from allocsync.cli.commands.status import TONES, format_outage
from allocsync.cli.daemon_status import parse_api
from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.model.escaping import visible
from allocsync.planning.rendering import Line, Tone

PATH = "/api/v1/allocations/"


@click.command()
@click.argument("allocation_id", metavar="ID")
@click.option("--url", metavar="URL", help="Address of the daemon; default: where ALLOCSYNC_LISTEN says.")
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as JSON.")
@setting_options("listen")
@click.pass_context
def explain(context: click.Context, flags: Flags, allocation_id: str, url: str | None, as_json: bool) -> int:
    """Show all that the running daemon knows about one allocation.

    Shows desired and live values, the condition and its reason, and what happens next.

    ID may be shortened to 8 or more characters with which only one id begins.
    """
    address = daemon_client.daemon_url(url, settings_from(context, flags))
    answer = asyncio.run(fetch_explanation(address, allocation_id))
    if as_json:
        output.write_json(answer)
        return errors.EXIT_FINE
    try:
        lines = list(format_explanation(answer, datetime.now(UTC)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise daemon_client.unexpected_answer(address, HTTPStatus.OK) from error
    output.write_lines(lines)
    return errors.EXIT_FINE


async def fetch_explanation(url: str, name: str) -> Mapping[str, Any]:
    """Read what the daemon at `url` knows about the allocation with this id or unique beginning of one.

    Raises:
        NoAnswerError: no daemon answers at the address.
        DaemonError: no declared allocation has this name (with similar ids), or the answer is not from
            allocsync.
    """
    code, answer = await daemon_client.request(url, PATH + quote(name, safe=""))
    if code == HTTPStatus.NOT_FOUND and "error" in answer:
        raise errors.DaemonError(output.with_suggestions(str(answer["error"]), answer.get("suggestions", ())))
    if code != HTTPStatus.OK:
        raise daemon_client.unexpected_answer(url, code)
    return answer


def format_explanation(answer: Mapping[str, Any], now: datetime) -> Iterator[Line]:
    """Format the daemon's answer for people.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: the answer does not have the shape that the daemon
        gives it.
    """
    condition = str(answer["condition"])
    tone = TONES.get(condition, Tone.BAD)
    api = parse_api(answer["api"])
    if api.reachable is False:
        yield Line(format_outage(api, now), Tone.BAD)
    since = daemon_client.format_time(answer["since"], now)
    yield Line(f"{visible(answer['id'])}   {visible(condition)} since {since}", tone)
    yield from _declared(answer, tone, now)
    yield from _fields(answer)
    yield from _field_histories(answer, now)
    if answer["open_update"] is not None:
        yield from _open_update(answer["open_update"], now)
    if answer["last_error"]:
        yield _line("last error", answer["last_error"], Tone.BAD)
    if answer["read_failures"] or answer["write_failures"]:
        yield _line(
            "failures", f"{answer['read_failures']} reads, {answer['write_failures']} updates in a row"
        )
    yield _line("last read", daemon_client.format_time(answer["observed_at"], now))
    if age := answer["answer_age_seconds"]:
        text = f"the latest answer is {age} s old: a cache between allocsync and the API gave it"
        yield _line("cache", text, Tone.WAIT)
    if answer["no_update_before"] is not None:
        yield _line("no update", f"before {daemon_client.format_time(answer['no_update_before'], now)}")
    waits_for = f", waits for {answer['waits_for']}" if answer["waits_for"] else ""
    yield _line("next read", daemon_client.format_time(answer["next_read_at"], now) + waits_for)
    if answer["advice"]:
        yield _line("do", answer["advice"])


def _declared(answer: Mapping[str, Any], tone: Tone, now: datetime) -> Iterator[Line]:
    """Format the reason of the condition, a pause, and the entry in the files."""
    if answer["reason"]:
        yield _line("why", answer["reason"], tone)
    if (pause := answer["paused"]) is not None:
        yield _line("paused", f"until {pause['until']} by {pause['owner']}: {pause['reason']}", Tone.WAIT)
    if answer["mode"] is not None:
        yield _line("declared", f"{answer['source']}   mode {answer['mode']}")
    if answer["declaration"]:
        yield _line("declared", answer["declaration"], Tone.BAD)
    if (rejected := answer["rejected"]) is not None:
        since = daemon_client.format_time(rejected["since"], now)
        text = f"rejected since {since}; the last revision that loaded applies; `allocsync validate` says why"
        yield _line("files", text, Tone.BAD)
    for problem in answer["problems"]:
        yield _line("problem", problem, Tone.BAD)
    if answer.get("canary"):
        yield _line(
            "canary", "it is updated first; the rest of the revision waits until it is in sync", Tone.WAIT
        )


def _fields(answer: Mapping[str, Any]) -> Iterator[Line]:
    """Format each declared field with its live value at the latest read; equal fields are dim."""
    desired, differences = answer["desired"], answer["differences"]
    live = None if differences is None else {row["field"]: row["live"] for row in differences}
    width = max(map(len, desired), default=0)
    if answer["missing"]:
        yield _line("live", "none: the API answers 410")
    elif desired and live is None:
        yield _line("live", "not yet compared with the current declaration")
    for field, wanted in desired.items():
        name = visible(field).ljust(width)
        if live is None:
            yield _line("field", f"{name}   declared {visible(wanted)}")
        elif field in live:
            yield _line(
                "differs", f"{name}   live {visible(live[field])} → declared {visible(wanted)}", Tone.WAIT
            )
        else:
            yield _line("equal", f"{name}   {visible(wanted)}", Tone.DIM)


def _field_histories(answer: Mapping[str, Any], now: datetime) -> Iterator[Line]:
    """Format when fields were changed back, and when those that do not stay are sent again by themselves."""
    for row in answer["fields"]:
        if row["another_writer"] and row["changed_back_at"]:
            times = ", ".join(daemon_client.format_time(at, now) for at in row["changed_back_at"])
            yield _line("suspected", f"another writer: {row['field']} changed back at {times}", Tone.WAIT)
        if row["next_attempt_at"] is not None:
            at = daemon_client.format_time(row["next_attempt_at"], now)
            yield _line("tries again", f"{row['field']}   {at}, by itself")


def _open_update(update: Mapping[str, Any], now: datetime) -> Iterator[Line]:
    what = ", ".join(f"{row['field']} → {visible(row['desired'])}" for row in update["changes"])
    if update["unknown_since"] is None:
        yield _line("update", f"{what}   in flight", Tone.WAIT)
        return
    yield _line(
        "update",
        f"{what}   outcome unknown since {daemon_client.format_time(update['unknown_since'], now)}",
        Tone.WAIT,
    )
    yield _line(
        "",
        f"reads from {daemon_client.format_time(update['settles_at'], now)} on can show it was not applied",
    )


def _line(name: str, text: str, tone: Tone = Tone.PLAIN) -> Line:
    return Line(f"  {name:<12}{visible(text)}".rstrip(), tone)
