"""The HTTP listener: /metrics, /livez, /readyz, the pages under /api/v1, and the commands.

The rules: a page shows the controller's state at that moment and never waits for the Allocation API. Only
/api/v1/status is sent in slices, between which the controller runs. So its rows can be newer than its counts
by condition, and the two may disagree. GET changes nothing and needs no token. A client that hangs up is no
error, whatever was under way for it.

Left out: the health checks (`web.health`), the metrics (`telemetry.metrics`), the commands (`web.control`)
and the JSON (`web.serializers`).
"""

import asyncio
import errno
import itertools
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from allocsync.errors import AllocsyncError, SettingsError
from allocsync.model.condition import Condition
from allocsync.model.ids import NotFound
from allocsync.model.public_json import SCHEMA
from allocsync.model.times import WallTime
from allocsync.reconcile.status.controller_status import AllocationStatus, ApiStatus, ControllerStatus
from allocsync.reconcile.status.explain import Explanation
from allocsync.settings.validators import parse_listen
from allocsync.web import serializers
from allocsync.web.control import MAX_BODY_BYTES, Control, add_control_routes
from allocsync.web.health import HealthResult

ROWS_PER_WRITE = 200  # allocations; about a millisecond of work
_SHUTDOWN_SECONDS = 1.0
_BIND_ERRORS = {
    errno.EADDRINUSE: "another process uses this port. Stop it, or choose another port",
    errno.EACCES: "this port needs a privilege. Try a port above 1023",
    errno.EADDRNOTAVAIL: "this machine does not have this address. Try 127.0.0.1:9847",
}
_MAY_PASS = {errno.EADDRINUSE, errno.EADDRNOTAVAIL}  # a restart may find the port or the address free


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """The functions that the pages read from.

    The iterable of `allocations` is consumed in slices while the controller runs, so it must tolerate
    allocations that are added or removed meanwhile. `files_read_at` is when the latest read of the desired
    files began that is taken into account (Unix seconds), None before the first.
    """

    registry: CollectorRegistry
    status: Callable[[], ControllerStatus]
    api: Callable[[], ApiStatus]
    allocations: Callable[[], Iterable[AllocationStatus]]
    explain: Callable[[str], Explanation | NotFound]
    live: Callable[[], HealthResult]
    ready: Callable[[], HealthResult]
    rejection: Callable[[], serializers.RejectedFiles | None]
    files_read_at: Callable[[], WallTime | None]


def make_app(pages: Pages, control: Control) -> web.Application:
    """Build the application; aiohttp adds a HEAD route for every GET."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_end_if_hung_up])

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(pages.registry), headers={"Content-Type": content_type})

    async def livez(_request: web.Request) -> web.Response:
        return _health_response(pages.live())

    async def readyz(_request: web.Request) -> web.Response:
        return _health_response(pages.ready())

    async def status(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if request.method != "HEAD":
            async for piece in _status_json(pages):
                await response.write(piece)
        await response.write_eof()
        return response

    async def explain(request: web.Request) -> web.Response:
        found = pages.explain(request.match_info["id"])
        if isinstance(found, NotFound):
            return web.json_response(serializers.not_found(found), status=404)
        answer = {
            **serializers.explanation(found),
            "api": serializers.api(pages.api()),
            "rejected": serializers.rejected(pages.rejection()),
        }
        return web.json_response(answer)

    app.router.add_get("/metrics", metrics)
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/api/v1/status", status)
    app.router.add_get("/api/v1/allocations/{id:.+}", explain)
    add_control_routes(app, control)
    app.on_response_prepare.append(_common_headers)
    return app


@asynccontextmanager
async def serve_web(listen: str, app: web.Application) -> AsyncIterator[tuple[str, int]]:
    """Serve while the context lasts; yields the host and the port that were bound.

    Raises:
        AllocsyncError: another process uses the port, or this machine does not have the address yet.
        SettingsError: the address cannot be bound for another reason; only an edit can correct it.
    """
    host, port = parse_listen(listen)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except (OSError, UnicodeError) as error:
            kind = AllocsyncError if getattr(error, "errno", None) in _MAY_PASS else SettingsError
            raise kind(f"ALLOCSYNC_LISTEN={listen}: {_explain_bind_error(error)}.") from error
        address = runner.addresses[0]
        yield str(address[0]), int(address[1])
    finally:
        await runner.cleanup()


@web.middleware
async def _end_if_hung_up(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """End a request quietly if its client has hung up: aiohttp would log an error with a traceback."""
    try:
        return await handler(request)
    except OSError:
        if request.transport is not None and not request.transport.is_closing():
            raise
        return web.Response()  # aiohttp finds the connection closed, and logs that at level debug


async def _common_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Server"] = "allocsync"


def _health_response(verdict: HealthResult) -> web.Response:
    return web.Response(status=200 if verdict.ok else 503, text=verdict.reason + "\n")


def _explain_bind_error(error: OSError | UnicodeError) -> str:
    if isinstance(error, socket.gaierror | UnicodeError):
        return "the host name cannot be resolved. Try 127.0.0.1:9847"
    return _BIND_ERRORS.get(error.errno or 0, f"cannot listen there ({error.strerror})")


async def _status_json(pages: Pages) -> AsyncIterator[bytes]:
    status = pages.status()
    head = {
        "schema": SCHEMA,
        "revision": serializers.revisions(status),
        "api": serializers.api(status.api),
        "all_confirmed_since": serializers.timestamp(status.last_full_read),
        "resync_seconds": status.resync_seconds,
        "files_read_at": serializers.timestamp(pages.files_read_at()),
        "awaiting_approval": serializers.awaiting_approval(status),
        "rejected": serializers.rejected(pages.rejection()),
        "conditions": {condition.value: status.conditions.get(condition, 0) for condition in Condition},
    }
    yield json.dumps(head)[:-1].encode() + b', "allocations": ['
    separator = b""
    allocations = iter(pages.allocations())
    while rows := list(itertools.islice(allocations, ROWS_PER_WRITE)):
        yield separator + b",\n".join(json.dumps(serializers.status_row(row)).encode() for row in rows)
        separator = b",\n"
        await asyncio.sleep(0)  # a write to a fast reader does not yield to other tasks
    yield b"]}\n"
