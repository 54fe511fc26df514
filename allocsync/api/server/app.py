"""The HTTP of the reference server: two operations, the list, health and version, and the knobs.

The rules: a request is answered once, in one of the documented ways, unless a fault that was asked for says
otherwise; what a fault does is done before or after the store is touched, never half. Work that goes on after
a 504 belongs to the server and ends with it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

from aiohttp import web

from allocsync import __version__
from allocsync.api import wire
from allocsync.api.server.faults import Faults, FaultsError, Hit
from allocsync.api.server.log import Record, RequestLog
from allocsync.api.server.store import Store, UnusableError
from allocsync.errors import AllocsyncError
from allocsync.planning.model import Cloud, Json

MAX_BODY_BYTES = 1024 * 1024
GONE = "Cloud not found."
TIMEOUT = "Gateway Timeout, request timed out."
NOT_FOUND = "Route not found"
_SHUTDOWN_SECONDS = 0.5


class _ResetError(Exception):
    """The connection was cut on purpose: there is no answer."""


class ReferenceServer:
    """One running server. Made by `start`."""

    def __init__(self, store: Store, faults: Faults, log: RequestLog, group: asyncio.TaskGroup) -> None:
        self._store = store
        self._faults = faults
        self._log = log
        self._group = group
        self._writer: asyncio.Task[None] | None = None
        self._late: set[asyncio.Task[None]] = set()
        self._arrivals = 0
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
        for slash in ("", "/"):
            app.router.add_get(slash + "/allocation/{id}", self._snapshot)
            app.router.add_post(slash + "/allocation/update", self._update)
            app.router.add_get(slash + "/allocations", self._list)
        app.router.add_get("/.well-known/health", self._health)
        app.router.add_get("/.well-known/version", self._version)
        app.router.add_get("/-/faults", self._get_faults)
        app.router.add_put("/-/faults", self._put_faults)
        app.router.add_delete("/-/faults", self._delete_faults)
        app.router.add_route("*", "/{rest:.*}", self._nowhere)
        return app

    async def _snapshot(self, request: web.Request) -> web.Response:
        key, received = request.match_info["id"], self._log.wall()
        hit = self._faults.throw("snapshot")
        answer: int | str = "reset"
        try:
            await self._befall(request, hit, op="snapshot", key=key)
            cloud = self._store.clouds.get(key)
            status = 504 if hit.kind == "timeout" else 410 if cloud is None else 200
            answer = status
            if hit.kind == "timeout" or cloud is None:
                return web.Response(status=status, text=TIMEOUT if hit.kind else GONE)
            return _json(cloud)
        except _ResetError:
            return web.Response()
        finally:
            self._log.other(
                "snapshot", id=key, received_at=received, answered_at=self._log.wall(), answer=answer
            )

    async def _list(self, request: web.Request) -> web.StreamResponse:
        received = self._log.wall()
        hit = self._faults.throw("list")
        try:
            await self._befall(request, hit, op="list", key=None)
        except _ResetError:
            return web.Response()
        if hit.kind == "timeout":
            return web.Response(status=504, text=TIMEOUT)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"iterable":[')
        separator = b""
        clouds = list(self._store.clouds.values())
        for start in range(0, len(clouds), 500):
            rows = clouds[start : start + 500]
            await response.write(separator + b",".join(wire.dumps(cloud) for cloud in rows))
            separator = b","
        await response.write(b"]}")
        await response.write_eof()
        self._log.other("list", received_at=received, answered_at=self._log.wall(), answer=200)
        return response

    async def _update(self, request: web.Request) -> web.Response:
        received = self._log.wall()
        self._arrivals += 1
        number = self._arrivals
        data, body, problem = await self._body(request)
        record: Record = {
            "n": number,
            "id": str(body["id"]) if body is not None else None,
            "received_at": received,
            "applied_at": None,
            "changed": {},
            "body_sha256": sha256(data).hexdigest(),
            "answer": 500,
            "answered_at": None,
            "body": body,
        }
        if body is None:
            self._answered(record, 500)
            return web.Response(status=500, text=f"Internal Server Error: {problem}")
        hit = self._faults.throw("update")
        try:
            return await self._updated(request, hit, record, body)
        except _ResetError:
            self._answered(record, "reset")
            return web.Response()

    async def _updated(self, request: web.Request, hit: Hit, record: Record, body: Cloud) -> web.Response:
        if hit.kind in ("timeout_after", "reset_after"):
            self._apply(record, body)
        await self._befall(request, hit, op="update", key=str(record["id"]), number=int(record["n"]))
        if hit.kind in ("timeout_before", "timeout_after"):
            self._answered(record, 504)
            return web.Response(status=504, text=TIMEOUT)
        if hit.kind == "timeout_late":
            record |= {"answer": 504, "answered_at": self._log.wall()}
            late = self._group.create_task(
                self._apply_late(hit.knobs.seconds.get("late_seconds", 0.0), record, body)
            )
            self._late.add(late)
            late.add_done_callback(self._late.discard)
            return web.Response(status=504, text=TIMEOUT)
        if str(body["id"]) not in self._store.clouds:
            self._answered(record, 500)
            return web.Response(status=500, text="Internal Server Error: no such cloud")
        self._apply(record, body)
        self._answered(record, 200)
        return _json(self._store.clouds[str(body["id"])])

    def _apply(self, record: Record, body: Cloud) -> None:
        record["changed"] = self._store.apply(body)
        record["applied_at"] = self._log.wall()

    async def _apply_late(self, seconds: float, record: Record, body: Cloud) -> None:
        try:
            await asyncio.sleep(seconds)
            self._apply(record, body)
        finally:
            self._log.post(record)

    def _answered(self, record: Record, answer: int | str) -> None:
        record |= {"answer": answer, "answered_at": self._log.wall()}
        self._log.post(record)

    async def _body(self, request: web.Request) -> tuple[bytes, Cloud | None, str]:
        try:
            data = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return b"", None, f"the body is larger than {MAX_BODY_BYTES} bytes"
        if not data:
            return data, None, "there is no body"
        try:
            return data, self._store.check(wire.loads(data)), ""
        except (wire.WireError, UnusableError) as error:
            return data, None, str(error)

    async def _befall(
        self, request: web.Request, hit: Hit, *, op: str, key: str | None, number: int | None = None
    ) -> None:
        """Let the latency pass and the fault strike; a reset ends the request here."""
        if hit.kind is not None:
            self._log.other("fault", at=self._log.wall(), kind=f"{op}.{hit.kind}", id=key, n=number)
        slow = hit.knobs.seconds.get("timeout_seconds", 0.0) if "timeout" in (hit.kind or "") else 0.0
        if hit.latency_seconds + slow:
            await asyncio.sleep(hit.latency_seconds + slow)
        if hit.kind is not None and hit.kind.startswith("reset"):
            if request.transport is not None:
                request.transport.abort()
            raise _ResetError

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
            if key in self._store.clouds:
                self.set_leaf(key, writer.field, writer.value)

    def _stop(self) -> None:
        for task in (self._writer, *self._late):
            if task is not None:
                task.cancel()


async def _bind(runner: web.AppRunner, listen: tuple[str, int]) -> None:
    host, port = listen
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise AllocsyncError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error


def _json(cloud: Json) -> web.Response:
    return web.Response(body=wire.dumps(cloud), content_type="application/json")
