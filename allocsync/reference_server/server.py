"""Runs one reference server: starts it, stops it, and applies late updates.

The rules:
- Whatever runs by itself belongs to the server and stops with it.
- A late update that is not applied yet when the server stops is never applied, and the log says so.

Left out: the HTTP handlers (`reference_server.handlers`).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from allocsync.addresses import host_port, http_url
from allocsync.errors import AllocsyncError
from allocsync.model.cloud import Cloud
from allocsync.model.times import WallTime
from allocsync.reference_server.fault_config import parse_phases
from allocsync.reference_server.fault_timeline import FaultTimeline
from allocsync.reference_server.faults import FaultDraw
from allocsync.reference_server.handlers import Handlers
from allocsync.reference_server.request_log import Record, RequestLog
from allocsync.reference_server.store import StateFileError, Store

_SHUTDOWN_SECONDS = 0.25
_BACKLOG = 4096


class ReferenceServer:
    """One running server. Made by `start`.

    `url` is its base URL, without a slash at the end. `store` holds the clouds, `log` the requests.
    """

    def __init__(
        self, store: Store, timeline: FaultTimeline, log: RequestLog, group: asyncio.TaskGroup
    ) -> None:
        self.store = store
        self.log = log
        self.url = ""
        self._timeline = timeline
        self._group = group
        self._late_updates: dict[asyncio.Task[None], Record] = {}

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        seed: Iterable[Cloud] = (),
        *,
        faults: object = None,
        state: Path | None = None,
        log: Path | None = None,
        log_all: bool = False,
        keep_records: bool = True,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        wall: Callable[[], WallTime] = lambda: WallTime(time.time()),
    ) -> AsyncIterator["ReferenceServer"]:
        """Run a server while the context lasts.

        `seed` is ignored if the state file `state` exists. `faults` is a fault configuration, decoded from
        JSON. With `keep_records`, `records` grows without limit. `listen` is (host, port); port 0 takes a
        free one. `wall` returns the wall-clock time in seconds since the epoch, for the log and for
        `updated`.

        Raises:
            FaultConfigError: the fault configuration is wrong.
            AllocsyncError: the state file or the log cannot be used, or the address cannot be bound.
        """
        parse_phases({} if faults is None else faults)  # before any file is opened
        store = Store(seed, state=state, wall=lambda: datetime.fromtimestamp(float(wall()), UTC))
        request_log = RequestLog(log, log_all=log_all, keep_records=keep_records, wall=wall)
        try:
            async with asyncio.TaskGroup() as group:
                timeline = FaultTimeline(faults, store=store, log=request_log, group=group)
                server = cls(store, timeline, request_log, group)
                runner = web.AppRunner(
                    server._application(), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS
                )
                await runner.setup()
                try:
                    await _bind(runner, listen)
                    host, port = runner.addresses[0][:2]
                    server.url = http_url(host, port)
                    timeline.start()
                    yield server
                finally:
                    await runner.cleanup()
                    server._stop_background_work()
        except BaseExceptionGroup as error:
            if len(error.exceptions) == 1:  # a single exception is raised without the group
                raise error.exceptions[0] from None
            raise
        finally:
            try:
                store.close()
            finally:
                request_log.close()

    @property
    def clouds(self) -> Mapping[str, Cloud]:
        """The current clouds by id; a read-only view."""
        return self.store.clouds

    @property
    def resumed(self) -> bool:
        """Whether the clouds come from the state file, so that the seed was ignored."""
        return self.store.resumed

    @property
    def records(self) -> list[Record]:
        """The records of the log so far; empty without `keep_records`."""
        return self.log.records

    @property
    def fired(self) -> Mapping[str, int]:
        """How often each fault has fired, by `operation.fault`; 0 for any other key."""
        return self._timeline.fired

    def set_faults(self, faults: object) -> None:
        """Replace the whole fault configuration.

        Raises:
            FaultConfigError: the new configuration is wrong; nothing changes.
        """
        self._timeline.replace(faults)

    def set_field(self, key: str, path: str, value: str) -> None:
        """Change one field as another client.

        Raises:
            KeyError: there is no cloud with this id.
        """
        self._timeline.set_field(key, path, value)

    def remove(self, key: str) -> None:
        """Remove a cloud; reads of it are answered with 410 from now on.

        Raises:
            KeyError: there is no cloud with this id.
        """
        self.store.remove(key)

    def _application(self) -> web.Application:
        api = Handlers(self.store, self._timeline, self.log, schedule_late_update=self._schedule_late_update)
        return api.application()

    def _schedule_late_update(self, draw: FaultDraw, record: Record, body: Cloud) -> None:
        task = self._group.create_task(self._apply_late(draw, record, body))
        self._late_updates[task] = record

    async def _apply_late(self, draw: FaultDraw, record: Record, body: Cloud) -> None:
        await asyncio.sleep(draw.late_seconds)
        changed = self.store.apply(body, ignores=draw.settings.ignores)
        if changed is not None:
            record["applied_at"], record["changed"] = self.log.now(), changed
        task = asyncio.current_task()
        if task is not None:
            self._late_updates.pop(task)
        try:
            await self.store.wait_until_durable(str(body["id"]))
        except StateFileError:
            pass  # the answer is long sent; the next request that needs the disk reports it
        finally:
            self.log.write_post(record)

    def _stop_background_work(self) -> None:
        self._timeline.stop()
        for task, record in self._late_updates.items():
            task.cancel()
            self.log.write_post(record)
        self._late_updates.clear()


async def _bind(runner: web.AppRunner, listen: tuple[str, int]) -> None:
    host, port = listen
    try:
        await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        where = host_port(host, port)
        raise AllocsyncError(f"cannot listen on {where}: {why}. Use port 0 for a free port.") from error
