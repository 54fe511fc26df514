"""Ask the running daemon over its listener, for the commands that say what it knows or give it an order.

The rule: whatever goes wrong is one error that names the address and what to do next. What answers there may
be anything, so an answer counts only when it has the shape that allocsync gives it.

Left out: what is asked for and how it is shown (`status`, `explain`, `approve`).
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from allocsync.cli.output import with_suggestions
from allocsync.errors import DaemonError, UsageError
from allocsync.runtime import listen_token
from allocsync.settings.model import Settings
from allocsync.settings.validators import parse_listen

TIMEOUT_SECONDS = 30.0  # a status of 100,000 allocations takes a while on a busy machine
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound
Answer: TypeAlias = tuple[int, Mapping[str, Any]]


class NoAnswerError(DaemonError):
    """Nothing answers at the address: the daemon may be starting, or going."""


def daemon_url(given: str | None, settings: Settings) -> str:
    """Where the daemon is: what was typed, or else where the setting `listen` says that it listens.

    Raises:
        UsageError: what was typed is no URL, or `listen` lets the system choose the port.
    """
    if given is not None:
        if not _is_url(given):
            raise UsageError(f"--url {given}: this is not an http or https URL. Try http://127.0.0.1:9847")
        return given.rstrip("/")
    host, port = parse_listen(settings.listen)
    if port == 0:
        raise UsageError(
            f"ALLOCSYNC_LISTEN={settings.listen} lets the system choose the port; give the address that the "
            "daemon logged as `listening`: --url http://HOST:PORT"
        )
    host = _ANY_ADDRESS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def token_of(settings: Settings) -> str:
    """The token that an order needs.

    Raises:
        DaemonError: this user knows none.
    """
    token = listen_token.found(settings.state_dir, settings.listen_token)
    if token is None:
        raise DaemonError(
            f"orders need the daemon's token, and {settings.state_dir / listen_token.NAME} cannot be read. "
            "Nothing was changed. Run this as the daemon's user with its ALLOCSYNC_STATE_DIR, or give "
            "ALLOCSYNC_LISTEN_TOKEN"
        )
    return token


async def order(url: str, path: str, body: Mapping[str, object], *, token: str) -> Mapping[str, Any]:
    """POST an order to the daemon and give what it answers.

    Raises:
        NoAnswerError: nothing listens there, or no whole answer came in time.
        DaemonError: the daemon refuses, and says why, or the answer is not one of allocsync's.
    """
    code, answer = await ask(url, path, order=body, token=token)
    if code == HTTPStatus.UNAUTHORIZED:
        raise DaemonError(
            f"the daemon at {url} does not know this token, and nothing was changed. Is it another daemon, "
            "or another ALLOCSYNC_STATE_DIR or ALLOCSYNC_LISTEN_TOKEN?"
        )
    if "error" in answer:
        raise DaemonError(with_suggestions(str(answer["error"]), answer.get("suggestions", ())))
    if code not in {HTTPStatus.OK, HTTPStatus.ACCEPTED}:
        raise stranger(url, code)
    return answer


async def ask(
    url: str, path: str, *, order: Mapping[str, object] | None = None, token: str | None = None
) -> Answer:
    """GET a page of the daemon, or POST an order. The HTTP status and the JSON object.

    `path` is percent-encoded.

    Raises:
        NoAnswerError: nothing listens there, or no whole answer came in time.
        DaemonError: the answer is not one of allocsync's.
    """
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS, connect=5)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.request(
                "GET" if order is None else "POST",
                URL(url + path, encoded=True),
                json=order,
                headers=headers,
                allow_redirects=False,
            ) as answer,
        ):
            body = await answer.read()
            code = answer.status
    except TimeoutError as error:
        raise NoAnswerError(f"the daemon at {url} does not answer; is it stopped or very busy?") from error
    except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
        raise NoAnswerError(
            f"no daemon answers at {url}. Is `allocsync run` running? If it listens elsewhere, name the "
            "address with --url or ALLOCSYNC_LISTEN"
        ) from error
    except aiohttp.ClientError as error:
        raise NoAnswerError(f"the daemon at {url} broke off its answer; is it stopping?") from error
    return code, _object(url, code, body)


def stranger(url: str, code: int) -> DaemonError:
    """Make the error that says that somebody else answers there."""
    return DaemonError(
        f"what answers at {url} (HTTP {code}) is not this version of allocsync. Name the daemon's address "
        "with --url or ALLOCSYNC_LISTEN"
    )


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        return False


def _object(url: str, code: int, body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except ValueError as error:
        raise stranger(url, code) from error
    if not isinstance(value, dict):
        raise stranger(url, code)
    return value


def ago(time: str | None, now: datetime) -> str:
    """`12:05:11 (4 min ago)`: a time of the daemon's, as UTC and from now; `never` where there is none."""
    if time is None:
        return "never"
    at = datetime.fromisoformat(time).astimezone(UTC)
    seconds = (now - at).total_seconds()
    distance = f"in {span(-seconds)}" if seconds < 0 else f"{span(seconds)} ago"
    form = "%H:%M:%S" if at.date() == now.date() else "%Y-%m-%d %H:%M:%S"
    return f"{at.strftime(form)}Z ({distance})"


def span(seconds: float) -> str:
    """A length of time for people: two digits are enough."""
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
