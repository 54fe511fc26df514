"""A peer of allocsync in the storm benchmark: a good script with aiohttp and tenacity.

    python -m tests.benchmarks.peers.script URL DIRECTORY [--read-again]

One session keeps its connections. The object that it reads is sent back whole, so unknown fields are kept.
The loop is `converge`.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from tests.benchmarks.peers.converge import (
    CONNECT_SECONDS,
    GET_SECONDS,
    POST_SECONDS,
    READS,
    TRANSIENT_STATUSES,
    WRITES,
    FinalError,
    TransientError,
    main,
)

Live = dict[str, Any]


class Script:
    """Both operations over one session."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url.rstrip("/")

    async def read(self, key: str) -> Live:
        """Read the live object, as JSON."""
        url = URL(f"{self._url}/allocation/{quote(key, safe='')}", encoded=True)
        live = await self._ask("GET", url, GET_SECONDS)
        if live.get("id") != key:
            raise TransientError("200 with another id")
        return live

    async def update(self, live: Live) -> None:
        """Send the whole object back."""
        answer = await self._ask("POST", URL(f"{self._url}/allocation/update"), POST_SECONDS, live)
        if answer.get("id") != live["id"]:
            raise TransientError("200 with another id")

    def field_value(self, live: Live, path: str) -> str | None:
        """The value at a dotted path, or None."""
        value: Any = live
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return value if isinstance(value, str) else None

    def put(self, live: Live, path: str, value: str) -> None:
        """Set the value at a dotted path."""
        *parents, last = path.split(".")
        for name in parents:
            live = live.setdefault(name, {})
        live[last] = value

    async def _ask(self, method: str, url: URL, seconds: float, body: Live | None = None) -> Live:
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
        try:
            async with self._session.request(
                method, url, json=body, timeout=timeout, allow_redirects=False
            ) as answer:
                data = await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TransientError(f"{type(error).__name__}: {error}") from error
        if status >= 500 or status in TRANSIENT_STATUSES:
            raise TransientError(f"{status}: {data[:80]!r}")
        if status != 200:
            raise FinalError(f"{status}: {data[:80]!r}")
        try:
            live = json.loads(data)
        except ValueError as error:
            raise TransientError(f"200, but not JSON: {error}") from error
        if not isinstance(live, dict):
            raise TransientError("200, but not an object")
        return live


@asynccontextmanager
async def open_script(url: str) -> AsyncIterator[Script]:
    """The script on one session."""
    connector = aiohttp.TCPConnector(limit=READS + WRITES)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Script(session, url)


if __name__ == "__main__":
    main(open_script)
