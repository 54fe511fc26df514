"""`allocsync pause ID|--all --for 2h --reason TEXT`: nothing is sent until then; --all is the kill switch."""

import asyncio
import re
from datetime import UTC, datetime

import click

from allocsync import errors
from allocsync.cli import daemon_client, output
from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.cli.owner import owner_option
from allocsync.model.escaping import visible
from allocsync.planning.rendering import Line, Tone
from allocsync.reconcile.pause_control import MOST_SECONDS

_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_LENGTH = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(s|min|m|h|d)")


@click.command()
@click.argument("allocation_id", metavar="[ID]", required=False)
@click.option("--all", "everything", is_flag=True, help="All allocations, those that come later too.")
@click.option(
    "--for", "length", metavar="TIME", required=True, help="How long: 90s, 30min, 2h, 1.5d; 30d at most."
)
@click.option("--reason", metavar="TEXT", required=True, help="Why; shown wherever the pause shows.")
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
    """Have nothing sent for one allocation or, as a kill switch, for all of them, until a certain time.

    Looks go on, and an update whose outcome is unknown is still read back. A pause outlives a restart of the
    daemon, and a later one of the same takes its place.
    """
    order = {**named(allocation_id, everything=everything), "seconds": seconds_of(length)}
    settings = settings_from(context, flags)
    address = daemon_client.daemon_url(url, settings)
    answer = asyncio.run(
        daemon_client.order(
            address,
            "/-/pause",
            {**order, "reason": reason, "owner": owner},
            token=daemon_client.token_of(settings),
        )
    )
    if as_json:
        output.write_json(answer)
        return errors.EXIT_FINE
    try:
        ends = daemon_client.ago(str(answer["ends"]), datetime.now(UTC))
        what = "everything" if answer["id"] is None else visible(str(answer["id"]))
    except (KeyError, ValueError) as error:
        raise daemon_client.stranger(address, 200) from error
    output.write_lines([Line(f"{what} is paused until {ends}", Tone.WAIT)])
    return errors.EXIT_FINE


def named(allocation_id: str | None, *, everything: bool) -> dict[str, object]:
    """What the command line is about, as an order has it.

    Raises:
        UsageError: it names nothing, or both.
    """
    if everything == (allocation_id is not None):
        raise errors.UsageError("give the ID of an allocation, or --all for all of them.")
    return {"all": True} if everything else {"id": allocation_id}


def seconds_of(length: str) -> float:
    """Read 90s, 30min, 2h or 1.5d.

    Raises:
        UsageError: it is none, or longer than a pause may be.
    """
    found = _LENGTH.fullmatch(length)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < seconds <= MOST_SECONDS:
        raise errors.UsageError(
            f"--for {visible(length)}: this is not a time of 30 days at most. Try 90s, 30min, 2h or 1.5d; "
            "what is to stay longer is better said in the files, as `mode: suspend`."
        )
    return seconds
