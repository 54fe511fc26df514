"""`allocsync demo`: the daemon at work against a reference server with faults.

It starts the reference server on a real socket and the real daemon against it, and writes a file for you to
edit unless there is one. It runs until Ctrl-C, or for `--seconds`. The lines that it prints come from the
daemon's events; the result at the end comes from the server's state and log.

Left out: the server and its faults (`reference_server`), and the daemon (`runtime.daemon`).
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
from allocsync.model.cloud import Cloud, field_value
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
FAULT_FREE_SECONDS = 10.0  # with --seconds, the faults stop this long before the end
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
    help="Directory of the file allocations.yaml, which you can edit.",
)
@click.option("--seconds", type=click.FloatRange(min=15), help="End by itself after this many seconds.")
@click.option("--listen", default="127.0.0.1:0", help="HOST:PORT of the daemon's metrics and status.")
def demo(directory: Path, seconds: float | None, listen: str) -> int:
    """Run the daemon against a reference server with faults.

    The desired state is a sample file that you can edit meanwhile. A file of an earlier demo is used as it
    is and not overwritten. Without --seconds the demo runs until Ctrl-C. With --seconds it exits with 1
    unless everything is in sync at the end and the outcome of every update is known.
    """
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
    """Return a desired state that declares all of these clouds, some with other values than they have."""
    return HEADER + "".join(_declaration(index, cloud) for index, cloud in enumerate(clouds))


def _declaration(index: int, cloud: Cloud) -> str:
    version = "1.10" if index % 3 == 0 else field_value(cloud, "version")
    region = "europe-west4" if index % 8 == 1 else field_value(cloud, "region")
    lines = [f"  {cloud['id']}:", f'    version: "{version}"', f'    region: "{region}"']
    vanity = field_value(cloud, "urls.vanity.url")
    if vanity is not None:
        lines.append(f'    urls: {{vanity: {{url: "{vanity}"}}}}')
    return "\n".join(lines) + "\n"


async def _demo(clouds: list[Cloud], desired: Path, seconds: float | None, listen: str) -> int:
    printer = _EventPrinter()
    state = desired.parent / ".state"
    for left in state.glob(f"{JOURNAL}*"):
        left.unlink()  # the journal of an earlier demo is about a server that no longer exists
    async with ReferenceServer.start(clouds, faults=FAULTS) as server:
        settings = Settings(
            api_url=server.url,
            desired=desired,
            state_dir=state,
            listen=listen,
            settle_seconds=5,
            resync_seconds=2,
        )
        daemon = Daemon(settings, environ=os.environ, observers=[printer], stream=sys.stdout)
        print_header(server.url, len(clouds), desired)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(daemon.run())
            await daemon.bound.wait()
            printer.print_line(
                Line(f"status          {_address(daemon)}/api/v1/status   metrics {_address(daemon)}/metrics")
            )
            if seconds is not None:
                await asyncio.wait([running], timeout=seconds - FAULT_FREE_SECONDS)
                server.set_faults({})
                printer.print_line(Line(f"{_now()}  the faults stop", Tone.DIM))
                await asyncio.wait([running], timeout=FAULT_FREE_SECONDS)
                daemon.stop()
            await running
        in_sync = _report_result(printer, server, desired, daemon)
    return errors.EXIT_FINE if in_sync or seconds is None else errors.EXIT_ERROR


def print_header(url: str, number: int, desired: Path) -> None:
    """Print where the server and the file are."""
    lines = (
        Line(f"reference API   {url}   {number} allocations, 504s: 15 % before, 15 % after, 5 % late"),
        Line(f"desired state   {desired}   (edit it: changes arrive within a second)"),
    )
    output.write_lines(lines)


def _address(daemon: Daemon) -> str:
    return http_url(*(daemon.address or ("", 0)))


def _now() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")


def _report_result(printer: "_EventPrinter", server: ReferenceServer, desired: Path, daemon: Daemon) -> bool:
    """Print one line about the server's state and log; returns whether everything is in sync and settled."""
    try:
        wanted = load(desired, default_mode=Mode.ENFORCE).revision.allocations
    except errors.DesiredError as error:
        printer.print_line(Line(f"the files do not load: {error}", Tone.BAD))
        return False
    right = sum(not compare(want, server.clouds.get(key, {})) for key, want in wanted.items())
    status = daemon.controller.status() if daemon.controller else None
    settled = status is not None and not status.open_intents
    posts = [record for record in server.records if record.get("op", "update") == "update"]
    unknown = sum(record["answer"] == 504 for record in posts)  # noqa: PLR2004 - the status
    needless = sum(not record["changed"] for record in posts if record["applied_at"] is not None)
    tone = Tone.GOOD if right == len(wanted) and settled else Tone.BAD
    printer.print_line(
        Line(
            f"{_now()}  server state: {right} of {len(wanted)} in sync; {len(posts)} updates, "
            f"{unknown} of them answered 504, {needless} sent without need",
            tone,
        )
    )
    return right == len(wanted) and settled


class _EventPrinter:
    """Prints the daemon's events for a person; an instance is an Observer."""

    def __init__(self) -> None:
        self._updates = 0

    def print_line(self, line: Line) -> None:
        """Print one line and flush it."""
        output.write_lines([line])
        sys.stdout.flush()

    def __call__(self, event: events.Event) -> None:
        """Print one event; events of no interest to a person are ignored."""
        match event:
            case events.RevisionActivated(revision=revision, changed=changed):
                text = f"revision {revision[:8]}: {changed} allocations are new or changed"
                self._print_event("desired state", text, Tone.PLAIN)
            case events.RevisionAwaitingApproval(reason=reason):
                self._print_event("awaits approval", reason, Tone.BAD)
            case events.ResyncFinished(allocations=total, differ=differ) if differ:
                self._print_event("list read", f"{total} allocations: {differ} differ", Tone.WAIT)
            case events.UpdateFinished():
                self._on_update_finished(event)
            case events.UpdateSettled():
                self._on_update_settled(event)
            case events.AllInSync(allocations=total):
                self._print_event("in sync", f"all {total}, after {self._updates} updates", Tone.GOOD)
            case events.ConditionChanged(after=after, reason=reason) if after in _STUCK:
                # Only a condition that needs attention: other changes have lines of their own.
                self._print_event(_short_id(event), f"{after}: {visible(reason)}", Tone.BAD)
            case events.Stopping(in_flight=number):
                self._print_event("stopping", f"{number} requests in flight", Tone.DIM)

    def _print_event(self, what: str, text: str, tone: Tone) -> None:
        self.print_line(Line(f"{_now()}  {what:<16}  {text}", tone))

    def _on_update_finished(self, event: events.UpdateFinished) -> None:
        self._updates += 1
        what = ", ".join(
            f"{change.field} {visible(change.live)} → {change.desired}" for change in event.changes
        )
        reason = visible(event.reason)
        match event.outcome:
            case "accepted":
                self._print_event(_short_id(event), f"{what}   accepted", Tone.GOOD)
            case "unknown":
                wait = f"read back in {event.next_read_in_seconds:.0f} s before anything is sent again"
                text = f"{what}   {event.status or reason}: outcome unknown; {wait}"
                self._print_event(_short_id(event), text, Tone.BAD)
            case outcome:
                text = f"{what}   {outcome.replace('_', ' ')}: {reason}"
                self._print_event(_short_id(event), text, Tone.WAIT)

    def _on_update_settled(self, event: events.UpdateSettled) -> None:
        text = {
            "applied": "read back: it was applied",
            "not_applied": "read back: not applied; it is sent again",
            "superseded": "read back: not applied, and something else changed it",
            "late_applied": "an update that was judged not applied was applied late",
            "stale_overwrite": "a late update overwrote what somebody else had changed",
        }.get(event.outcome, f"read back: {event.outcome.replace('_', ' ')}")
        self._print_event(_short_id(event), text, Tone.GOOD if event.outcome == "applied" else Tone.WAIT)


def _short_id(event: events.UpdateFinished | events.UpdateSettled | events.ConditionChanged) -> str:
    return event.allocation[:8]
