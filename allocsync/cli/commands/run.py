"""`allocsync run`: the daemon, until it is told to stop."""

import asyncio
import gc
import os
from collections.abc import Callable

import click

from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.runtime.daemon import Daemon
from allocsync.settings.model import Settings

# So many objects more, until garbage is looked for. With the usual 700 the daemon of a hundred thousand
# allocations stands still for most of a second every few seconds, and next to no garbage is found.
GARBAGE_AFTER = 50_000


@click.command()
@setting_options(
    "api_url",
    "desired",
    "state_dir",
    "listen",
    "mode",
    "max_changes_percent",
    "canary",
    "max_writes_per_hour",
    "write_windows",
    "resync_seconds",
    "concurrency_max",
    "bulk",
    "settle_seconds",
    "log_format",
    "log_level",
)
@click.pass_context
def run(context: click.Context, flags: Flags) -> None:
    """Keep every allocation in line until stopped (SIGTERM); SIGHUP reads the files again."""

    def read() -> Settings:
        return settings_from(context, flags)

    gc.set_threshold(GARBAGE_AFTER)
    asyncio.run(_run(settings_from(context, flags, existing=("desired",)), read))


async def _run(settings: Settings, reread: Callable[[], Settings]) -> None:
    await Daemon(settings, environ=os.environ, reread=reread).run()
