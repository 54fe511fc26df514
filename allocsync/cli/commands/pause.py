"""`allocsync pause ID|--all --for 2h --reason TEXT`: stops updates for a time; --all is the kill switch.

Left out: what a pause forbids (`reconcile.gates.pause`), and how the daemon keeps it
(`reconcile.pause_control`).
"""

import asyncio
import re
from datetime import UTC, datetime

import click

from allocsync import errors
from allocsync.cli import daemon_client
from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.cli.owner import owner_option
from allocsync.model.escaping import visible
from allocsync.planning.rendering import Line, Tone
from allocsync.reconcile.pause_control import MAX_PAUSE_SECONDS

_UNIT_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(s|min|m|h|d)")


@click.command()
@click.argument("allocation_id", metavar="[ID]", required=False)
@click.option("--all", "everything", is_flag=True, help="All allocations, also those declared later.")
@click.option(
    "--for", "length", metavar="TIME", required=True, help="Duration: 90s, 30min, 2h, 1.5d; at most 30d."
)
@click.option("--reason", metavar="TEXT", required=True, help="Why; shown wherever the pause is shown.")
@owner_option
@click.option("--url", metavar="URL", help="Address of the daemon; default: where ALLOCSYNC_LISTEN says.")
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as JSON.")
@setting_options("listen", "state_dir")
@click.pass_context
def pause(
    context: click.Context,
    flags: Flags,
    allocation_id: str | None,
    everything: bool,
    length: str,
    reason: str,
    owner: str,
    url: str | None,
    as_json: bool,
) -> int:
    """Stop updates of one allocation, or of all, for a time.

    With --all it is a kill switch. Reads go on, and an update whose outcome is unknown is still read back.
    A pause survives a restart of the daemon. If it cannot be stored, it is in force until a restart only, and
    the exit code is 1. A later pause of the same allocation replaces it. ID may be shortened to 8 or more
    characters with which only one id begins.
    """
    command = {**parse_target(allocation_id, everything=everything), "seconds": parse_duration(length)}
    settings = settings_from(context, flags)
    address = daemon_client.daemon_url(url, settings)
    answer = asyncio.run(
        daemon_client.send_command(
            address,
            "/-/pause",
            {**command, "reason": reason, "owner": owner},
            token=daemon_client.load_token(settings),
        )
    )
    if as_json:
        return daemon_client.write_answer(answer, None)
    try:
        ends = daemon_client.format_time(str(answer["ends"]), datetime.now(UTC))
        what = "everything" if answer["id"] is None else visible(str(answer["id"]))
    except (KeyError, ValueError) as error:
        raise daemon_client.unexpected_answer(address, 200) from error
    return daemon_client.write_answer(answer, [Line(f"{what} is paused until {ends}", Tone.WAIT)])


def parse_target(allocation_id: str | None, *, everything: bool) -> dict[str, object]:
    """Return what the command is about, as part of the body of a request: `id` or `all`.

    Raises:
        UsageError: neither an allocation nor --all is given, or both are.
    """
    if everything == (allocation_id is not None):
        raise errors.UsageError("give the ID of an allocation, or --all for all of them.")
    return {"all": True} if everything else {"id": allocation_id}


def parse_duration(length: str) -> float:
    """Parse a duration like 90s, 30min, 2h or 1.5d; returns seconds.

    Raises:
        UsageError: the text is not a duration, or is longer than a pause may last.
    """
    found = _DURATION.fullmatch(length)
    seconds = float(found[1]) * _UNIT_SECONDS[found[2]] if found else 0.0
    if not 0 < seconds <= MAX_PAUSE_SECONDS:
        raise errors.UsageError(
            f"--for {visible(length)}: not a duration of at most 30 days. Try 90s, 30min, 2h or 1.5d. "
            "To stop updates for longer, declare `mode: suspend` in the files."
        )
    return seconds
