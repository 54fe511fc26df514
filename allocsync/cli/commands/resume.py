"""`allocsync resume ID|--all`: end a pause before its time."""

import asyncio

import click

from allocsync import errors
from allocsync.cli import daemon_client, output
from allocsync.cli.commands.pause import named
from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.cli.owner import owner_option
from allocsync.model.escaping import visible
from allocsync.planning.rendering import Line, Tone, count


@click.command()
@click.argument("allocation_id", metavar="[ID]", required=False)
@click.option("--all", "everything", is_flag=True, help="Lift the pause of all; those of single ones stay.")
@owner_option
@click.option("--url", metavar="URL", help="Address of the daemon; default: where ALLOCSYNC_LISTEN says.")
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as JSON.")
@setting_options("listen", "state_dir")
@click.pass_context
def resume(
    context: click.Context,
    flags: Flags,
    allocation_id: str | None,
    everything: bool,
    owner: str,
    url: str | None,
    as_json: bool,
) -> int:
    """End a pause before its time; what differs is looked at now and then sent."""
    order = {**named(allocation_id, everything=everything), "owner": owner}
    settings = settings_from(context, flags)
    address = daemon_client.daemon_url(url, settings)
    answer = asyncio.run(
        daemon_client.order(address, "/-/resume", order, token=daemon_client.token_of(settings))
    )
    if as_json:
        output.write_json(answer)
        return errors.EXIT_FINE
    try:
        key, others, rest = answer["id"], int(answer["others"]), answer["everything"]
    except (KeyError, TypeError, ValueError) as error:
        raise daemon_client.stranger(address, 200) from error
    what = "everything goes on" if key is None else f"{visible(str(key))} goes on"
    lines = [Line(what, Tone.GOOD)]
    if rest is not None:
        lines = [
            Line(
                f"{visible(str(key))} is not paused by itself any more; everything is {visible(rest)}",
                Tone.WAIT,
            )
        ]
    elif key is None and others:
        lines.append(
            Line(
                f"{count(others, 'allocation')} paused by themselves; `allocsync resume ID` lifts that",
                Tone.WAIT,
            )
        )
    output.write_lines(lines)
    return errors.EXIT_FINE
