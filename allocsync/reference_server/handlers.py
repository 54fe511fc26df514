"""The HTTP of the reference server: two operations, the list, health and version, and the knobs.

The rules: a request is answered once, in one of the documented ways, unless a fault that was asked for says
otherwise; what an update does is done before or after its answer; what an answer shows is on disk before it
leaves, where there is a disk. The line of a POST is in the log before its answer leaves, but for an answer
that drips.

Left out: starting and stopping, late landings and the other writer (`reference`), and what a fault does to
an answer (`strike`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import TypeAlias
from urllib.parse import unquote

from aiohttp import web

from allocsync import __version__
from allocsync.api import json_codec
from allocsync.model.cloud import Cloud
from allocsync.reference_server.clouds import difference
from allocsync.reference_server.fault_config import FaultsError, read_faults
from allocsync.reference_server.fault_responses import ResetError, json, strike
from allocsync.reference_server.fault_timeline import Phases
from allocsync.reference_server.faults import Effect, Hit
from allocsync.reference_server.request_log import Record, RequestLog
from allocsync.reference_server.store import NO_SUCH_CLOUD, StateError, Store, UnusableError, id_of

MAX_BODY_BYTES = 1024 * 1024
GONE = "Cloud not found."
NOT_FOUND = "Route not found"
_LIST_PART = 500  # clouds that are written between two moments for other requests
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """Answers requests from a store. `later(hit, record, body)` takes over an update that lands late."""

    def __init__(
        self,
        store: Store,
        phases: Phases,
        log: RequestLog,
        *,
        later: Callable[[Hit, Record, Cloud], None],
    ) -> None:
        self._store = store
        self._phases = phases
        self._log = log
        self._later = later
        self._routes: Mapping[tuple[str, str], Handler] = {
            ("POST", "/allocation/update"): self._update,
            ("GET", "/allocations"): self._list,
            ("GET", "/.well-known/health"): self._health,
            ("GET", "/.well-known/version"): self._version,
            ("GET", "/-/faults"): self._get_faults,
            ("PUT", "/-/faults"): self._put_faults,
            ("DELETE", "/-/faults"): self._delete_faults,
        }

    def application(self) -> web.Application:
        """The aiohttp application; routes are told apart here, since an id may be any text at all."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{rest:.*}", self._dispatch)
        return app

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        # A base URL that ends in a slash makes two of them.
        path = "/" + request.rel_url.raw_path.lstrip("/")
        handler = self._routes.get((request.method, path))
        if handler is not None:
            return await handler(request)
        parent, _, key = path.rpartition("/")
        if request.method == "GET" and parent == "/allocation" and key:
            return await self._snapshot(request, unquote(key))
        return _text(404, NOT_FOUND)

    async def _snapshot(self, request: web.Request, key: str) -> web.StreamResponse:
        received = self._log.now()
        answer: int | str = "reset"
        hit = self._phases.throw("snapshot")
        self._log_fault("snapshot", hit, key)
        try:
            await asyncio.sleep(hit.latency_seconds)
            response: web.StreamResponse = await self._cloud(key)
            if hit.fault is not None:
                response = await strike(request, hit, hit.fault, self._store.clouds.get(key))
            answer = response.status
        except (ResetError, ConnectionError):
            return web.Response()
        else:
            return response
        finally:
            self._log.other(
                "snapshot", id=key, received_at=received, answered_at=self._log.now(), answer=answer
            )

    async def _cloud(self, key: str) -> web.Response:
        try:
            text = self._store.text(key)
            while text is not None:
                await self._store.durable(key)
                if self._store.text(key) is text:
                    return json(text)
                text = self._store.text(key)
        except StateError as error:
            return _failed(error)
        return _text(410, GONE)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        received = self._log.now()
        answer: int | str = "reset"
        hit = self._phases.throw("list")
        self._log_fault("list", hit, None)
        try:
            await asyncio.sleep(hit.latency_seconds)
            clouds = self._phases.listed(list(self._store.clouds.values()))
            if hit.fault is None:
                response = await self._all(request, clouds)
            else:
                response = await strike(request, hit, hit.fault, {"iterable": clouds})
            answer = response.status
        except (ResetError, ConnectionError):
            return web.Response()
        else:
            return response
        finally:
            self._log.other("list", received_at=received, answered_at=self._log.now(), answer=answer)

    async def _all(self, request: web.Request, clouds: list[Cloud]) -> web.StreamResponse:
        """These clouds, which are one moment's truth, however long the writing takes."""
        try:
            await self._store.durable()
        except StateError as error:
            return _failed(error)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"iterable":[')
        for start in range(0, len(clouds), _LIST_PART):
            part = b",".join(self._store.text_of(cloud) for cloud in clouds[start : start + _LIST_PART])
            await response.write(b"," + part if start else part)
            await asyncio.sleep(0)
        await response.write(b"]}")
        await response.write_eof()
        return response

    async def _update(self, request: web.Request) -> web.StreamResponse:
        record = self._log.arrived()
        hit = self._phases.throw("update")
        late: Cloud | None = None
        try:
            body, problem = await self._body(request, record)
            self._log_fault("update", hit, record["id"], record["n"])
            await asyncio.sleep(hit.latency_seconds)
            if hit.effect in (Effect.BEFORE_ANSWER, Effect.PARTLY):
                response: web.StreamResponse = await self._apply(record, body, problem, hit)
            else:
                response = _failed(problem) if body is None else _text(200, "")
            if hit.fault is not None:
                response = await strike(request, hit, hit.fault, body)
            late = body if hit.effect is Effect.LATE else None
            record["answer"] = response.status
        except (ResetError, ConnectionError):
            return web.Response()
        else:
            return response
        finally:
            record["answered_at"] = self._log.now()
            if late is None:
                self._log.post(record)
            else:
                self._later(hit, record, late)

    async def _apply(self, record: Record, body: Cloud | None, problem: str, hit: Hit) -> web.Response:
        partly = hit.effect is Effect.PARTLY
        changed = (
            self._store.apply(body, ignores=hit.knobs.ignores, partly=partly) if body is not None else None
        )
        if body is None or changed is None:
            return _failed(problem or NO_SUCH_CLOUD)
        record["applied_at"], record["changed"] = self._log.now(), changed
        cloud, echo = self._store.clouds[str(body["id"])], self._store.echo(body)
        if hit.knobs.ignores and difference(cloud, echo):
            cloud = echo  # what was sent, not what is: that is what makes it a trap
            self._phases.fired["update.ignores"] += 1
        text = self._store.text_of(cloud)
        try:
            await self._store.durable(str(body["id"]))
        except StateError as error:
            return _failed(error)
        return json(text)

    def _log_fault(self, operation: str, hit: Hit, key: str | None, number: int | None = None) -> None:
        if hit.fault is not None:
            kind = f"{operation}.{hit.fault.name}"
            self._log.other("fault", at=self._log.now(), kind=kind, id=key, n=number)

    async def _body(self, request: web.Request, record: Record) -> tuple[Cloud | None, str]:
        """The body, or why it cannot be used; what is known of it goes into the record."""
        try:
            data = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return None, f"the body is larger than {MAX_BODY_BYTES} bytes"
        except web.RequestPayloadError as error:
            return None, f"the body cannot be read: {error}"
        record["body_sha256"] = sha256(data).hexdigest()
        if not data:
            return None, "there is no body"
        try:
            body = json_codec.loads(data)
            record |= {"body": body, "id": id_of(body)}
            return self._store.check(body), ""
        except (json_codec.CodecError, UnusableError) as error:
            return None, str(error)

    async def _health(self, _request: web.Request) -> web.Response:
        return _text(200, f"ok:{self._store.server_id}")

    async def _version(self, _request: web.Request) -> web.Response:
        return _text(200, __version__)

    async def _get_faults(self, _request: web.Request) -> web.Response:
        return web.json_response(self._phases.shown())

    async def _put_faults(self, request: web.Request) -> web.Response:
        try:
            self._phases.replace(read_faults(await request.read()))
        except FaultsError as error:
            return _text(400, f"{error}\n")
        return await self._get_faults(request)

    async def _delete_faults(self, request: web.Request) -> web.Response:
        self._phases.replace({})
        return await self._get_faults(request)


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text)


def _failed(why: object) -> web.Response:
    return _text(500, f"Internal Server Error: {why}")
