"""`allocsync status`: shows what the running daemon reports of every allocation, or waits for all.

The rule: `--wait` succeeds once the daemon has loaded the desired state, does not reject the files, has no
revision that awaits approval, and reports InSync for every allocation. The daemon notices an edit of the
files within a second. So a script that has just written them should wait one second before it runs `status`.

Left out: what the daemon reports (`reconcile.status`), and its JSON (`web.serializers`).
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

import click

from allocsync import errors
from allocsync.cli import daemon_client, output
from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.model.condition import Condition
from allocsync.model.escaping import visible
from allocsync.planning.rendering import Line, Tone

PATH = "/api/v1/status"
POLL_SECONDS = 0.5
MAX_LISTED = 20  # allocations in the error of --wait, and canaries
_ROW_KEYS = ("id", "condition", "reason", "since", "next_read_at", "paused")
IN_SYNC = Condition.IN_SYNC.value
TONES: Mapping[str, Tone] = {  # in the order in which they are listed: worst first
    Condition.FAILING: Tone.BAD,
    Condition.IGNORED: Tone.BAD,
    Condition.MISSING: Tone.BAD,
    Condition.CONFLICT: Tone.BAD,
    Condition.AWAITING_APPROVAL: Tone.BAD,
    Condition.BLOCKED: Tone.BAD,
    Condition.OUTCOME_UNKNOWN: Tone.WAIT,
    Condition.DRIFTED: Tone.WAIT,
    Condition.PENDING: Tone.WAIT,
    Condition.SUSPENDED: Tone.WAIT,
    Condition.IN_SYNC: Tone.GOOD,
}
RETRIED = frozenset({Condition.FAILING, Condition.IGNORED, Condition.MISSING, Condition.CONFLICT})


@dataclass(frozen=True, slots=True)
class RejectedFiles:
    """Rejected files: since when (RFC 3339), the first problems as `validate` prints them, and how many."""

    since: str
    problems: Sequence[str]
    count: int


@dataclass(frozen=True, slots=True)
class Canary:
    """A canary of a revision that waits for approval, and whether a read has shown it in sync."""

    id: str
    verified: bool


@dataclass(frozen=True, slots=True)
class AwaitingApproval:
    """A revision that awaits approval: why, since when (RFC 3339), and its canaries."""

    reason: str
    since: str | None
    canaries: Sequence[Canary] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """The daemon's answer.

    `awaiting_approval` is None if no revision awaits approval, `rejected` is None if the files load.
    """

    revision: Mapping[str, str | None]
    conditions: Mapping[str, int]
    allocations: Sequence[Mapping[str, Any]]
    awaiting_approval: AwaitingApproval | None = None
    rejected: RejectedFiles | None = None

    @property
    def out_of_sync(self) -> list[Mapping[str, Any]]:
        """The allocations that are not InSync, worst first."""
        rank = {name: number for number, name in enumerate(TONES)}
        rows = [row for row in self.allocations if row["condition"] != IN_SYNC]
        return sorted(rows, key=lambda row: (rank.get(str(row["condition"]), -1), str(row["id"])))

    @property
    def all_in_sync(self) -> bool:
        """Whether --wait has nothing left to wait for."""
        files_are_active = (
            self.revision["observed"] is not None and self.awaiting_approval is None and self.rejected is None
        )
        return files_are_active and not self.out_of_sync


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

    With --wait it waits until everything is in sync, or until the --timeout (default 300 seconds) has
    passed. The daemon may still be starting.
    """
    if timeout_seconds is not None and not wait:
        raise click.UsageError("--timeout needs --wait; give both.")
    address = daemon_client.daemon_url(url, settings_from(context, flags))
    limit = (300.0 if timeout_seconds is None else timeout_seconds) if wait else 0.0
    current = asyncio.run(_wait_until_in_sync(address, limit) if wait else fetch_status(address))
    if as_json:
        output.write_json(
            {
                "revision": current.revision,
                "conditions": current.conditions,
                "allocations": current.allocations,
                "awaiting_approval": None
                if current.awaiting_approval is None
                else asdict(current.awaiting_approval),
                "rejected": None if current.rejected is None else asdict(current.rejected),
            }
        )
    else:
        output.write_lines(format_status(current, datetime.now(UTC)))
    if not wait or current.all_in_sync:
        return errors.EXIT_FINE
    raise errors.DaemonError(_format_timeout(current, limit))


async def fetch_status(url: str) -> Status:
    """Read the daemon's status once.

    Raises:
        NoAnswerError: no daemon answers at the address.
        DaemonError: the answer is not from allocsync.
    """
    code, answer = await daemon_client.request(url, PATH)
    try:
        return parse_status(answer)
    except (KeyError, TypeError, ValueError) as error:
        raise daemon_client.unexpected_answer(url, code) from error


def parse_status(answer: Mapping[str, Any]) -> Status:
    """Take the documented keys from the daemon's answer; others are ignored.

    Raises:
        KeyError, TypeError, ValueError: the answer does not have the documented shape.
    """
    rows = [{name: row[name] for name in _ROW_KEYS} for row in answer["allocations"]]
    conditions = {str(name): int(number) for name, number in answer["conditions"].items()}
    revision = {name: answer["revision"][name] for name in ("active", "awaiting_approval", "observed")}
    awaiting = _parse_awaiting_approval(answer.get("awaiting_approval"))
    return Status(revision, conditions, rows, awaiting, _parse_rejected(answer.get("rejected")))


def _parse_awaiting_approval(answer: Mapping[str, Any] | None) -> AwaitingApproval | None:
    if answer is None:
        return None
    canaries = [Canary(str(each["id"]), bool(each["verified"])) for each in answer.get("canaries", ())]
    return AwaitingApproval(str(answer["reason"]), answer["since"], canaries)


def _parse_rejected(answer: Mapping[str, Any] | None) -> RejectedFiles | None:
    if answer is None:
        return None
    problems = [str(errors.Problem(**problem)) for problem in answer["problems"]]
    return RejectedFiles(str(answer["since"]), problems, int(answer["count"]))


async def _wait_until_in_sync(url: str, limit_seconds: float) -> Status:
    ends = time.monotonic() + limit_seconds
    while True:
        begun = time.monotonic()
        try:
            current = await fetch_status(url)
            if current.all_in_sync or time.monotonic() >= ends:
                return current
        except daemon_client.NoAnswerError:
            if time.monotonic() >= ends:
                raise
        # The longer the daemon takes to answer, the less often it is asked: waiting must not load it.
        pause = max(POLL_SECONDS, 5 * (time.monotonic() - begun))
        await asyncio.sleep(min(pause, max(0.0, ends - time.monotonic())))


def format_status(current: Status, now: datetime) -> list[Line]:
    """Format the status for people; times are in UTC."""
    total = sum(current.conditions.values())
    counts = [f"{number:,} {visible(name)}" for name, number in current.conditions.items() if number]
    head = f"{', '.join(counts) or 'nothing is declared'}   of {total:,} · {_format_revision(current)}"
    lines = [Line(head, Tone.GOOD if current.all_in_sync else Tone.WAIT)]
    if current.rejected is not None:
        lines += [Line(f"  {text}", Tone.BAD) for text in _format_rejection(current, current.rejected, now)]
    if (awaiting := current.awaiting_approval) is not None:
        lines.append(Line(f"  {visible(awaiting.reason)}", Tone.BAD))
        lines += _format_canaries(current, awaiting.canaries)
    for row in current.out_of_sync:
        condition = str(row["condition"])
        lines.append(
            Line(f"  {visible(row['id'])}   {visible(condition)}", TONES.get(condition, Tone.BAD)),
        )
        if row["reason"]:
            lines.append(Line(f"    {visible(row['reason'])}"))
        if (pause := row["paused"]) is not None:
            text = f"paused until {pause['until']} by {pause['owner']}: {pause['reason']}"
            lines.append(Line(f"    {visible(text)}", Tone.WAIT))
        times = (
            f"since {_format_time(row['since'], now)}   next read {_format_time(row['next_read_at'], now)}"
        )
        lines.append(Line(f"    {times}", Tone.DIM))
    if names := [name for name in TONES if name in RETRIED and current.conditions.get(name)]:
        lines.append(Line(f"  {', '.join(names)}: `allocsync retry ID` tries again now", Tone.DIM))
    return lines


def _format_rejection(current: Status, rejected: RejectedFiles, now: datetime) -> Iterator[str]:
    active = current.revision["active"]
    rest = f"revision {visible(active[:8])} stays active" if active else "no revision is active"
    yield f"the files have been rejected since {_format_time(rejected.since, now)}; {rest}"
    yield from (f"  {visible(problem)}" for problem in rejected.problems)
    if rejected.count > len(rejected.problems):
        yield f"  and {rejected.count - len(rejected.problems):,} more; `allocsync validate` lists them all"


def _format_revision(current: Status) -> str:
    names = {name: visible(text[:8]) for name, text in current.revision.items() if text}
    parts = [f"revision {names['active']} active"] if "active" in names else []
    if "awaiting_approval" in names:
        parts.append(f"revision {names['awaiting_approval']} awaits approval")
    return ", ".join(parts) or "no desired state yet"


def _format_canaries(current: Status, canaries: Sequence[Canary]) -> Iterator[Line]:
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


def _format_timeout(current: Status, limit_seconds: float) -> str:
    if current.revision["observed"] is None and current.rejected is None:
        return f"after {limit_seconds:g} s no desired state has loaded; see `allocsync validate`"
    rows = current.out_of_sync
    names = [f"{visible(row['id'])}: {visible(row['condition'])}. {visible(row['reason'])}" for row in rows]
    if len(names) > MAX_LISTED:
        names[MAX_LISTED:] = [f"and {len(names) - MAX_LISTED:,} more; `allocsync status` lists them all"]
    what = f"{len(rows):,} of {len(current.allocations):,} not in sync after {limit_seconds:g} s:"
    lines = [what]
    if current.rejected is not None:
        lines += _format_rejection(current, current.rejected, datetime.now(UTC))
    if current.awaiting_approval is not None:
        lines.append(visible(current.awaiting_approval.reason))
    return "\n".join([*lines, *names])
