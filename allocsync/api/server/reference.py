"""One running reference server: it starts, stops, lets updates land late, and lets another client write.

The rule: whatever goes on by itself belongs to the server and ends with it. An update that has not landed
when the server stops never does, and the log says so.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from allocsync.api.server.app import Api
from allocsync.api.server.faults import Faults, Hit, Writer
from allocsync.api.server.log import Record, RequestLog
from allocsync.api.server.store import StateError, Store
from allocsync.errors import AllocsyncError
from allocsync.planning.model import Cloud

_SHUTDOWN_SECONDS = 0.25
_BACKLOG = 4096


class ReferenceServer:
    """One running server. Made by `start`.

    `url` says where it listens, `store` holds the truth, `log` what was asked of it.
    """

    def __init__(self, store: Store, faults: Faults, log: RequestLog, group: asyncio.TaskGroup) -> None:
        self.store = store
        self.log = log
        self.url = ""
        self._faults = faults
        self._group = group
        self._writing: asyncio.Task[None] | None = None
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
    ) -> AsyncIterator["ReferenceServer"]:
        """Run a server while the context lasts.

        `seed` is not used where the state file exists. `records` grows without bound unless `keep_records`
        is off.

        Raises:
            FaultsError: the faults are wrong.
            AllocsyncError: the state or the log cannot be used, or the address is taken.
        """
        knobs = Faults(faults)
        store = Store(seed, state=state)
        request_log = RequestLog(log, everything=log_all, keep=keep_records, wall=time.time)
        try:
            async with asyncio.TaskGroup() as group:
                server = cls(store, knobs, request_log, group)
                runner = web.AppRunner(
                    server._application(), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS
                )
                await runner.setup()
                try:
                    await _bind(runner, listen)
                    host, port = runner.addresses[0][:2]
                    server.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
                    server._restart_writer()
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
        return self._faults.fired

    def set_faults(self, faults: object) -> None:
        """Put these faults in force in place of all others.

        Raises:
            FaultsError: they are wrong; nothing changes.
        """
        self._faults.replace(faults)
        self._restart_writer()

    def set_leaf(self, key: str, path: str, value: str) -> None:
        """Another client changes one leaf.

        Raises:
            KeyError: there is no such cloud.
        """
        changed = self.store.set_leaf(key, path, value)
        if changed:
            self.log.other("writer", id=key, applied_at=self.log.now(), changed=changed)

    def remove(self, key: str) -> None:
        """A cloud is gone: 410 from now on.

        Raises:
            KeyError: there is no such cloud.
        """
        self.store.remove(key)

    def _application(self) -> web.Application:
        api = Api(self.store, self._faults, self.log, set_faults=self.set_faults, later=self._land_later)
        return api.application()

    def _land_later(self, hit: Hit, record: Record, body: Cloud) -> None:
        landing = self._group.create_task(self._land(hit.late_seconds, record, body))
        self._landings[landing] = record

    async def _land(self, seconds: float, record: Record, body: Cloud) -> None:
        await asyncio.sleep(seconds)
        changed = self.store.apply(body)
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

    def _restart_writer(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
        writer = self._faults.writer
        self._writing = None if writer is None else self._group.create_task(self._write(writer))

    async def _write(self, writer: Writer) -> None:
        while True:
            await asyncio.sleep(self._faults.seconds_to_next_write(writer))
            key = self._victim(writer)
            if key is not None:
                self._faults.fired["writer.write"] += 1
                self.set_leaf(key, writer.field, writer.value)

    def _victim(self, writer: Writer) -> str | None:
        """A cloud that has the writer's leaf: a new url without a status would be no AllocationCloud."""
        keys = list(self.clouds)
        first = self._faults.choose(len(keys)) if keys else 0
        turned = (*keys[first:], *keys[:first])
        return next((key for key in turned if self.store.has_leaf(key, writer.field)), None)

    def _stop(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
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
        raise AllocsyncError(f"cannot listen on {host}:{port}: {why}. Port 0 takes a free one.") from error
