"""The three operations of the API, and what befalls a request on its way.

The rule: what a fault does is done before or after the store is touched, never half. Work that goes on after
a 504 belongs to the server: `group` owns it, and it ends with the server.
"""

import asyncio
from hashlib import sha256

from aiohttp import web

from allocsync.api import wire
from allocsync.api.server.faults import Faults, Hit
from allocsync.api.server.log import Record, RequestLog
from allocsync.api.server.store import Store, UnusableError
from allocsync.planning.model import Cloud, Json

MAX_BODY_BYTES = 1024 * 1024
GONE = "Cloud not found."
TIMEOUT = "Gateway Timeout, request timed out."


class _ResetError(Exception):
    """The connection was cut on purpose: there is no answer."""


class Operations:
    """Handlers over one store."""

    def __init__(self, store: Store, faults: Faults, log: RequestLog, group: asyncio.TaskGroup) -> None:
        self._store = store
        self._faults = faults
        self._log = log
        self._group = group
        self._late: set[asyncio.Task[None]] = set()
        self._arrivals = 0

    def stop(self) -> None:
        """What has not landed yet never will."""
        for task in self._late:
            task.cancel()

    async def snapshot(self, request: web.Request) -> web.Response:
        """`GET /allocation/{id}`."""
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

    async def list(self, request: web.Request) -> web.StreamResponse:
        """`GET /allocations`."""
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

    async def update(self, request: web.Request) -> web.Response:
        """`POST /allocation/update`."""
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


def _json(cloud: Json) -> web.Response:
    return web.Response(body=wire.dumps(cloud), content_type="application/json")
