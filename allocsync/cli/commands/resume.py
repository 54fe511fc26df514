"""`allocsync resume ID|--all`: ends a pause early."""

import asyncio

import click

from allocsync.cli import daemon_client
from allocsync.cli.commands.pause import parse_target
from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.cli.owner import owner_option
from allocsync.model.escaping import visible
from allocsync.planning.rendering import Line, Tone, count


@click.command()
@click.argument("allocation_id", metavar="[ID]", required=False)
@click.option(
    "--all", "everything", is_flag=True, help="End the pause of all; pauses of single allocations stay."
)
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
    """End a pause early.

    With --all, only the pause of all ends: an allocation that was also paused by its ID stays paused. What
    differs is read again at once and then updated. ID may be shortened to 8 or more characters with
    which only one id begins.
    """
    command = {**parse_target(allocation_id, everything=everything), "owner": owner}
    settings = settings_from(context, flags)
    address = daemon_client.daemon_url(url, settings)
    answer = asyncio.run(
        daemon_client.send_command(address, "/-/resume", command, token=daemon_client.load_token(settings))
    )
    if as_json:
        return daemon_client.write_answer(answer, None)
    try:
        key, others, rest = answer["id"], int(answer["others"]), answer["everything"]
    except (KeyError, TypeError, ValueError) as error:
        raise daemon_client.unexpected_answer(address, 200) from error
    what = "updates are resumed" if key is None else f"updates of {visible(str(key))} are resumed"
    lines = [Line(what, Tone.GOOD)]
    if rest is not None:
        lines = [
            Line(
                f"the pause of {visible(str(key))} has ended, but everything is {visible(rest)}",
                Tone.WAIT,
            )
        ]
    elif key is None and others:
        lines.append(
            Line(
                f"{count(others, 'allocation')} still paused individually; see `allocsync resume ID`",
                Tone.WAIT,
            )
        )
    return daemon_client.write_answer(answer, lines)
