"""A reference server on one fixed port that is killed, replaced by another, or given faults, as a test wants.

The rule: the port stays reserved while the API is killed, so that nothing else answers there and connections
are refused. What was answered before is kept: `records` spans all servers that were started.

Left out: what a test makes of it, and the daemon (`tests/support/processes.py`).
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from allocsync.model.cloud import Cloud
from allocsync.reference_server import ReferenceServer
from tests.support.server_log_oracle import Record

HANG_SECONDS = 3600.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Poison:
    """One allocation whose GETs hang (`status` None) or are answered with `status`; none while `id` is ''."""

    id: str = ""
    status: int | None = None
    strikes: int = 0


@dataclass
class FaultyApi:
    """The API at `url`; `server` is None while it is killed."""

    url: str
    poison: Poison = field(default_factory=Poison)
    server: ReferenceServer | None = None
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _past: list[Record] = field(default_factory=list)
    _truth: list[Cloud] = field(default_factory=list)  # what the server had that was killed first

    async def serve(self, clouds: Iterable[Cloud] | None = None, *, faults: object = None) -> ReferenceServer:
        """Start a server with these clouds; by default, with what the API had before it was killed."""
        seed = self._truth if clouds is None else list(clouds)
        kind = _with_poison(self.poison)
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        self.server = await self._stack.enter_async_context(
            kind.start(seed, faults=faults, log_all=True, listen=(host, int(port)))
        )
        return self.server

    async def kill(self) -> None:
        """Close all connections and refuse new ones. To be called in the task that started the server."""
        assert self.server is not None
        self._truth = self._truth or list(self.server.clouds.values())
        await self._stack.aclose()
        self._past += self.server.records
        self.server = None

    @property
    def live(self) -> ReferenceServer:
        """The running server."""
        assert self.server is not None, "the API is killed"
        return self.server

    @property
    def records(self) -> list[Record]:
        """The records of all requests, in the order in which they were finished."""
        return [*self._past, *(self.server.records if self.server is not None else ())]

    def applied_at(self, key: str, fields: Mapping[str, str]) -> float | None:
        """When an update first gave an allocation these values (seconds since the epoch); None if never."""
        for row in self.records:
            if row["op"] == "update" and row["id"] == key and row["applied_at"] is not None:
                changed: Mapping[str, Any] = row["changed"]
                if all(name in changed and changed[name][1] == value for name, value in fields.items()):
                    return float(row["applied_at"])
        return None

    async def refuses(self) -> bool:
        """Whether a connection to the API is refused."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except ConnectionRefusedError:
            return True
        writer.close()
        return False


@asynccontextmanager
async def faulty_api(clouds: Iterable[Cloud], *, faults: object = None) -> AsyncIterator[FaultyApi]:
    """Run the API while the context lasts, with these clouds and this fault configuration."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        api = FaultyApi(f"http://127.0.0.1:{reserved.getsockname()[1]}")
        try:
            await api.serve(clouds, faults=faults)
            yield api
        finally:
            if api.server is not None:
                await api.kill()


def _with_poison(poison: Poison) -> type[ReferenceServer]:
    class Poisoned(ReferenceServer):
        def _application(self) -> web.Application:
            app = super()._application()
            app.middlewares.append(_gateway)
            return app

    @web.middleware
    async def _gateway(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not poison.id or request.path != f"/allocation/{poison.id}":
            return await handler(request)
        poison.strikes += 1
        if poison.status is None:
            await asyncio.sleep(HANG_SECONDS)
        return web.Response(status=poison.status or 504)

    return Poisoned
