"""A caching proxy in this process: it keeps answers to GETs, although requests say no-cache."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

FORWARDED = ("Content-Type", "Retry-After", "Date")


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer and when it came, on the event loop's clock."""

    at: float
    status: int
    body: bytes
    headers: Mapping[str, str]


@dataclass
class CachingProxy:
    """Passes requests to `upstream`; an answer to a GET is kept for `seconds`.

    `sends_age` and `sends_date` are whether it tells the age of a kept answer, and when it was made. Without
    `sends_date` each answer has the date of the proxy. `requests` are the headers of each request.
    """

    upstream: str
    seconds: float
    sends_age: bool = True
    sends_date: bool = True
    url: str = ""
    hits: int = 0
    requests: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    kept: dict[str, Kept] = field(default_factory=dict)

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request, from the cache if possible."""
        self.requests.append((request.method, dict(request.headers)))
        now = asyncio.get_running_loop().time()
        found = self.kept.get(request.path) if request.method == "GET" else None
        if found is not None and now - found.at < self.seconds:
            self.hits += 1
            age = {"Age": f"{int(now - found.at)}"} if self.sends_age else {}
            return web.Response(status=found.status, body=found.body, headers={**found.headers, **age})
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method,
                self.upstream + request.path_qs,
                data=await request.read() or None,
                headers={"Content-Type": "application/json"},
            ) as response,
        ):
            names = FORWARDED if self.sends_date else FORWARDED[:-1]
            headers = {name: response.headers[name] for name in names if name in response.headers}
            found = Kept(now, response.status, await response.read(), headers)
        if request.method == "GET":
            self.kept[request.path] = found
        return web.Response(status=found.status, body=found.body, headers=found.headers)


@asynccontextmanager
async def caching_proxy(
    upstream: str, *, seconds: float, sends_age: bool = True, sends_date: bool = True
) -> AsyncIterator[CachingProxy]:
    """Run a caching proxy on a free port while the context lasts."""
    proxy = CachingProxy(upstream, seconds, sends_age, sends_date)
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", proxy.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        proxy.url = f"http://{host}:{port}"
        yield proxy
    finally:
        await runner.cleanup()
