"""`allocsync sync`: has the daemon read all allocations now.

Left out: when they are read otherwise (`reconcile.resync`).
"""

import asyncio

import click

from allocsync import errors
from allocsync.cli import daemon_client, output
from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.planning.rendering import Line, Tone, count


@click.command()
@click.option("--url", metavar="URL", help="Address of the daemon; default: where ALLOCSYNC_LISTEN says.")
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as JSON.")
@setting_options("listen", "state_dir")
@click.pass_context
def sync(context: click.Context, flags: Flags, url: str | None, as_json: bool) -> int:
    """Have the daemon read all allocations now.

    What differs is updated, except what waits after a failure: see `allocsync retry`.
    """
    settings = settings_from(context, flags)
    address = daemon_client.daemon_url(url, settings)
    answer = asyncio.run(
        daemon_client.send_command(address, "/-/sync", {}, token=daemon_client.load_token(settings))
    )
    if as_json:
        output.write_json(answer)
        return errors.EXIT_FINE
    try:
        number = int(answer["allocations"])
    except (KeyError, TypeError, ValueError) as error:
        raise daemon_client.unexpected_answer(address, 202) from error
    output.write_lines([Line(f"reading {count(number, 'allocation')} now", Tone.GOOD)])
    return errors.EXIT_FINE
