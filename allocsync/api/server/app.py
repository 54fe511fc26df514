"""One reference server: its routes, its knobs, its life.

The rule: a request is answered once, in one of the documented ways, unless a fault that was asked for says
otherwise. Left out: the operations themselves (`operations`).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from allocsync import __version__
from allocsync.api.server.faults import Faults, FaultsError
from allocsync.api.server.log import Record, RequestLog
from allocsync.api.server.operations import MAX_BODY_BYTES, Operations
from allocsync.api.server.store import Store
from allocsync.errors import AllocsyncError
from allocsync.planning.diff import leaf
from allocsync.planning.model import Cloud

NOT_FOUND = "Route not found"
_SHUTDOWN_SECONDS = 0.5


class ReferenceServer:
    """One running server. Made by `start`."""

    def __init__(self, store: Store, faults: Faults, log: RequestLog, group: asyncio.TaskGroup) -> None:
        self._store = store
        self._faults = faults
        self._log = log
        self._group = group
        self._writer: asyncio.Task[None] | None = None
        self._operations = Operations(store, faults, log, group)
        self.url = ""

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        clouds: Iterable[Cloud],
        *,
        faults: object | None = None,
        state: Path | None = None,
        log_file: Path | None = None,
        log_all: bool = False,
        listen: tuple[str, int] = ("127.0.0.1", 0),
    ) -> AsyncIterator["ReferenceServer"]:
        """Run a server while the context lasts; `url` says where.

        Raises:
            FaultsError: the faults are wrong.
            AllocsyncError: the state cannot be read, or the address is taken.
        """
        store, knobs = Store(clouds, state=state), Faults(faults)
        log = RequestLog(log_file, everything=log_all, wall=time.time)
        try:
            async with asyncio.TaskGroup() as group:
                server = cls(store, knobs, log, group)
                runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
                await runner.setup()
                try:
                    await _bind(runner, listen)
                    host, port = runner.addresses[0][:2]
                    server.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
                    server._write_now_and_then()
                    yield server
                finally:
                    await runner.cleanup()
                    server._stop()
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:  # one failure is raised as itself, whoever it belongs to
                raise group.exceptions[0] from None
            raise
        finally:
            log.close()

    # What it holds.

    @property
    def clouds(self) -> Mapping[str, Cloud]:
        """The truth, by id."""
        return self._store.clouds

    @property
    def resumed(self) -> bool:
        """Whether the clouds came from the state file and the seed was passed over."""
        return self._store.resumed

    @property
    def records(self) -> list[Record]:
        """The log."""
        return self._log.records

    @property
    def fired(self) -> Mapping[str, int]:
        """How often each fault has struck."""
        return self._faults.fired

    def set_faults(self, faults: object) -> None:
        """Put these faults in force in place of all others.

        Raises:
            FaultsError: they are wrong; nothing changes.
        """
        self._faults.replace(faults)
        self._write_now_and_then()

    def set_leaf(self, key: str, field: str, value: str) -> None:
        """Another client changes one leaf."""
        self._log.other(
            "writer", id=key, applied_at=self._log.wall(), changed=self._store.set_leaf(key, field, value)
        )

    def remove(self, key: str) -> None:
        """A cloud is gone: 410 from now on."""
        self._store.remove(key)

    # HTTP.

    def app(self) -> web.Application:
        """The routes; doubled slashes of a base URL that ends in one are forgiven."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        operations = self._operations
        for slash in ("", "/"):
            app.router.add_get(slash + "/allocation/{id}", operations.snapshot)
            app.router.add_post(slash + "/allocation/update", operations.update)
            app.router.add_get(slash + "/allocations", operations.list)
        app.router.add_get("/.well-known/health", self._health)
        app.router.add_get("/.well-known/version", self._version)
        app.router.add_get("/-/faults", self._get_faults)
        app.router.add_put("/-/faults", self._put_faults)
        app.router.add_delete("/-/faults", self._delete_faults)
        app.router.add_route("*", "/{rest:.*}", self._nowhere)
        return app

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response(text=f"ok:{self._store.server_id}")

    async def _version(self, _request: web.Request) -> web.Response:
        return web.Response(text=__version__)

    async def _get_faults(self, _request: web.Request) -> web.Response:
        return web.json_response({**self._faults.given, "fired": self._faults.fired})

    async def _put_faults(self, request: web.Request) -> web.Response:
        try:
            self.set_faults(await request.json())
        except (ValueError, FaultsError) as error:
            return web.Response(status=400, text=f"{error}\n")
        return await self._get_faults(request)

    async def _delete_faults(self, request: web.Request) -> web.Response:
        self.set_faults({})
        return await self._get_faults(request)

    async def _nowhere(self, _request: web.Request) -> web.Response:
        return web.Response(status=404, text=NOT_FOUND)

    # What goes on by itself.

    def _write_now_and_then(self) -> None:
        if self._writer is not None:
            self._writer.cancel()
        self._writer = self._group.create_task(self._write()) if self._faults.writer is not None else None

    async def _write(self) -> None:
        while strike := self._faults.next_write(list(self._store.clouds)):
            seconds, key, writer = strike
            await asyncio.sleep(seconds)
            cloud = self._store.clouds.get(key)
            if cloud is not None and leaf(cloud, writer.field) is not None:
                self.set_leaf(key, writer.field, writer.value)

    def _stop(self) -> None:
        self._operations.stop()
        if self._writer is not None:
            self._writer.cancel()


async def _bind(runner: web.AppRunner, listen: tuple[str, int]) -> None:
    host, port = listen
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise AllocsyncError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
