"""One running reference server: it starts, stops, and lets updates land late.

The rule: whatever goes on by itself belongs to the server and ends with it. An update that has not landed
when the server stops never does, and the log says so.
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
from allocsync.reference_server.fault_config import phases_of
from allocsync.reference_server.fault_timeline import Phases
from allocsync.reference_server.faults import Hit
from allocsync.reference_server.handlers import Api
from allocsync.reference_server.request_log import Record, RequestLog
from allocsync.reference_server.store import StateError, Store

_SHUTDOWN_SECONDS = 0.25
_BACKLOG = 4096


class ReferenceServer:
    """One running server. Made by `start`.

    `url` says where it listens, `store` holds the truth, `log` what was asked of it.
    """

    def __init__(self, store: Store, phases: Phases, log: RequestLog, group: asyncio.TaskGroup) -> None:
        self.store = store
        self.log = log
        self.url = ""
        self._phases = phases
        self._group = group
        self._landings: dict[asyncio.Task[None], Record] = {}

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
        wall: Callable[[], float] = time.time,
    ) -> AsyncIterator["ReferenceServer"]:
        """Run a server while the context lasts.

        `seed` is not used where the state file exists. `records` grows without bound unless `keep_records`
        is off. `wall` gives seconds since the epoch, for the log and for `updated`.

        Raises:
            FaultsError: the faults are wrong.
            AllocsyncError: the state or the log cannot be used, or the address is taken.
        """
        phases_of({} if faults is None else faults)  # before anything is touched
        store = Store(seed, state=state, wall=lambda: datetime.fromtimestamp(wall(), UTC))
        request_log = RequestLog(log, everything=log_all, keep=keep_records, wall=wall)
        try:
            async with asyncio.TaskGroup() as group:
                phases = Phases(faults, store=store, log=request_log, group=group)
                server = cls(store, phases, request_log, group)
                runner = web.AppRunner(
                    server._application(), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS
                )
                await runner.setup()
                try:
                    await _bind(runner, listen)
                    host, port = runner.addresses[0][:2]
                    server.url = http_url(host, port)
                    phases.begin()
                    yield server
                finally:
                    await runner.cleanup()
                    server._stop()
        except BaseExceptionGroup as error:
            if len(error.exceptions) == 1:  # one failure is raised as itself, whoever it belongs to
                raise error.exceptions[0] from None
            raise
        finally:
            try:
                store.close()
            finally:
                request_log.close()

    @property
    def clouds(self) -> Mapping[str, Cloud]:
        """The truth, by id; a view."""
        return self.store.clouds

    @property
    def resumed(self) -> bool:
        """Whether the clouds came from the state file and the seed was passed over."""
        return self.store.resumed

    @property
    def records(self) -> list[Record]:
        """The log's records so far."""
        return self.log.records

    @property
    def fired(self) -> Mapping[str, int]:
        """How often each fault has struck, under `operation.fault`; 0 for one that has not."""
        return self._phases.fired

    def set_faults(self, faults: object) -> None:
        """Put these faults in force in place of all others.

        Raises:
            FaultsError: they are wrong; nothing changes.
        """
        self._phases.replace(faults)

    def set_leaf(self, key: str, path: str, value: str) -> None:
        """Another client changes one leaf.

        Raises:
            KeyError: there is no such cloud.
        """
        self._phases.set_leaf(key, path, value)

    def remove(self, key: str) -> None:
        """A cloud is gone: 410 from now on.

        Raises:
            KeyError: there is no such cloud.
        """
        self.store.remove(key)

    def _application(self) -> web.Application:
        api = Api(self.store, self._phases, self.log, later=self._land_later)
        return api.application()

    def _land_later(self, hit: Hit, record: Record, body: Cloud) -> None:
        landing = self._group.create_task(self._land(hit, record, body))
        self._landings[landing] = record

    async def _land(self, hit: Hit, record: Record, body: Cloud) -> None:
        await asyncio.sleep(hit.late_seconds)
        changed = self.store.apply(body, ignores=hit.knobs.ignores)
        if changed is not None:
            record["applied_at"], record["changed"] = self.log.now(), changed
        task = asyncio.current_task()
        if task is not None:
            self._landings.pop(task)
        try:
            await self.store.durable(str(body["id"]))
        except StateError:
            pass  # nobody is told: the next request that needs the disk is
        finally:
            self.log.post(record)

    def _stop(self) -> None:
        self._phases.end()
        for landing, record in self._landings.items():
            landing.cancel()
            self.log.post(record)
        self._landings.clear()


async def _bind(runner: web.AppRunner, listen: tuple[str, int]) -> None:
    host, port = listen
    try:
        await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        where = host_port(host, port)
        raise AllocsyncError(f"cannot listen on {where}: {why}. Port 0 takes a free one.") from error
