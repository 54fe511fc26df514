"""`allocsync status`: shows what the running daemon reports of every allocation, or waits for all.

The rule: what is shown carries the age of its proof. An outage of the API is the first line. A condition
whose proof is older than a resync is shown with its age.

Left out: the reason of a condition (`reconcile.status.condition_rules`), the advice
(`reconcile.status.advice`), the daemon's JSON (`web.serializers`), and when a wait ends (`cli.status_wait`).
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from typing import Any

import click

from allocsync import errors
from allocsync.cli import daemon_client, output
from allocsync.cli.daemon_status import (
    WORST_FIRST,
    Api,
    Canary,
    DaemonStatus,
    RejectedFiles,
    fetch_status,
)
from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.cli.status_wait import WaitResult, wait_until_in_sync
from allocsync.model.condition import Condition
from allocsync.model.escaping import visible
from allocsync.model.public_json import SCHEMA
from allocsync.planning.rendering import Line, Tone

MAX_ADVICE = 10  # lines of advice; reasons of the same kind share one
MAX_LISTED = 20  # allocations in the error of --wait, and canaries
_WAITING = {Condition.OUTCOME_UNKNOWN, Condition.DRIFTED, Condition.PENDING, Condition.SUSPENDED}
TONES: Mapping[str, Tone] = {
    name.value: Tone.GOOD if name is Condition.IN_SYNC else Tone.WAIT if name in _WAITING else Tone.BAD
    for name in WORST_FIRST
}


@click.command()
@click.option("--url", metavar="URL", help="Address of the daemon; default: where ALLOCSYNC_LISTEN says.")
@click.option("--json", "as_json", is_flag=True, help="Print the status as JSON.")
@click.option("--wait", is_flag=True, help="Wait until every allocation is in sync, or exit with 1.")
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="With --wait: for how long; default 300.",
)
@setting_options("listen")
@click.pass_context
def status(
    context: click.Context,
    flags: Flags,
    url: str | None,
    as_json: bool,
    wait: bool,
    timeout_seconds: float | None,
) -> int:
    """Show the status of all allocations in the running daemon.

    Shows how many are in sync, and for the others why not, since when, and when they are read again.

    With --wait it has the daemon read the files and every allocation again, and waits until all are in sync
    by what was read since then. It also waits for a daemon that is still starting. It exits with 1 at once if
    only a person can help, and after the --timeout (default 300 seconds).
    """
    if timeout_seconds is not None and not wait:
        raise click.UsageError("--timeout needs --wait; give both.")
    settings = settings_from(context, flags)
    address = daemon_client.daemon_url(url, settings)
    limit = 300.0 if timeout_seconds is None else timeout_seconds
    result: WaitResult | None = None
    if wait:
        find_token = partial(daemon_client.find_token, settings)
        result = asyncio.run(wait_until_in_sync(address, find_token=find_token, limit_seconds=limit))
    current = asyncio.run(fetch_status(address)) if result is None else result.status
    if as_json:
        output.write_json({"schema": SCHEMA, **asdict(current)})
    else:
        output.write_lines(format_status(current, datetime.now(UTC)))
    if result is None or result.in_sync:
        return errors.EXIT_FINE
    raise errors.DaemonError(format_failed_wait(result, limit, datetime.now(UTC)))


def format_status(current: DaemonStatus, now: datetime) -> list[Line]:
    """Format the status for people; times are in UTC."""
    total = sum(current.conditions.values())
    is_unreachable = current.api.reachable is False
    lines = [Line(format_outage(current.api, now), Tone.BAD)] if is_unreachable else []
    counts = [f"{number:,} {visible(name)}" for name, number in current.conditions.items() if number]
    proof = _format_proof(current, now) if total else ""
    head = f"{', '.join(counts) or 'nothing is declared'}   of {total:,}{proof} · {_format_revision(current)}"
    calm = not (is_unreachable or current.noteworthy or current.rejected or current.awaiting_approval)
    lines.append(Line(head, Tone.GOOD if calm and current.revision["active"] else Tone.WAIT))
    if current.rejected is not None:
        lines += [Line(f"  {text}", Tone.BAD) for text in _format_rejection(current, current.rejected, now)]
    if (awaiting := current.awaiting_approval) is not None:
        lines.append(Line(f"  {visible(awaiting.reason)}", Tone.BAD))
        lines += _format_canaries(current, awaiting.canaries)
    for row in current.noteworthy:
        lines += _format_row(current, row, now)
    advice = dict.fromkeys(
        (str(row["condition"]), row["advice"]) for row in current.noteworthy if row["advice"]
    )
    for condition, text in list(advice)[:MAX_ADVICE]:
        lines.append(Line(f"  {visible(condition)}: {visible(text)}", Tone.DIM))
    return lines


def format_outage(api: Api, now: datetime) -> str:
    """Say since when and why the API is unreachable, when it last answered, and when it is tried again."""
    reason = f"; {api.reason}" if api.reason else ""
    since, confirmed = _format_time(api.since, now), _format_time(api.last_confirmed_at, now)
    next_attempt = _format_time(api.next_attempt_at, now)
    text = f"API unreachable since {since}{reason}; last confirmed {confirmed}; next attempt {next_attempt}"
    return visible(text)


def _format_proof(current: DaemonStatus, now: datetime) -> str:
    """Format how old the proof of the counts is."""
    if current.all_confirmed_since is None:
        return ", not all read yet"
    if current.api.reachable is False:
        return f", as of {_format_time(current.all_confirmed_since, now)}"
    return f", confirmed since {_format_time(current.all_confirmed_since, now)}"


def _format_row(current: DaemonStatus, row: Mapping[str, Any], now: datetime) -> Iterator[Line]:
    condition = str(row["condition"])
    yield Line(f"  {visible(row['id'])}   {visible(condition)}", TONES.get(condition, Tone.BAD))
    if row["reason"]:
        yield Line(f"    {visible(row['reason'])}")
    if row["declaration"]:
        yield Line(f"    {visible(row['declaration'])}", Tone.BAD)
    if (pause := row["paused"]) is not None:
        text = f"paused until {pause['until']} by {pause['owner']}: {pause['reason']}"
        yield Line(f"    {visible(text)}", Tone.WAIT)
    times = [f"since {_format_time(row['since'], now)}"]
    if _is_old(row["confirmed_at"], current.resync_seconds, now):
        times.append(f"confirmed {_format_time(row['confirmed_at'], now)}")
    waits_for = f", waits for {row['waits_for']}" if row["waits_for"] else ""
    times.append(f"next read {_format_time(row['next_read_at'], now)}{waits_for}")
    yield Line(f"    {visible('   '.join(times))}", Tone.DIM)


def _is_old(confirmed_at: str | None, resync_seconds: float, now: datetime) -> bool:
    """Whether the proof of a condition is so old that its age must be shown."""
    if confirmed_at is None:
        return False
    try:
        return (now - datetime.fromisoformat(confirmed_at)).total_seconds() > resync_seconds
    except ValueError:
        return True


def _format_rejection(current: DaemonStatus, rejected: RejectedFiles, now: datetime) -> Iterator[str]:
    active = current.revision["active"]
    rest = f"revision {visible(active[:8])} stays active" if active else "no revision is active"
    yield f"the files have been rejected since {_format_time(rejected.since, now)}; {rest}"
    yield from (f"  {visible(problem)}" for problem in rejected.problems)
    if rejected.count > len(rejected.problems):
        yield f"  and {rejected.count - len(rejected.problems):,} more; `allocsync validate` lists them all"


def _format_revision(current: DaemonStatus) -> str:
    names = {name: visible(text[:8]) for name, text in current.revision.items() if text}
    parts = [f"revision {names['active']} active"] if "active" in names else []
    if "observed" in names and names["observed"] not in (names.get("active"), names.get("awaiting_approval")):
        parts.append(f"all were last compared with {names['observed']}")
    if "awaiting_approval" in names:
        parts.append(f"revision {names['awaiting_approval']} awaits approval")
    return ", ".join(parts) or "no desired state yet"


def _format_canaries(current: DaemonStatus, canaries: Sequence[Canary]) -> Iterator[Line]:
    """List the canaries that are not verified first, each with its condition."""
    conditions = {row["id"]: str(row["condition"]) for row in current.allocations} if canaries else {}
    for each in sorted(canaries, key=attrgetter("verified", "id"))[:MAX_LISTED]:
        condition = f", {visible(conditions[each.id])}" if each.id in conditions else ""
        tone, word = (Tone.GOOD, "verified") if each.verified else (Tone.WAIT, f"not yet{condition}")
        yield Line(f"  canary {visible(each.id)}   {word}", tone)
    if len(canaries) > MAX_LISTED:
        yield Line(
            f"  and {len(canaries) - MAX_LISTED:,} more canaries; `allocsync status --json` names them all"
        )


def _format_time(time_text: str | None, now: datetime) -> str:
    try:
        return daemon_client.format_time(time_text, now)
    except ValueError:
        return visible(time_text)


def format_failed_wait(result: WaitResult, limit_seconds: float, now: datetime) -> str:
    """Say why a wait ended without success: one line for the cause, one for each allocation."""
    current = result.status
    if current.files_read_at is None and current.rejected is None:
        return f"after {limit_seconds:g} s no desired state has loaded; see `allocsync validate`"
    rows = [row for row in current.noteworthy if not result.needs_person or row["needs_person"]]
    when = "only a person can help" if result.needs_person else f"after {limit_seconds:g} s"
    lines = [f"{len(current.noteworthy):,} of {len(current.allocations):,} not in sync: {when}"]
    if current.api.reachable is False:
        lines = [f"not in sync after {limit_seconds:g} s: {format_outage(current.api, now)}"]
        lines.append("nothing was lost: work goes on by itself when the API answers")
    elif not rows and current.rejected is None and current.awaiting_approval is None:
        lines = [f"after {limit_seconds:g} s some allocations were not read again yet; wait longer"]
    if current.rejected is not None:
        lines += _format_rejection(current, current.rejected, now)
    if current.awaiting_approval is not None:
        lines.append(visible(current.awaiting_approval.reason))
    names = [
        f"{visible(row['id'])}: {visible(row['condition'])}. {visible(row['reason'] or row['declaration'])}"
        for row in rows
    ]
    if len(names) > MAX_LISTED:
        names[MAX_LISTED:] = [f"and {len(names) - MAX_LISTED:,} more; `allocsync status` lists them all"]
    return "\n".join([*lines, *names])
