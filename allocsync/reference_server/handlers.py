"""The HTTP handlers: the two operations, the list, health, version and the fault configuration.

The rules:
- A request gets one response, as documented, unless a configured fault says otherwise.
- What a response shows is on disk before the response is sent, if there is a state file.
- The log record of a POST is written before its response is sent. The exceptions are a response that a fault
  sends itself, and an update that is applied late.

Left out: starting and stopping, and late updates (`reference_server.server`), the other client
(`reference_server.fault_timeline`), and the response of a fault (`reference_server.fault_responses`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from hashlib import sha256
from typing import TypeAlias
from urllib.parse import unquote

from aiohttp import web

from allocsync import __version__
from allocsync.api import json_codec
from allocsync.model.cloud import Cloud
from allocsync.reference_server.clouds import difference
from allocsync.reference_server.fault_config import FaultConfigError, decode_fault_config
from allocsync.reference_server.fault_responses import InjectedResetError, json_response, respond_with_fault
from allocsync.reference_server.fault_timeline import FaultTimeline
from allocsync.reference_server.faults import Effect, FaultDraw
from allocsync.reference_server.read_cache import ReadCache
from allocsync.reference_server.request_log import Record, RequestLog
from allocsync.reference_server.store import NO_SUCH_CLOUD, InvalidUpdateError, StateFileError, Store, id_of

MAX_BODY_BYTES = 1024 * 1024
GONE_TEXT = "Cloud not found."
NOT_FOUND_TEXT = "Route not found"
_CLOUDS_PER_CHUNK = 500  # clouds that are written before other requests get a turn
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Handlers:
    """Answers requests from a store.

    `schedule_late_update(draw, record, body)` takes over an update that is applied after its answer.
    """

    def __init__(
        self,
        store: Store,
        timeline: FaultTimeline,
        log: RequestLog,
        *,
        schedule_late_update: Callable[[FaultDraw, Record, Cloud], None],
    ) -> None:
        self._store = store
        self._timeline = timeline
        self._log = log
        self._schedule_late_update = schedule_late_update
        self._kept_clouds: ReadCache[bytes | None] = ReadCache(log.now)
        self._kept_lists: ReadCache[list[Cloud]] = ReadCache(log.now)
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
        """Return the aiohttp application.

        It has one route and dispatches here, because an id may contain any text, slashes too.
        """
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.on_response_prepare.append(self._set_date)
        app.router.add_route("*", "/{rest:.*}", self._dispatch)
        return app

    async def _set_date(self, _request: web.Request, response: web.StreamResponse) -> None:
        """Set the Date by the clock of this server, unless the answer is kept from an earlier time."""
        if "Age" not in response.headers:
            response.headers["Date"] = formatdate(
                float(self._log.now()), usegmt=True
            )  # aiohttp has the machine's

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        # A base URL with a slash at its end gives a path with two slashes at its start.
        path = "/" + request.rel_url.raw_path.lstrip("/")
        handler = self._routes.get((request.method, path))
        if handler is not None:
            return await handler(request)
        parent, _, key = path.rpartition("/")
        if request.method == "GET" and parent == "/allocation" and key:
            return await self._snapshot(request, unquote(key))
        return _text_response(404, NOT_FOUND_TEXT)

    async def _snapshot(self, request: web.Request, key: str) -> web.StreamResponse:
        received = self._log.now()
        answer: int | str = "reset"
        draw = self._timeline.draw("snapshot")
        self._log_fault("snapshot", draw, key)
        try:
            await asyncio.sleep(draw.latency_seconds)
            response: web.StreamResponse = await self._live_response(key, draw.settings.cache_seconds)
            if draw.fault is not None:
                response = await respond_with_fault(request, draw, draw.fault, self._store.clouds.get(key))
            answer = response.status
        except (InjectedResetError, ConnectionError):
            return web.Response()
        else:
            return response
        finally:
            self._log.write_event(
                "snapshot", id=key, received_at=received, answered_at=self._log.now(), answer=answer
            )

    async def _live_response(self, key: str, cache_seconds: float) -> web.Response:
        try:
            text, headers = await self._kept_clouds.get(key, cache_seconds, lambda: self._durable_json(key))
        except StateFileError as error:
            return _server_error(error)
        if headers:
            self._timeline.fired["snapshot.cache_seconds"] += 1
        response = _text_response(410, GONE_TEXT) if text is None else json_response(text)
        response.headers.update(headers)
        return response

    async def _durable_json(self, key: str) -> bytes | None:
        """Return the cloud as JSON when it is on the disk, or None if there is none."""
        text = self._store.cloud_json(key)
        while text is not None:
            await self._store.wait_until_durable(key)
            if self._store.cloud_json(key) is text:
                return text
            text = self._store.cloud_json(key)
        return None

    async def _list(self, request: web.Request) -> web.StreamResponse:
        received = self._log.now()
        answer: int | str = "reset"
        draw = self._timeline.draw("list")
        self._log_fault("list", draw, None)
        try:
            await asyncio.sleep(draw.latency_seconds)
            clouds, headers = await self._kept_lists.get("", draw.settings.cache_seconds, self._listed)
            if headers:
                self._timeline.fired["list.cache_seconds"] += 1
            if draw.fault is None:
                response = await self._send_list(request, clouds, headers)
            else:
                response = await respond_with_fault(request, draw, draw.fault, {"iterable": clouds})
            answer = response.status
        except (InjectedResetError, ConnectionError):
            return web.Response()
        else:
            return response
        finally:
            self._log.write_event("list", received_at=received, answered_at=self._log.now(), answer=answer)

    async def _listed(self) -> list[Cloud]:
        return self._timeline.apply_to_list(list(self._store.clouds.values()))

    async def _send_list(
        self, request: web.Request, clouds: list[Cloud], headers: Mapping[str, str]
    ) -> web.StreamResponse:
        """Write these clouds, which are a snapshot of one moment, with pauses for other requests."""
        try:
            await self._store.wait_until_durable()
        except StateFileError as error:
            return _server_error(error)
        response = web.StreamResponse(headers={"Content-Type": "application/json", **headers})
        await response.prepare(request)
        await response.write(b'{"iterable":[')
        for start in range(0, len(clouds), _CLOUDS_PER_CHUNK):
            part = b",".join(
                self._store.to_json(cloud) for cloud in clouds[start : start + _CLOUDS_PER_CHUNK]
            )
            await response.write(b"," + part if start else part)
            await asyncio.sleep(0)
        await response.write(b"]}")
        await response.write_eof()
        return response

    async def _update(self, request: web.Request) -> web.StreamResponse:
        record = self._log.begin_post()
        draw = self._timeline.draw("update")
        late: Cloud | None = None
        try:
            body, problem = await self._read_update(request, record)
            self._log_fault("update", draw, record["id"], record["n"])
            await asyncio.sleep(draw.latency_seconds)
            if draw.effect in (Effect.BEFORE_ANSWER, Effect.PARTLY):
                response: web.StreamResponse = await self._apply(record, body, problem, draw)
            else:
                response = _server_error(problem) if body is None else _text_response(200, "")
            if draw.fault is not None:
                response = await respond_with_fault(request, draw, draw.fault, body)
            late = body if draw.effect is Effect.LATE else None
            record["answer"] = response.status
        except (InjectedResetError, ConnectionError):
            return web.Response()
        else:
            return response
        finally:
            record["answered_at"] = self._log.now()
            if late is None:
                self._log.write_post(record)
            else:
                self._schedule_late_update(draw, record, late)

    async def _apply(self, record: Record, body: Cloud | None, problem: str, draw: FaultDraw) -> web.Response:
        partly = draw.effect is Effect.PARTLY
        changed = (
            self._store.apply(body, ignores=draw.settings.ignores, partly=partly)
            if body is not None
            else None
        )
        if body is None or changed is None:
            return _server_error(problem or NO_SUCH_CLOUD)
        record["applied_at"], record["changed"] = self._log.now(), changed
        cloud, echo = self._store.clouds[str(body["id"])], self._store.echo(body)
        if draw.settings.ignores and difference(cloud, echo):
            cloud = echo  # the answer shows what was sent although it was not applied
            self._timeline.fired["update.ignores"] += 1
        text = self._store.to_json(cloud)
        try:
            await self._store.wait_until_durable(str(body["id"]))
        except StateFileError as error:
            return _server_error(error)
        return json_response(text)

    def _log_fault(self, operation: str, draw: FaultDraw, key: str | None, number: int | None = None) -> None:
        if draw.fault is not None:
            kind = f"{operation}.{draw.fault.name}"
            self._log.write_event("fault", at=self._log.now(), kind=kind, id=key, n=number)

    async def _read_update(self, request: web.Request, record: Record) -> tuple[Cloud | None, str]:
        """Return the body, or None and the reason why it cannot be used. Fills in the record."""
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
            return self._store.validate_update(body), ""
        except (json_codec.CodecError, InvalidUpdateError) as error:
            return None, str(error)

    async def _health(self, _request: web.Request) -> web.Response:
        return _text_response(200, f"ok:{self._store.server_id}")

    async def _version(self, _request: web.Request) -> web.Response:
        return _text_response(200, __version__)

    async def _get_faults(self, _request: web.Request) -> web.Response:
        return web.json_response(self._timeline.as_json())

    async def _put_faults(self, request: web.Request) -> web.Response:
        try:
            self._timeline.replace(decode_fault_config(await request.read()))
        except FaultConfigError as error:
            return _text_response(400, f"{error}\n")
        return await self._get_faults(request)

    async def _delete_faults(self, request: web.Request) -> web.Response:
        self._timeline.replace({})
        return await self._get_faults(request)


def _text_response(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text)


def _server_error(why: object) -> web.Response:
    return _text_response(500, f"Internal Server Error: {why}")
