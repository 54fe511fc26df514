"""The HTTP client of the running daemon, for the commands that show its state or control it.

The rule: every failure is one error that names the address and what to do next. Another program may listen
at the address, so an answer is accepted only if it has the shape that allocsync gives it.

Left out: which requests are made and how answers are shown (`cli.commands`), and the server (`web`).
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from allocsync.addresses import http_url
from allocsync.cli import output
from allocsync.errors import EXIT_ERROR, EXIT_FINE, DaemonError, UsageError
from allocsync.model.escaping import visible
from allocsync.planning.rendering import Line
from allocsync.runtime import listen_token
from allocsync.settings.model import Settings
from allocsync.settings.validators import parse_listen

TIMEOUT_SECONDS = 30.0  # the status of 100,000 allocations takes seconds on a busy machine
_LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - these are compared with, not bound
Answer: TypeAlias = tuple[int, Mapping[str, Any]]


class NoAnswerError(DaemonError):
    """No complete answer came from the address: the daemon may be starting, stopping or very busy."""


def daemon_url(given: str | None, settings: Settings) -> str:
    """Return the daemon's base URL: the `given` one (--url), else the address in the setting `listen`.

    Raises:
        UsageError: `given` is not an http or https URL, or `listen` lets the system choose the port.
    """
    if given is not None:
        if not _is_url(given):
            raise UsageError(f"--url {given}: not an http or https URL. Try http://127.0.0.1:9847")
        return given.rstrip("/")
    host, port = parse_listen(settings.listen)
    if port == 0:
        raise UsageError(
            f"ALLOCSYNC_LISTEN={settings.listen} lets the system choose the port. Give the address of the "
            "daemon's log line `listening`: --url http://HOST:PORT"
        )
    return http_url(_LOOPBACK_OF.get(host, host), port)


def find_token(settings: Settings) -> str | None:
    """Return the token that commands to the daemon need, or None if this user cannot read it."""
    return listen_token.find(settings.state_dir, settings.listen_token)


def load_token(settings: Settings) -> str:
    """Return the token that commands to the daemon need.

    Raises:
        DaemonError: the settings hold no token, and this user cannot read the daemon's.
    """
    token = find_token(settings)
    if token is None:
        raise DaemonError(
            f"this command needs the daemon's token, and {settings.state_dir / listen_token.NAME} cannot be "
            "read. Nothing was changed. Run the command as the daemon's user with the daemon's "
            "ALLOCSYNC_STATE_DIR, or set ALLOCSYNC_LISTEN_TOKEN"
        )
    return token


async def send_command(url: str, path: str, body: Mapping[str, object], *, token: str) -> Mapping[str, Any]:
    """POST a command to the daemon and return the JSON object that it answers.

    A command that is in force but could not be stored is no failure here: see `write_answer`.

    Raises:
        NoAnswerError: nothing listens there, or no complete answer came within TIMEOUT_SECONDS.
        DaemonError: the daemon refuses the command (with its reason), or the answer is not from allocsync.
    """
    code, answer = await request(url, path, command=body, token=token)
    if code == HTTPStatus.UNAUTHORIZED:
        raise DaemonError(
            f"the daemon at {url} does not accept this token. Nothing was changed. Check --url, "
            "ALLOCSYNC_STATE_DIR and ALLOCSYNC_LISTEN_TOKEN: they may be those of another daemon"
        )
    if code == HTTPStatus.INSUFFICIENT_STORAGE and not is_stored(answer):
        return answer
    if "error" in answer:
        raise DaemonError(output.with_suggestions(str(answer["error"]), answer.get("suggestions", ())))
    if code not in {HTTPStatus.OK, HTTPStatus.ACCEPTED}:
        raise unexpected_answer(url, code)
    return answer


def write_answer(answer: Mapping[str, Any], lines: Iterable[Line] | None) -> int:
    """Print what the daemon answered to a command, and return the exit code.

    `lines` say it for people; None prints the JSON.

    Raises:
        DaemonError: `lines` are given, and the command is in force but not stored. The message is one line.
    """
    if lines is None:
        output.write_json(answer)
        return EXIT_FINE if is_stored(answer) else EXIT_ERROR
    if not is_stored(answer):
        raise DaemonError("; ".join([*(line.text for line in lines), visible(str(answer["error"]))]))
    output.write_lines(lines)
    return EXIT_FINE


def is_stored(answer: Mapping[str, Any]) -> bool:
    """Whether a restart keeps the effect of a command; if it does not, the answer has `error`."""
    return not (answer.get("stored") is False and "error" in answer)


async def request(
    url: str, path: str, *, command: Mapping[str, object] | None = None, token: str | None = None
) -> Answer:
    """GET a page of the daemon, or POST a `command`; returns the HTTP status and the JSON object.

    `path` must be percent-encoded. A status such as 404 is returned and not raised.

    Raises:
        NoAnswerError: nothing listens there, or no complete answer came within TIMEOUT_SECONDS.
        DaemonError: the answer is not a JSON object.
    """
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS, connect=5)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.request(
                "GET" if command is None else "POST",
                URL(url + path, encoded=True),
                json=command,
                headers=headers,
                allow_redirects=False,
            ) as answer,
        ):
            body = await answer.read()
            code = answer.status
    except TimeoutError as error:
        raise NoAnswerError(f"the daemon at {url} does not answer. Is it stopped or very busy?") from error
    except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
        raise NoAnswerError(
            f"no daemon answers at {url}. Is `allocsync run` running? If it listens elsewhere, give its "
            "address with --url or ALLOCSYNC_LISTEN"
        ) from error
    except aiohttp.ClientError as error:
        raise NoAnswerError(f"the daemon at {url} broke off its answer. Is it stopping?") from error
    return code, _parse_object(url, code, body)


def unexpected_answer(url: str, code: int) -> DaemonError:
    """Return the error for an answer that is not from this version of allocsync."""
    return DaemonError(
        f"what answers at {url} (HTTP {code}) is not this version of allocsync. Give the daemon's address "
        "with --url or ALLOCSYNC_LISTEN"
    )


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port or the IPv6 address is invalid
        return False


def _parse_object(url: str, code: int, body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:  # the latter if it is nested too deeply
        raise unexpected_answer(url, code) from error
    if not isinstance(value, dict):
        raise unexpected_answer(url, code)
    return value


def format_time(time: str | None, now: datetime) -> str:
    """Format a time in RFC 3339 for people, as UTC and relative to `now`: `12:05:11Z (4 min ago)`.

    The date is shown unless it is the date of `now`. None gives `never`.

    Raises:
        ValueError: the text is not a time, or its year in UTC is not from 1 to 9999.
    """
    if time is None:
        return "never"
    try:
        at = datetime.fromisoformat(time).astimezone(UTC)
    except OverflowError as error:
        raise ValueError(str(error)) from error
    seconds = (now - at).total_seconds()
    distance = f"in {format_duration(-seconds)}" if seconds < 0 else f"{format_duration(seconds)} ago"
    form = "%H:%M:%S" if at.date() == now.date() else "%Y-%m-%d %H:%M:%S"
    return f"{at.strftime(form)}Z ({distance})"


def format_duration(seconds: float) -> str:
    """Format a duration for people, to about two digits: `90 s`, `4 min`, `3 d`."""
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
