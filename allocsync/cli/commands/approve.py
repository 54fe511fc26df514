"""`allocsync approve REVISION`: activates the revision that awaits approval, once.

Left out: what the change limit is (`planning.change_limit`), and what the daemon does with an approval
(`reconcile.rollout.rollout`).
"""

import asyncio

import click

from allocsync.cli import daemon_client
from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.cli.owner import owner_option
from allocsync.model.escaping import visible
from allocsync.planning.rendering import Line, Tone, count


@click.command()
@click.argument("revision")
@click.option("--url", metavar="URL", help="Address of the daemon; default: where ALLOCSYNC_LISTEN says.")
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as JSON.")
@owner_option
@setting_options("listen", "state_dir")
@click.pass_context
def approve(
    context: click.Context, flags: Flags, revision: str, url: str | None, as_json: bool, owner: str
) -> int:
    """Approve the revision that awaits approval.

    REVISION is its first 8 digits or more, as `status` and `plan` show them. The approval is for this
    revision alone: if the files have changed since, nothing is approved.
    """
    settings = settings_from(context, flags)
    address = daemon_client.daemon_url(url, settings)
    command = {"revision": revision, "owner": owner}
    answer = asyncio.run(
        daemon_client.send_command(address, "/-/approve", command, token=daemon_client.load_token(settings))
    )
    if as_json:
        return daemon_client.write_answer(answer, None)
    try:
        changes = int(answer["changes"])
    except (KeyError, TypeError, ValueError) as error:
        raise daemon_client.unexpected_answer(address, 200) from error
    text = f"revision {visible(revision)} is approved: {count(changes, 'allocation')} may change now"
    return daemon_client.write_answer(answer, [Line(text, Tone.GOOD)])
