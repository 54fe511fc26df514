"""`allocsync reload`: has the daemon read its files and secrets again, as SIGHUP does.

Left out: what is read again, and what needs a restart (`runtime.daemon`).
"""

import asyncio

import click

from allocsync import errors
from allocsync.cli import daemon_client, output
from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.planning.rendering import Line, Tone


@click.command()
@click.option("--url", metavar="URL", help="Address of the daemon; default: where ALLOCSYNC_LISTEN says.")
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as JSON.")
@setting_options("listen", "state_dir")
@click.pass_context
def reload(context: click.Context, flags: Flags, url: str | None, as_json: bool) -> int:
    """Have the daemon read files and secrets again.

    An edit of the desired state needs no reload. If the files do not load, `allocsync status` says why.
    """
    settings = settings_from(context, flags)
    address = daemon_client.daemon_url(url, settings)
    answer = asyncio.run(
        daemon_client.send_command(address, "/-/reload", {}, token=daemon_client.load_token(settings))
    )
    if as_json:
        output.write_json(answer)
        return errors.EXIT_FINE
    if answer.get("reloading") is not True:
        raise daemon_client.unexpected_answer(address, 202)
    output.write_lines([Line("files and secrets are read again", Tone.GOOD)])
    return errors.EXIT_FINE
