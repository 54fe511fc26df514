"""`allocsync status`: what the running daemon says of every allocation, once or until all is in sync.

The rule: in sync means that the daemon has a desired state in force and calls every allocation InSync. It
knows an edit of the files within a second and not sooner; a script that has just written them should allow
for that.
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
NAMED = 20  # so many are named when a wait has failed, and so many canaries
_ROW = ("id", "condition", "reason", "since", "next_read_at", "paused")
IN_SYNC = Condition.IN_SYNC.value
TONES: Mapping[str, Tone] = {  # worst first: this is also the order in which they are listed
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


@dataclass(frozen=True, slots=True)
class Rejected:
    """Files that do not load: since when, the first problems as `validate` says them, and their number."""

    since: str
    problems: Sequence[str]
    count: int


@dataclass(frozen=True, slots=True)
class Canary:
    """One that goes first, and whether a look has shown it in sync."""

    id: str
    verified: bool


@dataclass(frozen=True, slots=True)
class AwaitingApproval:
    """A revision that the change limit stops: why, since when, and its canaries."""

    reason: str
    since: str | None
    canaries: Sequence[Canary] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """The daemon's answer. `awaiting_approval` and `rejected` are None where there is neither."""

    revision: Mapping[str, str | None]
    conditions: Mapping[str, int]
    allocations: Sequence[Mapping[str, Any]]
    awaiting_approval: AwaitingApproval | None = None
    rejected: Rejected | None = None

    @property
    def out_of_sync(self) -> list[Mapping[str, Any]]:
        """The allocations that are not InSync, the worst first."""
        rank = {name: number for number, name in enumerate(TONES)}
        rows = [row for row in self.allocations if row["condition"] != IN_SYNC]
        return sorted(rows, key=lambda row: (rank.get(str(row["condition"]), -1), str(row["id"])))

    @property
    def all_in_sync(self) -> bool:
        """Whether there is nothing left to wait for."""
        quiet = self.awaiting_approval is None and self.rejected is None
        return self.revision["observed"] is not None and not self.out_of_sync and quiet


@click.command()
@click.option("--url", metavar="URL", help="Address of the daemon; default: where ALLOCSYNC_LISTEN says.")
@click.option("--json", "as_json", is_flag=True, help="Print the status as JSON.")
@click.option("--wait", is_flag=True, help="Wait until every allocation is in sync, or exit with 1.")
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="With --wait: how long; default 300.",
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
    """Show what the running daemon says: how many are in sync, and what is not, why and since when.

    With --wait it waits for everything to be in sync, for a daemon that is still starting, too, until the
    --timeout (default 300 seconds) has passed.
    """
    if timeout_seconds is not None and not wait:
        raise click.UsageError("--timeout is how long to --wait; give both.")
    address = daemon_client.daemon_url(url, settings_from(context, flags))
    limit = (300.0 if timeout_seconds is None else timeout_seconds) if wait else 0.0
    found = asyncio.run(_wait(address, limit) if wait else look(address))
    if as_json:
        output.write_json(
            {
                "revision": found.revision,
                "conditions": found.conditions,
                "allocations": found.allocations,
                "awaiting_approval": None
                if found.awaiting_approval is None
                else asdict(found.awaiting_approval),
                "rejected": None if found.rejected is None else asdict(found.rejected),
            }
        )
    else:
        output.write_lines(lines(found, datetime.now(UTC)))
    if not wait or found.all_in_sync:
        return errors.EXIT_FINE
    raise errors.DaemonError(_not_in_time(found, limit))


async def look(url: str) -> Status:
    """Ask once.

    Raises:
        DaemonError: no daemon there, or no answer of one.
    """
    code, answer = await daemon_client.ask(url, PATH)
    try:
        return read(answer)
    except (KeyError, TypeError, ValueError) as error:
        raise daemon_client.stranger(url, code) from error


def read(answer: Mapping[str, Any]) -> Status:
    """Take exactly what the contract names from an answer.

    Raises:
        KeyError, TypeError, ValueError: it lacks something.
    """
    rows = [{name: row[name] for name in _ROW} for row in answer["allocations"]]
    conditions = {str(name): int(number) for name, number in answer["conditions"].items()}
    revision = {name: answer["revision"][name] for name in ("active", "awaiting_approval", "observed")}
    awaiting = _awaiting_approval(answer.get("awaiting_approval"))
    return Status(revision, conditions, rows, awaiting, _rejected(answer.get("rejected")))


def _awaiting_approval(said: Mapping[str, Any] | None) -> AwaitingApproval | None:
    if said is None:
        return None
    canaries = [Canary(str(each["id"]), bool(each["verified"])) for each in said.get("canaries", ())]
    return AwaitingApproval(str(said["reason"]), said["since"], canaries)


def _rejected(said: Mapping[str, Any] | None) -> Rejected | None:
    if said is None:
        return None
    problems = [str(errors.Problem(**problem)) for problem in said["problems"]]
    return Rejected(str(said["since"]), problems, int(said["count"]))


async def _wait(url: str, limit_seconds: float) -> Status:
    ends = time.monotonic() + limit_seconds
    while True:
        begun = time.monotonic()
        try:
            found = await look(url)
            if found.all_in_sync or time.monotonic() >= ends:
                return found
        except daemon_client.NoAnswerError:
            if time.monotonic() >= ends:
                raise
        # A status that takes long to make is asked for less often: waiting must not be a load.
        pause = max(POLL_SECONDS, 5 * (time.monotonic() - begun))
        await asyncio.sleep(min(pause, max(0.0, ends - time.monotonic())))


def lines(found: Status, now: datetime) -> list[Line]:
    """The status for people, in UTC."""
    total = sum(found.conditions.values())
    counts = [f"{number:,} {visible(name)}" for name, number in found.conditions.items() if number]
    head = f"{', '.join(counts) or 'nothing is declared'}   of {total:,} · {_revision(found)}"
    shown = [Line(head, Tone.GOOD if found.all_in_sync else Tone.WAIT)]
    if found.rejected is not None:
        shown += [Line(f"  {text}", Tone.BAD) for text in _why_rejected(found, found.rejected, now)]
    if (awaiting := found.awaiting_approval) is not None:
        shown.append(Line(f"  {visible(awaiting.reason)}", Tone.BAD))
        shown += _canaries(found, awaiting.canaries)
    for row in found.out_of_sync:
        condition = str(row["condition"])
        shown.append(
            Line(f"  {visible(row['id'])}   {visible(condition)}", TONES.get(condition, Tone.BAD)),
        )
        if row["reason"]:
            shown.append(Line(f"    {visible(row['reason'])}"))
        if (pause := row["paused"]) is not None:
            text = f"paused until {pause['until']} by {pause['owner']}: {pause['reason']}"
            shown.append(Line(f"    {visible(text)}", Tone.WAIT))
        times = f"since {_when(row['since'], now)}   next read {_when(row['next_read_at'], now)}"
        shown.append(Line(f"    {times}", Tone.DIM))
    return shown


def _why_rejected(found: Status, rejected: Rejected, now: datetime) -> Iterator[str]:
    active = found.revision["active"]
    stays = f"revision {visible(active[:8])} stays active" if active else "no revision is active"
    yield f"the files have been rejected since {_when(rejected.since, now)}; {stays}"
    yield from (f"  {visible(problem)}" for problem in rejected.problems)
    if rejected.count > len(rejected.problems):
        yield f"  and {rejected.count - len(rejected.problems):,} more; `allocsync validate` lists them all"


def _revision(found: Status) -> str:
    names = {name: visible(text[:8]) for name, text in found.revision.items() if text}
    parts = [f"revision {names['active']} active"] if "active" in names else []
    if "awaiting_approval" in names:
        parts.append(f"revision {names['awaiting_approval']} awaits approval")
    return ", ".join(parts) or "no desired state yet"


def _canaries(found: Status, canaries: Sequence[Canary]) -> Iterator[Line]:
    """Those that are waited for come first, each with its condition."""
    conditions = {row["id"]: str(row["condition"]) for row in found.allocations} if canaries else {}
    for each in sorted(canaries, key=attrgetter("verified", "id"))[:NAMED]:
        condition = f", {visible(conditions[each.id])}" if each.id in conditions else ""
        tone, word = (Tone.GOOD, "verified") if each.verified else (Tone.WAIT, f"not yet{condition}")
        yield Line(f"  canary {visible(each.id)}   {word}", tone)
    if len(canaries) > NAMED:
        yield Line(f"  and {len(canaries) - NAMED:,} more canaries; `allocsync status --json` names them all")


def _when(time_text: str | None, now: datetime) -> str:
    try:
        return daemon_client.ago(time_text, now)
    except ValueError:
        return visible(time_text)


def _not_in_time(found: Status, limit_seconds: float) -> str:
    if found.revision["observed"] is None and found.rejected is None:
        return f"after {limit_seconds:g} s no desired state has loaded; see `allocsync validate`"
    rows = found.out_of_sync
    names = [f"{visible(row['id'])}: {visible(row['condition'])}. {visible(row['reason'])}" for row in rows]
    if len(names) > NAMED:
        names[NAMED:] = [f"and {len(names) - NAMED:,} more; `allocsync status` lists them all"]
    what = f"{len(rows):,} of {len(found.allocations):,} not in sync after {limit_seconds:g} s:"
    why = [] if found.rejected is None else list(_why_rejected(found, found.rejected, datetime.now(UTC)))
    why += [] if found.awaiting_approval is None else [visible(found.awaiting_approval.reason)]
    return "\n".join([what, *why, *names])
