"""Where the API is, with `api_url: auto`: a server of this machine says so in a file, or has a known port.

The rules: only what answers `ok:<uuid>` to `GET /.well-known/health` is one. The uuid is remembered, and a
server with another one is never used by itself: the desired state was not written for it. A server that has
moved to another port is found again; one that is slow to say who it is has not moved.

Left out: servers on other machines; those have a URL.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from allocsync import atomic_file
from allocsync.addresses import http_url
from allocsync.errors import AllocsyncError

AUTO = "auto"
FIRST_PORTS = range(39300, 39334)
LAST_PORTS = (1000, 5323)
PORT_FILES = tuple(
    Path(folder, "com.pieces.os/production/Config/.port.txt") for folder in ("Documents", "Library")
)
REMEMBERED = "server"  # in the state directory
PROBE_SECONDS = 1.0
LOOK_SECONDS = 5.0
_MOST_BYTES = 200
_NO_ANSWER = (aiohttp.ClientError, OSError, ValueError)  # TimeoutError is an OSError


@dataclass(frozen=True, slots=True)
class Found:
    """A server and who it is."""

    url: str
    server: str


class NoServerError(AllocsyncError):
    """There is none, or another one than before."""


class Locator:
    """Finds the server of this machine; `remembered` is the file that says which one it was, if any does."""

    def __init__(self, *, home: Path, remembered: Path | None, ports: Iterable[int] | None = None) -> None:
        self._home = home
        self._remembered = remembered
        self._ports = tuple((*FIRST_PORTS, *LAST_PORTS) if ports is None else ports)

    async def find(self) -> str:
        """The URL of the server.

        Raises:
            NoServerError: nothing answers, or only another server than before.
        """
        known = self._known()
        candidates = list(dict.fromkeys((*self._announced(), *self._ports)))
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PROBE_SECONDS)) as http:
            answers = await asyncio.gather(*(_probe(http, port) for port in candidates))
        servers = [found for found in answers if found is not None]
        for found in servers:
            if known in (None, found.server):
                self._remember(found.server)
                return found.url
        if servers:
            raise NoServerError(
                f"the server at {servers[0].url} is {servers[0].server}, and it was {known} before: nothing "
                f"is sent to it. If it is meant, remove {self._remembered}."
            )
        raise NoServerError(
            f"api_url is auto, and no Allocation API was found: nothing on port {self._ports_in_words()} "
            "of this machine answers GET /.well-known/health with ok:<uuid>. Start it, or set "
            "ALLOCSYNC_API_URL."
        )

    async def follow(self, move: Callable[[str | None], None], tell: Callable[..., None]) -> None:
        """Find the server, and find it again when it has moved, for ever; what is new is told once."""
        at, said = "", ""
        while True:
            try:
                url = await self._again(at)
            except NoServerError as error:
                if str(error) != said:
                    move(None)
                    tell("api_not_found", level="warning", problem=str(error))
                at, said = "", str(error)
            else:
                if url != at:
                    move(url)
                    tell("api_found", url=url)
                at, said = url, ""
            await asyncio.sleep(LOOK_SECONDS)

    async def _again(self, at: str) -> str:
        """Where it is by now, having been there; as `find` does.

        Raises:
            NoServerError: see `find`; but one that is too busy to say is where it was, or else elsewhere.
        """
        there = await self._is_there(at) if at else False
        if there:
            return at
        try:
            return await self.find()
        except NoServerError:
            if there is None:
                return at
            raise

    async def _is_there(self, url: str) -> bool | None:
        """Whether the server that was found there is there still; None: no answer in time."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LOOK_SECONDS)) as http:
            try:
                found = await _asked(http, url)
            except TimeoutError:
                return None
            except _NO_ANSWER:
                return False
        if found is None or self._known() not in (None, found.server):
            return False
        with suppress(NoServerError):  # somebody may have removed the file; the next look tries again
            self._remember(found.server)
        return True

    def _announced(self) -> Iterable[int]:
        for file in PORT_FILES:
            try:
                text = (self._home / file).read_text(encoding="ascii").strip()
            except (OSError, ValueError):
                continue  # most machines have none of these
            if text.isdigit() and 0 < int(text) < 65536:  # noqa: PLR2004 - a port
                yield int(text)

    def _ports_in_words(self) -> str:
        first, last = self._ports[0], [str(port) for port in self._ports[-2:]]
        return f"{first} to {' or '.join(last)}" if len(self._ports) > len(last) else " or ".join(last)

    def _known(self) -> str | None:
        try:
            return self._remembered.read_text(encoding="utf-8").strip() or None if self._remembered else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise NoServerError(f"{self._remembered}: cannot be read: {error}") from error

    def _remember(self, server: str) -> None:
        if self._remembered is None or self._known() is not None:
            return
        try:
            # Half an id would be another server's, and none would be anybody's.
            atomic_file.write(self._remembered, f"{server}\n".encode())
        except OSError as error:
            # Used without being remembered, it could be taken for another one later.
            raise NoServerError(f"{self._remembered}: cannot be written: {error.strerror}") from error


async def _probe(http: aiohttp.ClientSession, port: int) -> Found | None:
    try:
        return await _asked(http, http_url("127.0.0.1", port))
    except _NO_ANSWER:
        return None  # whatever is there is no such server


async def _asked(http: aiohttp.ClientSession, url: str) -> Found | None:
    """Who is there, if it is such a server; raises `_NO_ANSWER`."""
    async with http.get(f"{url}/.well-known/health", allow_redirects=False) as answer:
        body = b""
        async for chunk in answer.content.iter_chunked(_MOST_BYTES):
            body += chunk
            if len(body) > _MOST_BYTES:
                return None
    said = body.decode()
    word, colon, server = said.strip().partition(":")
    proper = answer.status == 200 and word == "ok" and colon and server and server.isprintable()  # noqa: PLR2004 - OK
    return Found(url, server) if proper else None
