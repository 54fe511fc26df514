"""Commands to the daemon over HTTP: POST /-/sync, /-/reload, /-/retry, /-/approve, /-/pause, /-/resume.

The rules: every command needs the token, whatever address the listener has; without it the answer says only
that. A command that cannot be carried out changes nothing and answers JSON with `error`.

Left out: where the token comes from (`runtime.listen_token`), pages that only show state (`web.server`),
and what a command does (`reconcile`).
"""

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

from aiohttp import web

from allocsync.errors import AllocsyncError
from allocsync.model.ids import NotFound
from allocsync.model.public_json import SCHEMA
from allocsync.model.times import WallTime
from allocsync.planning.rendering import count
from allocsync.reconcile.pause_control import MAX_PAUSE_SECONDS, Begun, Lifted
from allocsync.web import serializers

Body: TypeAlias = Mapping[str, Any]
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
MAX_BODY_BYTES = 65_536
_MAX_TEXT_LENGTH = 200


class PauseCommands(Protocol):
    """Begins and ends pauses; a name of None means all allocations."""

    def begin(self, name: str | None, *, seconds: float, reason: str, owner: str) -> Begun | NotFound:
        """Send no update for so many seconds."""

    def lift(self, name: str | None, *, by: str) -> Lifted | NotFound:
        """End a pause early. If there is none, nothing is raised: `was_paused` of the result is False."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The functions that carry out the commands.

    `token` returns the current token. `sync` returns how many allocations will be read. `reload` returns when
    it was asked (Unix seconds). `approve` is called with a revision (or its first digits) and the owner of
    the approval, and returns how many allocations may change. `retry` is called with a name, or None for all,
    and the owner; it returns how many allocations are tried again. A function refuses a command by an
    AllocsyncError; the response is then 409 with its text.
    """

    token: Callable[[], str]
    sync: Callable[[], int]
    reload: Callable[[], WallTime]
    approve: Callable[[str, str], int]
    retry: Callable[[str | None, str], int | NotFound]
    pauses: PauseCommands


class WrongBodyError(AllocsyncError):
    """The body of the request is not valid; `str()` says why."""


def add_control_routes(app: web.Application, control: Control) -> None:
    """Add a route for each command."""

    def sync(_body: Body) -> web.Response:
        return _json({"allocations": control.sync()}, status=202)

    def reload(_body: Body) -> web.Response:
        return _json({"reloading": True, "at": serializers.timestamp(control.reload())}, status=202)

    def approve(body: Body) -> web.Response:
        changes = control.approve(parse_text(body, "revision"), parse_text(body, "owner", default=""))
        return _json({"changes": changes})

    def pause(body: Body) -> web.Response:
        how = _parse_seconds(body), parse_text(body, "reason"), parse_text(body, "owner")
        begun = control.pauses.begin(_parse_name(body), seconds=how[0], reason=how[1], owner=how[2])
        if isinstance(begun, NotFound):
            return _json(serializers.not_found(begun), status=404)
        return _json({"id": begun.key, "ends": begun.pause.ends})

    def resume(body: Body) -> web.Response:
        name = _parse_name(body)
        lifted = control.pauses.lift(name, by=parse_text(body, "owner", default=""))
        if isinstance(lifted, NotFound):
            return _json(serializers.not_found(lifted), status=404)
        if not lifted.was_paused:
            what = (
                "there is no pause of everything"
                if name is None
                else f"{lifted.key} is not paused individually"
            )
            return _json({"error": what + _describe_remaining(lifted)}, status=409)
        everything = None if lifted.everything is None else str(lifted.everything)
        return _json({"id": lifted.key, "others": lifted.others, "everything": everything})

    commands: Mapping[str, Callable[[Body], web.Response]] = {
        "sync": sync,
        "reload": reload,
        "retry": partial(_retry, control),
        "approve": approve,
        "pause": pause,
        "resume": resume,
    }
    for name, run in commands.items():
        app.router.add_post(f"/-/{name}", _with_token(control.token, run))


def _retry(control: Control, body: Body) -> web.Response:
    retried = control.retry(_parse_name(body), parse_text(body, "owner", default=""))
    if isinstance(retried, NotFound):
        return _json(serializers.not_found(retried), status=404)
    return _json({"allocations": retried}, status=202)


def _json(
    value: Mapping[str, object], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.json_response({"schema": SCHEMA, **value}, status=status, headers=headers)


def parse_text(body: Body, name: str, *, default: str | None = None) -> str:
    """Return a short text of the body; it may be absent or blank only if there is a `default`.

    Raises:
        WrongBodyError: it is not a text on one line of at most _MAX_TEXT_LENGTH characters.
    """
    text = body.get(name, default)
    proper = isinstance(text, str) and len(text) <= _MAX_TEXT_LENGTH and text.isprintable()
    if not isinstance(text, str) or not proper or (default is None and not text.strip()):
        raise WrongBodyError(f"{name} must be a text of at most {_MAX_TEXT_LENGTH} characters on one line")
    return text


def _parse_name(body: Body) -> str | None:
    """Return the `id` of the body, or None if the body has `"all": true` instead.

    Raises:
        WrongBodyError: the body has neither or both.
    """
    everything = body.get("all", False)
    if not isinstance(everything, bool) or everything == ("id" in body):
        raise WrongBodyError('the body must have either "id" or "all": true')
    return None if everything else parse_text(body, "id")


def _parse_seconds(body: Body) -> float:
    seconds = body.get("seconds")
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, int | float)
        or not 0 < seconds <= MAX_PAUSE_SECONDS
    ):
        raise WrongBodyError(f"seconds must be a number above 0 and at most {MAX_PAUSE_SECONDS:.0f}")
    return float(seconds)


def _describe_remaining(lifted: Lifted) -> str:
    """Say which other pauses there are."""
    if lifted.everything is not None:
        return f"; everything is {lifted.everything}"
    if lifted.key is None and lifted.others:
        return f"; {count(lifted.others, 'allocation')} paused individually"
    return ""


def _with_token(token: Callable[[], str], run: Callable[[Body], web.Response]) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        if not _has_token(request.headers.get("Authorization", ""), token()):
            return _json(
                {"error": "a command needs the header `Authorization: Bearer TOKEN`, with the listen_token"},
                status=401,
                headers={"WWW-Authenticate": 'Bearer realm="allocsync"'},
            )
        try:
            return run(_parse_object(await request.read()))
        except WrongBodyError as error:
            return _json({"error": str(error)}, status=400)
        except AllocsyncError as error:
            return _json({"error": str(error)}, status=409)

    return handle


def _has_token(header: str, token: str) -> bool:
    scheme, _, shown = header.partition(" ")
    same = hmac.compare_digest(shown.strip().encode(errors="replace"), token.encode())
    return scheme.lower() == "bearer" and same


def _parse_object(data: bytes) -> Body:
    """Parse the body; an empty body is an empty object.

    Raises:
        WrongBodyError: it is not a JSON object.
    """
    try:
        value = json.loads(data or b"{}")
    except (ValueError, RecursionError) as error:
        raise WrongBodyError("the body must be a JSON object") from error
    if not isinstance(value, dict):
        raise WrongBodyError("the body must be a JSON object")
    return value
