"""`allocsync demo`: the main job in one minute, on a reference server that misbehaves.

A real server on a real socket, the real daemon against it, and a file that is yours to edit. The story below
is told from the loop's own events; the verdict at the end is taken from the server's truth and its log.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import click

from allocsync import errors
from allocsync.addresses import http_url
from allocsync.cli import output
from allocsync.desired.loader import load
from allocsync.journal.database import NAME as JOURNAL
from allocsync.model.cloud import Cloud, leaf
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Mode
from allocsync.model.escaping import visible
from allocsync.planning.diff import compare
from allocsync.planning.rendering import Line, Tone
from allocsync.reconcile import events
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from allocsync.runtime.daemon import Daemon
from allocsync.settings.model import Settings
from allocsync.settings.validators import parse_listen

ALLOCATIONS, DRIFTED, SEED = 24, 9, 7
CALM_SECONDS = 10.0  # a demo that ends by itself stops the faults this long before
FAULTS: Mapping[str, object] = {
    "seed": SEED,
    "update": {
        "timeout_before": 0.15,
        "timeout_after": 0.15,
        "timeout_late": 0.05,
        "late_seconds": 3,
        "latency_seconds": [0.01, 0.3],
    },
    "writer": {"per_second": 0.1, "field": "urls.vanity.url", "value": "null.pieces.cloud"},
}
_STUCK = (
    *(Condition.CONFLICT, Condition.IGNORED, Condition.MISSING, Condition.FAILING),
    *(Condition.AWAITING_APPROVAL, Condition.BLOCKED),
)
HEADER = """\
# The desired state of the demo. Edit and save it while the demo runs: it takes effect within a second.
# Delete the file to start afresh.
apiVersion: allocsync/v1
allocations:
"""


@click.command()
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Where allocations.yaml is kept for you to edit.",
)
@click.option("--seconds", type=click.FloatRange(min=15), help="End by itself after this many seconds.")
@click.option("--listen", default="127.0.0.1:0", help="HOST:PORT of the daemon's metrics and status.")
def demo(directory: Path, seconds: float | None, listen: str) -> int:
    """Run a reference server with faults and the daemon on a sample that is yours to edit."""
    try:
        parse_listen(listen)
    except ValueError as error:
        raise errors.UsageError(f"--listen {listen}: {error}. Try 127.0.0.1:0.") from error
    clouds = sample_clouds(ALLOCATIONS, SEED)
    desired = directory / "allocations.yaml"
    try:
        if not desired.exists():
            directory.mkdir(parents=True, exist_ok=True)
            desired.write_text(sample_text(clouds))
    except OSError as error:
        why = (error.strerror or "unknown").lower()
        raise errors.UsageError(
            f"--directory {directory}: cannot be used: {why}. Give another one."
        ) from error
    return asyncio.run(_demo(clouds, desired, seconds, listen))


def sample_text(clouds: list[Cloud]) -> str:
    """A file that declares all of them, some of them otherwise than they are."""
    return HEADER + "".join(_declaration(index, cloud) for index, cloud in enumerate(clouds))


def _declaration(index: int, cloud: Cloud) -> str:
    version = "1.10" if index % 3 == 0 else leaf(cloud, "version")
    region = "europe-west4" if index % 8 == 1 else leaf(cloud, "region")
    lines = [f"  {cloud['id']}:", f'    version: "{version}"', f'    region: "{region}"']
    vanity = leaf(cloud, "urls.vanity.url")
    if vanity is not None:
        lines.append(f'    urls: {{vanity: {{url: "{vanity}"}}}}')
    return "\n".join(lines) + "\n"


async def _demo(clouds: list[Cloud], desired: Path, seconds: float | None, listen: str) -> int:
    story = _Story()
    state = desired.parent / ".state"
    for left in state.glob(f"{JOURNAL}*"):
        left.unlink()  # it tells of a server that is gone: each demo has a new one
    async with ReferenceServer.start(clouds, faults=FAULTS) as server:
        settings = Settings(
            api_url=server.url,
            desired=desired,
            state_dir=state,
            listen=listen,
            settle_seconds=5,
            resync_seconds=2,
        )
        daemon = Daemon(settings, environ=os.environ, observers=[story], stream=sys.stdout)
        print_head(server.url, len(clouds), desired)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(daemon.run())
            await daemon.bound.wait()
            story.say(
                Line(f"status          {_address(daemon)}/api/v1/status   metrics {_address(daemon)}/metrics")
            )
            if seconds is not None:
                await asyncio.wait([running], timeout=seconds - CALM_SECONDS)
                server.set_faults({})
                story.say(Line(f"{_now()}  the faults stop", Tone.DIM))
                await asyncio.wait([running], timeout=CALM_SECONDS)
                daemon.stop()
            await running
        in_sync = _verdict(story, server, desired, daemon)
    return errors.EXIT_FINE if in_sync or seconds is None else errors.EXIT_ERROR


def print_head(url: str, number: int, desired: Path) -> None:
    """Say what runs where."""
    lines = (
        Line(f"reference API   {url}   {number} allocations, 504s: 15 % before, 15 % after, 5 % late"),
        Line(f"desired state   {desired}   (edit it: changes arrive within a second)"),
    )
    output.write_lines(lines)


def _address(daemon: Daemon) -> str:
    return http_url(*(daemon.address or ("", 0)))


def _now() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")


def _verdict(story: "_Story", server: ReferenceServer, desired: Path, daemon: Daemon) -> bool:
    """What the server's truth and log say, in one line."""
    try:
        wanted = load(desired, default_mode=Mode.ENFORCE).generation.allocations
    except errors.DesiredError as error:
        story.say(Line(f"the last file does not load: {error}", Tone.BAD))
        return False
    right = sum(not compare(want, server.clouds.get(key, {})) for key, want in wanted.items())
    status = daemon.loop.status() if daemon.loop else None
    settled = status is not None and not status.open_intents
    posts = [record for record in server.records if record.get("op", "update") == "update"]
    unknown = sum(record["answer"] == 504 for record in posts)  # noqa: PLR2004 - the status
    twice = sum(not record["changed"] for record in posts if record["applied_at"] is not None)
    tone = Tone.GOOD if right == len(wanted) and settled else Tone.BAD
    story.say(
        Line(
            f"{_now()}  the server says: {right} of {len(wanted)} in sync; {len(posts)} updates, "
            f"{unknown} of them answered 504, {twice} sent for nothing",
            tone,
        )
    )
    return right == len(wanted) and settled


class _Story:
    """Tells a person what happens, from the loop's events."""

    def __init__(self) -> None:
        self._settling: set[str] = set()
        self._updates = 0

    def say(self, line: Line) -> None:
        """Print one line at once."""
        output.write_lines([line])
        sys.stdout.flush()

    def __call__(self, event: events.Event) -> None:
        """Print one event, if it is worth a line."""
        match event:
            case events.RevisionActivated(revision=revision, changed=changed):
                text = f"revision {revision[:8]}: {changed} allocations are new or changed"
                self._line("desired state", text, Tone.PLAIN)
            case events.RevisionAwaitingApproval(reason=reason):
                self._line("awaits approval", reason, Tone.BAD)
            case events.ResyncFinished(allocations=total, differ=differ) if differ:
                self._line("list read", f"{total} allocations: {differ} differ", Tone.WAIT)
            case events.UpdateFinished():
                self._finished(event)
            case events.UpdateSettled():
                self._settled(event)
            case events.AllInSync(allocations=total):
                self._line("in sync", f"all {total}, after {self._updates} updates", Tone.GOOD)
            case events.ConditionChanged(after=after, reason=reason) if after in _STUCK:
                # What is not in sync and will not be soon says why; everything else has lines of its own.
                self._line(event.allocation[:8], f"{after.lower()}: {visible(reason)}", Tone.BAD)
            case events.Stopping(in_flight=number):
                self._line("stopping", f"{number} requests under way", Tone.DIM)

    def _line(self, what: str, text: str, tone: Tone) -> None:
        self.say(Line(f"{_now()}  {what:<16}  {text}", tone))

    def _finished(self, event: events.UpdateFinished) -> None:
        self._updates += 1
        what = ", ".join(f"{each.field} {visible(each.live)} → {each.desired}" for each in event.changes)
        reason, who = visible(event.reason), event.allocation[:8]
        match event.outcome:
            case "accepted":
                self._line(who, f"{what}   accepted", Tone.GOOD)
            case "unknown":
                wait = f"nothing is sent before a read-back in {event.next_read_in_seconds:.0f} s"
                self._line(who, f"{what}   {event.status or reason}: outcome unknown; {wait}", Tone.BAD)
            case outcome:
                self._line(who, f"{what}   {outcome.replace('_', ' ')}: {reason}", Tone.WAIT)

    def _settled(self, event: events.UpdateSettled) -> None:
        said = {
            "applied": "read back: it was applied after all",
            "not_applied": "read back: not applied; it is sent again",
            "superseded": "read back: not applied, and something else changed it",
            "late_applied": "an update that had been given up was applied after all",
            "stale_overwrite": "a late update put back what somebody else had changed",
        }.get(event.outcome, f"read back: {event.outcome.replace('_', ' ')}")
        self._line(event.allocation[:8], said, Tone.GOOD if event.outcome == "applied" else Tone.WAIT)
