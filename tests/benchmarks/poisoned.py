"""A reference server on which updates of some allocations hang, end with a 504, and are never applied.

    python -m tests.benchmarks.poisoned SEED LOG IDS SECONDS       prints its URL; ends on SIGTERM

The faults of `allocsync serve` are random; these depend on the id. Everything else is the reference server's,
with the short latency of a real one.
"""

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from allocsync.reference_server.seed import read_seed
from allocsync.reference_server.server import ReferenceServer

LATENCY = {"update": {"latency_seconds": 0.05}, "snapshot": {"latency_seconds": 0.02}}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def poisoned(poison: frozenset[str], seconds: float) -> type[ReferenceServer]:
    """The reference server behind a gateway on which updates of these ids hang for so many seconds."""

    class Poisoned(ReferenceServer):
        def _application(self) -> web.Application:
            app = super()._application()
            app.middlewares.append(self._gateway)
            return app

        @web.middleware
        async def _gateway(self, request: web.Request, handler: Handler) -> web.StreamResponse:
            key = json.loads(await request.read())["id"] if request.method == "POST" else None
            if key not in poison:
                return await handler(request)
            record = self.log.begin_post() | {"id": key, "answer": 504}
            self.log.write_event("fault", at=record["received_at"], kind="poison", id=key, n=record["n"])
            await asyncio.sleep(seconds)
            self.log.write_post(record | {"answered_at": self.log.now()})
            return web.Response(status=504, text="Gateway Timeout, request timed out.")

    return Poisoned


async def serve(seed: Path, log: Path, poison: frozenset[str], seconds: float) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    starting = poisoned(poison, seconds).start(
        read_seed(seed), faults=LATENCY, log=log, log_all=True, keep_records=False
    )
    async with starting as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        await stop.wait()


def main(arguments: list[str]) -> None:
    """Serve as the command line says."""
    seed, log, ids, seconds = arguments
    poison = frozenset(Path(ids).read_text(encoding="utf-8").split())
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(Path(seed), Path(log), poison, float(seconds)))


if __name__ == "__main__":
    main(sys.argv[1:])
