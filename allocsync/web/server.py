"""The HTTP listener: /metrics, /livez, /readyz, what is under /api/v1, and the orders.

The rules: answers are made of what the loop says of itself at that moment; nothing here waits for the API.
A status of 100,000 allocations goes out in slices with the loop running in between, so that looking at the
daemon does not hold it up. Looking changes nothing and needs no token.

Left out: what healthy means (`health`), what is counted (`metrics`), what may be ordered (`orders`).
"""

import asyncio
import errno
import itertools
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from allocsync.errors import SettingsError
from allocsync.model.condition import Condition
from allocsync.model.ids import NotFound
from allocsync.model.public_json import SCHEMA
from allocsync.reconcile.status.controller_status import AllocationStatus, LoopStatus
from allocsync.reconcile.status.explain import Explanation
from allocsync.settings.validators import parse_listen
from allocsync.web import serializers
from allocsync.web.control import MOST_BYTES, Orders, add_orders
from allocsync.web.health import Verdict

SLICE = 200  # allocations per write: about a millisecond of work
_SHUTDOWN_SECONDS = 1.0
_WHY_NOT = {
    errno.EADDRINUSE: "another process listens there. Stop it, or choose another port",
    errno.EACCES: "this port needs a privilege. Try one above 1023",
    errno.EADDRNOTAVAIL: "this machine has no such address. Try 127.0.0.1:9847",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """What the pages show.

    `allocations` is iterated bit by bit while the loop runs: it must bear that allocations come and go.
    """

    registry: CollectorRegistry
    status: Callable[[], LoopStatus]
    allocations: Callable[[], Iterable[AllocationStatus]]
    explain: Callable[[str], Explanation | NotFound]
    live: Callable[[], Verdict]
    ready: Callable[[], Verdict]
    rejection: Callable[[], serializers.Rejection | None]


def make_app(pages: Pages, orders: Orders) -> web.Application:
    """Build the application; HEAD comes with every GET."""
    app = web.Application(client_max_size=MOST_BYTES)

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(pages.registry), headers={"Content-Type": content_type})

    async def livez(_request: web.Request) -> web.Response:
        return _verdict(pages.live())

    async def readyz(_request: web.Request) -> web.Response:
        return _verdict(pages.ready())

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
        return web.json_response(serializers.explanation(found))

    app.router.add_get("/metrics", metrics)
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/api/v1/status", status)
    app.router.add_get("/api/v1/allocations/{id:.+}", explain)
    add_orders(app, orders)
    app.on_response_prepare.append(_common_headers)
    return app


@asynccontextmanager
async def serve_web(listen: str, app: web.Application) -> AsyncIterator[tuple[str, int]]:
    """Serve while the context lasts; gives the address that was bound, which names the port if it was 0.

    Raises:
        SettingsError: the address cannot be bound.
    """
    host, port = parse_listen(listen)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except (OSError, UnicodeError) as error:
            raise SettingsError(f"ALLOCSYNC_LISTEN={listen}: {_why_not(error)}.") from error
        address = runner.addresses[0]
        yield str(address[0]), int(address[1])
    finally:
        await runner.cleanup()


async def _common_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Server"] = "allocsync"


def _verdict(verdict: Verdict) -> web.Response:
    return web.Response(status=200 if verdict.holds else 503, text=verdict.reason + "\n")


def _why_not(error: OSError | UnicodeError) -> str:
    if isinstance(error, socket.gaierror | UnicodeError):
        return "the host name is not known. Try 127.0.0.1:9847"
    return _WHY_NOT.get(error.errno or 0, f"cannot listen there ({error.strerror})")


async def _status_json(pages: Pages) -> AsyncIterator[bytes]:
    status = pages.status()
    head = {
        "schema": SCHEMA,
        "revision": serializers.revisions(status),
        "awaiting_approval": serializers.awaiting_approval(status),
        "rejected": serializers.rejected(pages.rejection()),
        "conditions": {condition.value: status.conditions.get(condition, 0) for condition in Condition},
    }
    yield json.dumps(head)[:-1].encode() + b', "allocations": ['
    separator = b""
    allocations = iter(pages.allocations())
    while rows := list(itertools.islice(allocations, SLICE)):
        yield separator + b",\n".join(json.dumps(serializers.status_row(row)).encode() for row in rows)
        separator = b",\n"
        await asyncio.sleep(0)  # a write to a quick reader does not wait
    yield b"]}\n"
