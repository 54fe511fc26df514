"""Finds the Allocation API on this machine, for `api_url: auto`.

A server is looked for at the port that it writes into a file, and at its known ports.

The rules:
- Only a server that answers 200 with `ok:<id>` to `GET /.well-known/health` counts. Servers use a UUID as
  the id; any printable text is accepted.
- Its id is stored in the state directory. A server with another id is used only after the operator removed
  the stored one, because the desired state was not written for that server.
- A server that has moved to another port is found again. A server that only answers too late keeps its URL,
  unless the search finds it at another port.

Left out: servers on other machines; the setting ALLOCSYNC_API_URL names those.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
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
SERVER_ID_FILE_NAME = "server"  # in the state directory
PROBE_TIMEOUT_SECONDS = 1.0
CHECK_SECONDS = 5.0  # between two checks or searches, and the timeout of a check
_MAX_HEALTH_BYTES = 200
_PROBE_ERRORS = (aiohttp.ClientError, OSError, ValueError)  # TimeoutError is an OSError


@dataclass(frozen=True, slots=True)
class DiscoveredServer:
    """The URL of a server and the id that it reports."""

    url: str
    server_id: str


class NoServerError(AllocsyncError):
    """No server answers, or only servers with another id; or the stored id cannot be read or written."""


class Locator:
    """Finds the server of this machine.

    `home` is the user's home directory, below which the server writes its port. `server_id_file` holds the
    id of the server that was used before; with None no id is stored, and any server is used. `ports` replaces
    the known ports.
    """

    def __init__(
        self, *, home: Path, server_id_file: Path | None, ports: Iterable[int] | None = None
    ) -> None:
        self._home = home
        self._server_id_file = server_id_file
        self._ports = tuple((*FIRST_PORTS, *LAST_PORTS) if ports is None else ports)

    async def find(self) -> str:
        """Return the URL of the server, and store its id if none is stored.

        All ports are asked at once. If several servers may be used, one at a port
        from a port file wins.

        Raises:
            NoServerError: no server answers, or only servers with another id than the stored one; or the id
                cannot be read or stored.
        """
        stored_id = self._read_stored_id()
        candidates = list(dict.fromkeys((*self._announced_ports(), *self._ports)))
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PROBE_TIMEOUT_SECONDS)) as http:
            answers = await asyncio.gather(*(_probe(http, port) for port in candidates))
        servers = [found for found in answers if found is not None]
        for found in servers:
            if stored_id in (None, found.server_id):
                self._store_id(found.server_id)
                return found.url
        if servers:
            raise NoServerError(
                f"the server at {servers[0].url} has the id {servers[0].server_id}, but the server used "
                f"before had {stored_id}: nothing is sent. To use this server, remove "
                f"{self._server_id_file}."
            )
        raise NoServerError(
            f"api_url is auto, and no Allocation API was found: nothing on port {self._describe_ports()} "
            "of this machine answers GET /.well-known/health with ok:<uuid>. Start the server, or set "
            "ALLOCSYNC_API_URL."
        )

    async def follow(self, set_base_url: Callable[[str | None], None], tell: Callable[..., None]) -> None:
        """Find the server, and follow it when it moves, until cancelled.

        Calls `set_base_url` with each new URL, and with None when no server is found. Reports each change
        once through `tell`, as the log events `api_found` and `api_not_found`.
        """
        current_url, last_problem = "", ""
        while True:
            try:
                url = await self._locate_again(current_url)
            except NoServerError as error:
                if str(error) != last_problem:
                    set_base_url(None)
                    tell("api_not_found", level="warning", problem=str(error))
                current_url, last_problem = "", str(error)
            else:
                if url != current_url:
                    set_base_url(url)
                    tell("api_found", url=url)
                current_url, last_problem = url, ""
            await asyncio.sleep(CHECK_SECONDS)

    async def _locate_again(self, current_url: str) -> str:
        """Return the URL of the server, which was at `current_url` (empty if it is not known).

        A server that does not answer in time keeps its URL, unless another port answers as that server.

        Raises:
            NoServerError: as `find`.
        """
        is_there = await self._is_there(current_url) if current_url else False
        if is_there:
            return current_url
        try:
            return await self.find()
        except NoServerError:
            if is_there is None:
                return current_url
            raise

    async def _is_there(self, url: str) -> bool | None:
        """Whether the server still answers at this URL; None if it does not answer in time."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=CHECK_SECONDS)) as http:
            try:
                found = await _identify(http, url)
            except TimeoutError:
                return None
            except _PROBE_ERRORS:
                return False
        if found is None or self._read_stored_id() not in (None, found.server_id):
            return False
        with suppress(NoServerError):  # the file was removed and cannot be written: retried at the next check
            self._store_id(found.server_id)
        return True

    def _announced_ports(self) -> Iterable[int]:
        for file in PORT_FILES:
            try:
                text = (self._home / file).read_text(encoding="ascii").strip()
            except (OSError, ValueError):
                continue  # most machines do not have this file
            if text.isdigit() and 0 < int(text) < 65536:  # noqa: PLR2004 - a port
                yield int(text)

    def _describe_ports(self) -> str:
        first, last = self._ports[0], [str(port) for port in self._ports[-2:]]
        return f"{first} to {' or '.join(last)}" if len(self._ports) > len(last) else " or ".join(last)

    def _read_stored_id(self) -> str | None:
        try:
            return (
                self._server_id_file.read_text(encoding="utf-8").strip() or None
                if self._server_id_file
                else None
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise NoServerError(f"{self._server_id_file}: cannot be read: {error}") from error

    def _store_id(self, server_id: str) -> None:
        if self._server_id_file is None or self._read_stored_id() is not None:
            return
        try:
            # Written atomically: part of an id matches no server, and an empty file matches every server.
            atomic_file.write(self._server_id_file, f"{server_id}\n".encode())
        except OSError as error:
            # A server whose id is not stored could be confused with another one later.
            raise NoServerError(f"{self._server_id_file}: cannot be written: {error.strerror}") from error


async def _probe(http: aiohttp.ClientSession, port: int) -> DiscoveredServer | None:
    try:
        return await _identify(http, http_url("127.0.0.1", port))
    except _PROBE_ERRORS:
        return None  # nothing listens there, or another program does


async def _identify(http: aiohttp.ClientSession, url: str) -> DiscoveredServer | None:
    """Return the server at this URL, or None if something else answers there. May raise `_PROBE_ERRORS`."""
    async with http.get(
        f"{url}/.well-known/health", headers={"Cache-Control": "no-cache"}, allow_redirects=False
    ) as response:
        body = b""
        async for chunk in response.content.iter_chunked(_MAX_HEALTH_BYTES):
            body += chunk
            if len(body) > _MAX_HEALTH_BYTES:
                return None
    word, colon, server_id = body.decode().strip().partition(":")
    is_healthy = response.status == HTTPStatus.OK and word == "ok" and colon
    return DiscoveredServer(url, server_id) if is_healthy and server_id and server_id.isprintable() else None
