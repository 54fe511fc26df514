"""`allocsync run`: runs the daemon until it is told to stop.

Left out: the daemon itself (`runtime.daemon`).
"""

import asyncio
import gc
import os
from collections.abc import Callable

import click

from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.runtime.daemon import Daemon
from allocsync.settings.model import Settings

# The first threshold of Python's garbage collector. With the default of 700, a daemon with 100,000
# allocations pauses for most of a second every few seconds, and the collector finds almost nothing.
GC_THRESHOLD = 50_000


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
    """Run the daemon: keep every allocation in line until stopped.

    SIGTERM and SIGINT stop it; SIGHUP reads the files again.
    """

    def reload_settings() -> Settings:
        return settings_from(context, flags)

    gc.set_threshold(GC_THRESHOLD)
    asyncio.run(_run(settings_from(context, flags), reload_settings))


async def _run(settings: Settings, reload_settings: Callable[[], Settings]) -> None:
    await Daemon(settings, environ=os.environ, reload_settings=reload_settings).run()
