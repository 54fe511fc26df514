"""Commands to the daemon over HTTP: POST /-/sync, /-/reload, /-/retry, /-/approve, /-/pause, /-/resume.

The rules: every command needs the token, whatever address the listener has; without it the answer says only
that. A command that cannot be carried out changes nothing and answers JSON with `error`. If the effect of a
command must survive a restart, the answer says whether it is stored. If it cannot be stored, the answer is
507 with `error`; the command is in force even so, and is stored as soon as possible.

Left out: where the token comes from (`runtime.listen_token`), pages that only show state (`web.server`),
and what a command does (`reconcile`).
"""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol, TypeAlias

from aiohttp import web

from allocsync.errors import AllocsyncError, JournalUnavailable
from allocsync.model.ids import NotFound
from allocsync.model.public_json import SCHEMA
from allocsync.model.times import WallTime
from allocsync.planning.rendering import count
from allocsync.reconcile.pause_control import MAX_PAUSE_SECONDS, Begun, Lifted
from allocsync.web import serializers

Body: TypeAlias = Mapping[str, Any]
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Result: TypeAlias = tuple[HTTPStatus, Mapping[str, object]]  # the status and the JSON object of a response
Command: TypeAlias = Callable[[Body], Result]
MAX_BODY_BYTES = 65_536
_MAX_TEXT_LENGTH = 200
# The commands whose effect must survive a restart: what a restart does if it is not stored.
_IF_NOT_STORED: Mapping[str, str] = {
    "retry": "a restart brings back the waits that it has ended",
    "approve": "after a restart the revision awaits approval again",
    "pause": "a restart forgets the pause",
    "resume": "after a restart the pause is in force again",
}


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
    AllocsyncError; the response is then 409 with its text. `flush` returns when all that the commands have
    changed is stored, and raises JournalUnavailable if it cannot be; it is given `flush_seconds`.
    """

    token: Callable[[], str]
    sync: Callable[[], int]
    reload: Callable[[], WallTime]
    approve: Callable[[str, str], int]
    retry: Callable[[str | None, str], int | NotFound]
    pauses: PauseCommands
    flush: Callable[[], Awaitable[None]]
    flush_seconds: float = 10.0


class WrongBodyError(AllocsyncError):
    """The body of the request is not valid; `str()` says why."""


def add_control_routes(app: web.Application, control: Control) -> None:
    """Add a route for each command."""

    def sync(_body: Body) -> Result:
        return HTTPStatus.ACCEPTED, {"allocations": control.sync()}

    def reload(_body: Body) -> Result:
        return HTTPStatus.ACCEPTED, {"reloading": True, "at": serializers.timestamp(control.reload())}

    def retry(body: Body) -> Result:
        retried = control.retry(_parse_name(body), parse_text(body, "owner", default=""))
        if isinstance(retried, NotFound):
            return HTTPStatus.NOT_FOUND, serializers.not_found(retried)
        return HTTPStatus.ACCEPTED, {"allocations": retried}

    def approve(body: Body) -> Result:
        changes = control.approve(parse_text(body, "revision"), parse_text(body, "owner", default=""))
        return HTTPStatus.OK, {"changes": changes}

    def pause(body: Body) -> Result:
        how = _parse_seconds(body), parse_text(body, "reason"), parse_text(body, "owner")
        begun = control.pauses.begin(_parse_name(body), seconds=how[0], reason=how[1], owner=how[2])
        if isinstance(begun, NotFound):
            return HTTPStatus.NOT_FOUND, serializers.not_found(begun)
        return HTTPStatus.OK, {"id": begun.key, "ends": begun.pause.ends}

    commands: Mapping[str, Command] = {
        "sync": sync,
        "reload": reload,
        "retry": retry,
        "approve": approve,
        "pause": pause,
        "resume": lambda body: _resume(control.pauses, body),
    }
    for name, run in commands.items():
        app.router.add_post(f"/-/{name}", _with_token(control, run, if_not_stored=_IF_NOT_STORED.get(name)))


def _resume(pauses: PauseCommands, body: Body) -> Result:
    name = _parse_name(body)
    lifted = pauses.lift(name, by=parse_text(body, "owner", default=""))
    if isinstance(lifted, NotFound):
        return HTTPStatus.NOT_FOUND, serializers.not_found(lifted)
    if not lifted.was_paused:
        what = (
            "there is no pause of everything" if name is None else f"{lifted.key} is not paused individually"
        )
        return HTTPStatus.CONFLICT, {"error": what + _describe_remaining(lifted)}
    everything = None if lifted.everything is None else str(lifted.everything)
    return HTTPStatus.OK, {"id": lifted.key, "others": lifted.others, "everything": everything}


def _json(result: Result, *, headers: Mapping[str, str] | None = None) -> web.Response:
    status, value = result
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


def _with_token(control: Control, run: Command, *, if_not_stored: str | None) -> Handler:
    """Return the handler of a command; `if_not_stored` is None if it has no effect that must be stored."""

    async def handle(request: web.Request) -> web.Response:
        if not _has_token(request.headers.get("Authorization", ""), control.token()):
            error = "a command needs the header `Authorization: Bearer TOKEN`, with the listen_token"
            return _json(
                (HTTPStatus.UNAUTHORIZED, {"error": error}),
                headers={"WWW-Authenticate": 'Bearer realm="allocsync"'},
            )
        try:
            result = run(_parse_object(await request.read()))
        except WrongBodyError as error:
            return _json((HTTPStatus.BAD_REQUEST, {"error": str(error)}))
        except AllocsyncError as error:
            return _json((HTTPStatus.CONFLICT, {"error": str(error)}))
        if if_not_stored is None or "error" in result[1]:
            return _json(result)
        return _json(await _stored(control, result, if_not_stored))

    return handle


async def _stored(control: Control, result: Result, if_not_stored: str) -> Result:
    """Wait until the effect of a command is stored; return its result with `stored`, or that of a failure."""
    status, value = result
    try:
        async with asyncio.timeout(control.flush_seconds):
            await control.flush()
    except JournalUnavailable as error:
        reason = f"the journal cannot be written ({error})"
    except TimeoutError:
        reason = f"the disk has not answered for {control.flush_seconds:g} s"
    else:
        return status, {**value, "stored": True}
    text = (
        f"in force, but not stored: {reason}, and {if_not_stored}. Make room on the "
        "disk of the state directory, or make it writable again: then it is stored by itself"
    )
    return HTTPStatus.INSUFFICIENT_STORAGE, {**value, "stored": False, "error": text}


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
