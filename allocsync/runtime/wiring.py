"""The composition root: the only module that builds and connects the parts, for the daemon and for commands.

Left out: the life of the process (`runtime.daemon`), and what a command prints (`cli`).
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from allocsync.api.backoff import FullJitter
from allocsync.api.client import AllocationClient
from allocsync.api.credentials import Credentials
from allocsync.api.discovery import AUTO, SERVER_ID_FILE_NAME, Locator
from allocsync.journal.database import JournalFile
from allocsync.journal.writer import Journal
from allocsync.model.intent_record import Restored
from allocsync.planning.change_limit import ChangeLimit
from allocsync.planning.write_windows import WriteWindows, parse_windows
from allocsync.reconcile.controller import Controller
from allocsync.reconcile.events import Observer
from allocsync.reconcile.operation import Operation
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.ports import Api, Clock
from allocsync.reconcile.resync import BulkPolicy
from allocsync.reconcile.scheduling.concurrency import MAX_LIMIT
from allocsync.runtime.clock import SystemClock
from allocsync.settings.model import Settings

T = TypeVar("T")
READS = MAX_LIMIT[Operation.READ]


@asynccontextmanager
async def open_api(settings: Settings) -> AsyncIterator[AllocationClient]:
    """Open the API client that the settings describe, while the context lasts.

    Raises:
        NoServerError: `api_url` is auto, and no server is found, or a different one than before.
        SettingsError: a certificate cannot be used.
    """
    url = settings.api_url
    if url == AUTO:
        url = await build_locator(settings).find()
    async with AllocationClient.open(url, credentials=load_credentials(settings)) as client:
        yield client


def build_locator(settings: Settings) -> Locator:
    """Build the locator that finds the server for `api_url: auto`.

    It remembers the server in the state directory if that exists.
    """
    has_state = os.path.isdir(settings.state_dir)  # noqa: PTH112 - also False if this user may not look into its parent
    return Locator(
        home=Path.home(), server_id_file=settings.state_dir / SERVER_ID_FILE_NAME if has_state else None
    )


def load_credentials(settings: Settings) -> Credentials:
    """Load the credentials that the settings name; the files are read now.

    Raises:
        SettingsError: a file cannot be used.
    """
    return Credentials(
        token=settings.api_token.get_secret_value() if settings.api_token else None,
        application_id=settings.application_id.get_secret_value() if settings.application_id else None,
        ca_file=settings.api_ca_file,
        certificate_file=settings.api_certificate_file,
        key_file=settings.api_key_file,
    )


def build_change_limit(settings: Settings) -> ChangeLimit:
    """Build the change limit that the settings describe."""
    return ChangeLimit(percent=settings.max_changes_percent, canary=settings.canary)


def build_controller(
    settings: Settings,
    *,
    api: Api,
    clock: Clock,
    observer: Observer,
    journal: Journal,
    restored: Restored,
    defaults: Parameters | None = None,
) -> Controller:
    """Build the controller that the settings describe; `defaults` has what no setting changes."""
    rules = replace(
        defaults or Parameters(),
        settle_seconds=settings.settle_seconds,
        writes_per_hour=settings.max_writes_per_hour,
        windows=parse_windows(settings.write_windows) if settings.write_windows else WriteWindows(),
    )
    if settings.resync_seconds is not None:
        seconds = settings.resync_seconds
        rules = replace(rules, resync_bulk_seconds=seconds, resync_each_seconds=seconds)
    return Controller(
        api=api,
        clock=clock,
        journal=journal,
        restored=restored,
        observer=observer,
        rules=rules,
        change_limit=build_change_limit(settings),
        limits={slot: settings.concurrency_max or MAX_LIMIT[slot] for slot in Operation},
        backoff=FullJitter(uniform=clock.uniform).delay_seconds,
        rejection_backoff=FullJitter(
            uniform=clock.uniform, max_seconds=rules.rejected_max_seconds
        ).delay_seconds,
        bulk=BulkPolicy(settings.bulk),
    )


@asynccontextmanager
async def open_journal(settings: Settings, clock: SystemClock) -> AsyncIterator[tuple[Journal, Restored]]:
    """Open the journal of the state directory while the context lasts; yields it and its restored content.

    All access to its file is made in one thread of its own.

    Raises:
        AllocsyncError: the journal cannot be opened.
    """
    running = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="journal") as thread:

        def execute(work: Callable[[], T]) -> asyncio.Future[T]:
            return running.run_in_executor(thread, work)

        file, restored = await execute(lambda: JournalFile.open(settings.state_dir, wall=clock.wall))
        try:
            async with Journal.running(file, execute=execute, now=clock.now, wall=clock.wall) as journal:
                yield journal, restored
        finally:
            await execute(file.close)
