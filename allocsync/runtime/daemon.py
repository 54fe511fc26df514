"""The life of the daemon's process.

Start: settings hold, the listener is bound, the files are watched, the loop runs; systemd is told READY once
the API was heard of. SIGTERM and SIGINT stop the loop, which drains in bounded time; SIGHUP reads the files
again. Secrets and certificates are read again then and once a minute: whoever renews them tells nobody.
Everything runs in one task group, so that nothing outlives it and no failure goes unseen.

Left out: every decision (`reconcile`), what is built of which parts (`composition`), what a command prints.
"""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TextIO

from prometheus_client import CollectorRegistry
from structlog.typing import FilteringBoundLogger

from allocsync.addresses import http_url
from allocsync.api.client import AllocationClient
from allocsync.api.discovery import AUTO
from allocsync.desired.loader import Loaded
from allocsync.desired.watcher import DirectoryWatch
from allocsync.errors import DesiredError, SettingsError
from allocsync.journal.writer import Journal
from allocsync.model.condition import Condition
from allocsync.model.intent_record import Restored
from allocsync.reconcile.controller import Loop
from allocsync.reconcile.events import Observer, emit_to_all
from allocsync.runtime import listen_token, state_lock
from allocsync.runtime.clock import SystemClock
from allocsync.runtime.systemd import Notifier
from allocsync.runtime.wiring import build_loop, credentials_of, locator_of, open_journal
from allocsync.settings.model import Settings
from allocsync.telemetry import log_setup
from allocsync.telemetry.log_events import LogObserver
from allocsync.telemetry.metrics import Metrics
from allocsync.web import health
from allocsync.web.control import Orders
from allocsync.web.serializers import Rejection
from allocsync.web.server import Pages, make_app, serve_web

STATUS_SECONDS = 5.0
STARTING_SECONDS = 0.1
RENEW_SECONDS = 60.0
TEND_SECONDS = 3600.0


class Daemon:
    """One run of the daemon. Built and run inside an event loop."""

    def __init__(
        self,
        settings: Settings,
        *,
        environ: Mapping[str, str],
        stream: TextIO = sys.stderr,
        observers: Iterable[Observer] | None = None,
        reread: Callable[[], Settings] | None = None,
    ) -> None:
        """`observers` takes the place of the log when it is given: the demo tells its own story.

        `reread` loads the settings from where they came from.
        """
        self.settings = settings
        self._reread = reread
        self._credentials = credentials_of(settings)
        self._api: AllocationClient | None = None
        self._told: frozenset[str] = frozenset()  # settings of which a change was told
        self._wrong: list[str] = []  # what was told of settings that do not hold
        self._rejection: Rejection | None = None
        self._clock = SystemClock()
        self._logger: FilteringBoundLogger = log_setup.configure(
            settings.log_format, settings.log_level, stream, environ=environ, wall=self._clock.wall
        )
        self._quiet = observers is not None
        self._registry = CollectorRegistry()
        self._metrics = Metrics(self._registry)
        self._log = LogObserver(self._logger, wall=self._clock.wall, now=self._clock.now)
        self._observer = emit_to_all([self._metrics, *([self._log] if observers is None else observers)])
        self._notifier = Notifier(environ)
        self._watch = DirectoryWatch(
            settings.desired,
            default_mode=settings.mode,
            on_change=self._expect,
            on_loaded=self._loaded,
            on_rejected=self._rejected,
        )
        self._started_at = self._clock.now()
        self.address: tuple[str, int] | None = None
        self.bound = asyncio.Event()
        self.loop: Loop | None = None

    # Running.

    async def run(self) -> None:
        """Run until `stop` or a signal.

        Raises:
            SettingsError: the listener cannot be bound, or the state directory cannot be used or written to.
            AllocsyncError: somebody else holds the state directory.
        """
        lock = state_lock.held(self.settings.state_dir, command="run")
        with log_setup.library_lines(self._logger), lock as self._sign:
            url = None if self.settings.api_url == AUTO else self.settings.api_url
            async with (
                open_journal(self.settings, self._clock) as (journal, restored),
                AllocationClient.open(url, credentials=self._credentials) as api,
            ):
                await self._run(api, journal, restored)

    async def _run(self, api: AllocationClient, journal: Journal, restored: Restored) -> None:
        self._api = api
        self.loop = loop = build_loop(
            self.settings,
            api=api,
            clock=self._clock,
            observer=self._observer,
            journal=journal,
            restored=restored,
        )
        journal.on_change = self._journal_changed
        if restored.gap:
            self._say("journal_gap", level="error", problem=restored.gap, note="nothing is sent for a while")
        self._metrics.follow(loop.status)
        pages = Pages(
            registry=self._registry,
            status=loop.status,
            allocations=loop.allocations,
            explain=loop.explain,
            live=lambda: health.live(loop.status()),
            ready=lambda: health.ready(
                loop.status(),
                up_seconds=self._clock.now() - self._started_at,
                journal_problem=journal.problem,
            ),
            rejection=lambda: self._rejection,
        )
        self._token = listen_token.held(self.settings.state_dir, self.settings.listen_token)
        orders = Orders(
            token=lambda: self._token,
            sync=loop.sync,
            reload=self.reload,
            approve=loop.adoption.approve,
            pauses=loop.pauses,
        )
        async with serve_web(self.settings.listen, make_app(pages, orders)) as self.address:
            self.bound.set()
            host, port = self.address
            self._sign(http_url(host, port))
            self._say("listening", host=host, port=port)
            async with self._signals(), asyncio.TaskGroup() as group:
                around = [
                    self._follow(loop),
                    self._notify(loop),
                    self._renew_now_and_then(),
                    self._tend(journal),
                ]
                if self.settings.api_url == AUTO:
                    around.append(locator_of(self.settings).follow(api.set_base_url, self._say))
                tasks = [group.create_task(each) for each in around]
                await loop.run()
                for task in tasks:
                    task.cancel()

    def stop(self) -> None:
        """End the run in bounded time."""
        self._notifier.stopping("draining")
        if self.loop is not None:
            self.loop.stop()

    def reload(self) -> None:
        """Read the files again."""
        self._notifier.reloading(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
        self._watch.reload()
        self._say("reloading", note="desired state and secrets are read again")
        self._wrong = []  # whoever asks is told again
        self._renew()
        self._notifier.ready()

    @asynccontextmanager
    async def _signals(self) -> AsyncIterator[None]:
        handlers = {signal.SIGTERM: self.stop, signal.SIGINT: self.stop, signal.SIGHUP: self.reload}
        running = asyncio.get_running_loop()
        for number, handler in handlers.items():
            running.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                running.remove_signal_handler(number)

    async def _follow(self, loop: Loop) -> None:
        while True:
            loop.adopt(await self._watch.next())

    async def _renew_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            self._renew()

    def _renew(self) -> None:
        """Read the settings again: secrets and certificates count from now on, others after a restart."""
        if self._reread is None or self._api is None:
            return
        try:
            settings = self._reread()
            credentials = credentials_of(settings)
            token = listen_token.held(self.settings.state_dir, settings.listen_token)
        except SettingsError as error:
            lines = str(error).splitlines()
            for line in lines if lines != self._wrong else ():
                self._say("settings_rejected", level="error", problem=line, note="what was read before stays")
            self._wrong = lines
            return
        self._wrong = []
        changed = settings.differences(self.settings)
        if changed != self._told:
            self._told = changed
            if changed:
                self._say(
                    "settings_changed", level="warning", settings=sorted(changed), note="restart to use them"
                )
        if token != self._token:
            self._token = token
            self._say("listen_token_renewed")
        if credentials != self._credentials:
            self._credentials = credentials
            self._api.set_credentials(credentials)
            self._say("credentials_renewed")

    async def _notify(self, loop: Loop) -> None:
        """Tell systemd: READY once, then the counts, and the watchdog as long as the loop makes progress."""
        told_ready = False
        while True:
            status = loop.status()
            if (
                not told_ready
                and health.started(status, up_seconds=self._clock.now() - self._started_at).holds
            ):
                told_ready = True
                self._notifier.ready()
                self._say("ready")
            self._notifier.status(_one_line(status.conditions))
            if health.live(status).holds:
                self._notifier.watchdog()
            self._log.tend()
            interval = min(STATUS_SECONDS, self._notifier.watchdog_interval_seconds or STATUS_SECONDS)
            await asyncio.sleep(interval if told_ready else STARTING_SECONDS)

    async def _tend(self, journal: Journal) -> None:
        """Cut off what is old now and then, and tell the head: what the chain alone cannot show it can."""
        while True:
            head = await journal.tend()
            if head is not None:
                self._say("journal_head", sequence=head.sequence, hash=head.hash.hex())
            elif journal.damage:
                self._say("journal_damaged", level="error", problem=journal.damage, note="nothing is cut off")
            await asyncio.sleep(TEND_SECONDS)

    # What is said.

    def _journal_changed(self, problem: str | None) -> None:
        self._metrics.journal_works(works=problem is None)
        if problem is not None:
            self._say(
                "journal_unavailable", level="error", problem=problem, note="nothing is sent without it"
            )
            return
        self._say("journal_available")
        if self.loop is not None:
            self.loop.journal_works()

    def _expect(self) -> None:
        if self.loop is not None:
            self.loop.adoption.expect()

    def _loaded(self, loaded: Loaded) -> None:
        self._rejection = None
        self._metrics.desired_loaded(at=self._clock.wall(), quarantined=len(loaded.generation.quarantined))
        for problem in loaded.problems:
            self._say("desired_problem", level="error", problem=str(problem))

    def _rejected(self, error: DesiredError) -> None:
        since = self._rejection.since if self._rejection else self._clock.wall()
        self._rejection = Rejection(since, error.problems)
        self._metrics.desired_rejected()
        for problem in error.problems:
            self._say("desired_rejected", level="error", problem=str(problem))

    def _say(self, event: str, *, level: str = "info", **fields: object) -> None:
        if not self._quiet or level == "error":
            getattr(self._logger, level)(event, **fields)


def _one_line(conditions: Mapping[Condition, int]) -> str:
    total = sum(conditions.values())
    rest = [f"{number:,} {name.value}" for name, number in conditions.items() if number]
    return f"{conditions[Condition.IN_SYNC]:,} of {total:,} in sync ({', '.join(rest) or 'nothing declared'})"
