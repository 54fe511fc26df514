"""The process of the daemon, from its start to its end.

It starts in this order: the settings are valid, the state directory is locked, the journal is open, the
listener is bound, the files are watched, the controller runs. systemd is told READY once the API has
answered or failed, or nothing is declared; at the latest after `web.health.START_GRACE_SECONDS`. SIGTERM and
SIGINT stop the controller, which waits for requests in flight for a limited time. SIGHUP reads the files, the
secrets and the certificates again; secrets and certificates are also read once a minute, because nothing
announces their renewal.

The rule: everything runs in one task group, so that no task outlives the daemon and no failure is lost.

Left out: every decision about allocations (`reconcile`), how the parts are built (`runtime.wiring`), and
what a command prints (`cli`).
"""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TextIO

from prometheus_client import CollectorRegistry
from structlog.typing import FilteringBoundLogger

from allocsync.addresses import http_url
from allocsync.api.client import AllocationClient
from allocsync.api.discovery import AUTO
from allocsync.desired.loader import Loaded
from allocsync.desired.watcher import DirectoryWatch
from allocsync.errors import DesiredError, SettingsError
from allocsync.journal.database import NAME as JOURNAL_NAME
from allocsync.journal.writer import Journal
from allocsync.model.condition import Condition
from allocsync.model.intent_record import Restored
from allocsync.model.times import WallTime
from allocsync.planning.change_limit import DIGITS
from allocsync.reconcile.controller import DRAIN_SECONDS, Controller
from allocsync.reconcile.events import Observer, emit_to_all
from allocsync.reconcile.status.controller_status import ControllerStatus
from allocsync.runtime import listen_token, state_lock
from allocsync.runtime.clock import SystemClock
from allocsync.runtime.systemd import Notifier
from allocsync.runtime.wiring import build_controller, build_locator, load_credentials, open_journal
from allocsync.settings.model import Settings
from allocsync.telemetry import log_setup
from allocsync.telemetry.log_events import LogObserver
from allocsync.telemetry.metrics import Metrics
from allocsync.web import health
from allocsync.web.control import Control
from allocsync.web.serializers import RejectedFiles
from allocsync.web.server import Pages, make_app, serve_web

STATUS_SECONDS = 5.0
STARTING_SECONDS = 0.1
RENEW_SECONDS = 60.0
JOURNAL_SECONDS = 3600.0
CLOSE_SECONDS = 10.0  # from the end of the drain to the end of the process


class Daemon:
    """One run of the daemon. It must be created and run inside an event loop."""

    def __init__(
        self,
        settings: Settings,
        *,
        environ: Mapping[str, str],
        stream: TextIO = sys.stderr,
        observers: Iterable[Observer] | None = None,
        reload_settings: Callable[[], Settings] | None = None,
    ) -> None:
        """Prepare a run; nothing starts before `run`.

        `observers`, if given, replace the log of events; of the daemon's own log lines only errors are then
        written. `reload_settings` loads the settings again from their sources; without it they never
        change.

        Raises:
            SettingsError: a certificate or key file cannot be used.
        """
        self.settings = settings
        self._reload_settings = reload_settings
        self._credentials = load_credentials(settings)
        self._api: AllocationClient | None = None
        self._reported_changes: frozenset[str] = frozenset()  # settings whose change was logged
        self._reported_errors: list[str] = []  # mistakes in settings that were logged
        self._rejected_files: RejectedFiles | None = None
        self._clock = SystemClock()
        self._logger: FilteringBoundLogger = log_setup.configure(
            settings.log_format, settings.log_level, stream, environ=environ, wall=self._clock.wall
        )
        self._errors_only = observers is not None
        self._registry = CollectorRegistry()
        self._metrics = Metrics(self._registry)
        self._log_observer = LogObserver(self._logger, wall=self._clock.wall, now=self._clock.now)
        self._observer = emit_to_all(
            [self._metrics, *([self._log_observer] if observers is None else observers)]
        )
        self._notifier = Notifier(environ)
        self._watch = DirectoryWatch(
            settings.desired,
            default_mode=settings.mode,
            on_change=self._on_change_expected,
            on_loaded=self._on_loaded,
            on_rejected=self._on_rejected,
            wall=self._clock.wall,
        )
        self._started_at = self._clock.now()
        self.address: tuple[str, int] | None = None
        self.bound = asyncio.Event()
        self.controller: Controller | None = None

    # The run.

    async def run(self) -> None:
        """Run until `stop` is called or a signal arrives.

        Raises:
            SettingsError: the listener cannot be bound, or the state directory cannot be used.
            AllocsyncError: another process has locked the state directory or uses the listener's port, or the
                journal cannot be opened.
        """
        lock = state_lock.acquire(self.settings.state_dir, command="run")
        with log_setup.redirect_library_logs(self._logger), lock as self._publish_address:
            url = None if self.settings.api_url == AUTO else self.settings.api_url
            async with (
                open_journal(self.settings, self._clock) as (journal, restored),
                AllocationClient.open(url, credentials=self._credentials) as api,
            ):
                await self._run(api, journal, restored)

    async def _run(self, api: AllocationClient, journal: Journal, restored: Restored) -> None:
        self._api = api
        self.controller = controller = build_controller(
            self.settings,
            api=api,
            clock=self._clock,
            observer=self._observer,
            journal=journal,
            restored=restored,
        )
        journal.on_change = self._on_journal_changed
        if restored.gap:
            self._log_event(
                "journal_gap", level="error", problem=restored.gap, note="no updates are sent for a while"
            )
        self._metrics.follow(controller.status)
        pages = Pages(
            registry=self._registry,
            status=controller.status,
            api=controller.api_status,
            allocations=controller.allocations,
            explain=controller.explain,
            live=lambda: health.check_live(controller.status()),
            ready=lambda: health.check_ready(
                controller.status(),
                up_seconds=self._clock.now() - self._started_at,
                journal_problem=journal.problem,
            ),
            rejection=lambda: self._rejected_files,
            files_read_at=lambda: self._watch.read_at,
        )
        self._token = listen_token.load_or_create(self.settings.state_dir, self.settings.listen_token)
        control = Control(
            token=lambda: self._token,
            sync=controller.sync,
            reload=self.reload,
            approve=controller.rollout.approve,
            retry=controller.retry,
            pauses=controller.pauses,
            flush=journal.flush,
        )
        async with serve_web(self.settings.listen, make_app(pages, control)) as self.address:
            self.bound.set()
            host, port = self.address
            self._publish_address(http_url(host, port))
            self._log_event("listening", host=host, port=port)
            async with self._handle_signals(), asyncio.TaskGroup() as group:
                background = [
                    self._follow_files(controller),
                    self._notify_systemd(controller),
                    self._renew_periodically(),
                    self._tick(journal),
                ]
                if self.settings.api_url == AUTO:
                    background.append(build_locator(self.settings).follow(api.set_base_url, self._log_event))
                tasks = [group.create_task(each) for each in background]
                await controller.run()
                for task in tasks:
                    task.cancel()

    def stop(self) -> None:
        """Tell the controller to stop; returns at once, and `run` returns after a limited time."""
        self._notifier.stopping("draining", within_seconds=DRAIN_SECONDS + CLOSE_SECONDS)
        if self.controller is not None:
            self.controller.stop()

    def reload(self) -> WallTime:
        """Read the secrets and the certificates again, and make the watch read the files again.

        Returns when it was asked (Unix seconds): the files are taken over once `files_read_at` of the status
        is not earlier. They are read after this returns: READY to systemd does not mean that they are loaded.
        """
        asked_at = self._clock.wall()
        self._notifier.reloading(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
        self._watch.reload()
        self._log_event("reloading", note="desired state and secrets are read again")
        self._reported_errors = []  # mistakes that remain are logged again
        self._renew()
        self._notifier.ready()
        return asked_at

    @asynccontextmanager
    async def _handle_signals(self) -> AsyncIterator[None]:
        handlers = {signal.SIGTERM: self.stop, signal.SIGINT: self.stop, signal.SIGHUP: self.reload}
        running = asyncio.get_running_loop()
        for number, handler in handlers.items():
            running.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                running.remove_signal_handler(number)

    async def _follow_files(self, controller: Controller) -> None:
        while True:
            controller.activate(await self._watch.next())

    async def _renew_periodically(self) -> None:
        while True:
            self._renew()
            await asyncio.sleep(RENEW_SECONDS)

    def _renew(self) -> None:
        """Read the settings again. Secrets and certificates take effect at once, others after a restart."""
        if self._reload_settings is None or self._api is None:
            return
        try:
            settings = self._reload_settings()
            credentials = load_credentials(settings)
            token = listen_token.load_or_create(self.settings.state_dir, settings.listen_token)
        except SettingsError as error:
            lines = str(error).splitlines()
            for line in lines if lines != self._reported_errors else ():
                self._log_event(
                    "settings_rejected",
                    level="error",
                    problem=line,
                    note="the previous settings stay in effect",
                )
            self._reported_errors = lines
            self._metrics.settings_reread(successful=False, journal_bytes=self._journal_bytes())
            return
        self._metrics.settings_reread(successful=True, journal_bytes=self._journal_bytes())
        self._reported_errors = []
        changed = settings.differences(self.settings)
        if changed != self._reported_changes:
            self._reported_changes = changed
            if changed:
                self._log_event(
                    "settings_changed", level="warning", settings=sorted(changed), note="restart to use them"
                )
        if token != self._token:
            self._token = token
            self._log_event("listen_token_renewed")
        if credentials != self._credentials:
            self._credentials = credentials
            self._api.set_credentials(credentials)
            self._log_event("credentials_renewed")

    def _journal_bytes(self) -> int:
        """Size of the journal's files."""
        size = 0
        for file in self.settings.state_dir.glob(f"{JOURNAL_NAME}*"):
            with suppress(OSError):  # SQLite removed it meanwhile
                size += file.stat().st_size
        return size

    async def _notify_systemd(self, controller: Controller) -> None:
        """Send systemd the counts, READY once, and WATCHDOG whenever the controller makes progress."""
        is_ready_sent = False
        while True:
            status = controller.status()
            up_seconds = self._clock.now() - self._started_at
            rejected = self._rejected_files is not None
            if (
                not is_ready_sent
                and health.check_started(status, up_seconds=up_seconds, files_rejected=rejected).ok
            ):
                is_ready_sent = True
                self._notifier.ready()
                self._log_event("ready")
            self._notifier.status(summarise(status, rejected=rejected))
            if health.check_live(status).ok:
                self._notifier.watchdog()
            self._log_observer.tick()
            interval = min(STATUS_SECONDS, self._notifier.watchdog_interval_seconds or STATUS_SECONDS)
            await asyncio.sleep(interval if is_ready_sent else STARTING_SECONDS)

    async def _tick(self, journal: Journal) -> None:
        """Once an hour, remove old rows from the journal and log its head.

        The logged head proves which rows existed; the hash chain alone cannot show that its end was removed.
        """
        while True:
            head = await journal.enforce_retention()
            if head is not None:
                self._log_event("journal_head", sequence=head.sequence, hash=head.hash.hex())
            elif journal.damage:
                self._log_event(
                    "journal_damaged", level="error", problem=journal.damage, note="no old rows are removed"
                )
            await asyncio.sleep(JOURNAL_SECONDS)

    # What other parts report.

    def _on_journal_changed(self, problem: str | None) -> None:
        self._metrics.record_journal_state(works=problem is None)
        if problem is not None:
            self._log_event(
                "journal_unavailable", level="error", problem=problem, note="no updates are sent meanwhile"
            )
            return
        self._log_event("journal_available")
        if self.controller is not None:
            self.controller.journal_works()

    def _on_change_expected(self) -> None:
        if self.controller is not None:
            self.controller.rollout.expect_edits()

    def _on_loaded(self, loaded: Loaded) -> None:
        self._rejected_files = None
        self._metrics.desired_loaded(at=self._clock.wall(), quarantined=len(loaded.revision.quarantined))
        for problem in loaded.problems:
            self._log_event("desired_problem", level="error", problem=str(problem))

    def _on_rejected(self, error: DesiredError) -> None:
        since = self._rejected_files.since if self._rejected_files else self._clock.wall()
        self._rejected_files = RejectedFiles(since, error.problems)
        self._metrics.desired_rejected()
        for problem in error.problems:
            self._log_event("desired_rejected", level="error", problem=str(problem))

    def _log_event(self, event: str, *, level: str = "info", **fields: object) -> None:
        if not self._errors_only or level == "error":
            getattr(self._logger, level)(event, **fields)


def summarise(status: ControllerStatus, *, rejected: bool) -> str:
    """Return the line that `systemctl status` shows: what is wrong first, then how many are in sync.

    `rejected`: the files are rejected.
    """
    total = sum(status.conditions.values())
    others = [
        f"{number:,} {name.value}"
        for name, number in status.conditions.items()
        if number and name is not Condition.IN_SYNC
    ]
    in_sync = f"{status.conditions[Condition.IN_SYNC]:,} of {total:,} in sync"
    parts = []
    if status.api.reachable is False and status.api.since is not None:
        parts.append(f"API unreachable since {log_setup.rfc3339(status.api.since)}")
        in_sync += " when last confirmed"
    if rejected:
        parts.append("files rejected")
    if status.awaiting_reason and status.revision:
        parts.append(f"revision {status.revision[:DIGITS]} awaits approval")
    if total:
        parts.append(f"{in_sync} ({', '.join(others)})" if others else in_sync)
    elif not rejected:
        parts.append("nothing declared")
    return "; ".join(parts)
