"""What can be asked of the daemon over HTTP: POST /-/sync, /-/reload, /-/approve, /-/pause and /-/resume.

The rules: every order shows the token, whatever address the listener has, and one without it learns nothing
but that. An order that cannot be carried out changes nothing and says why, as JSON with `error`.

Left out: who makes the token (`listen_token`), what is only looked at (`web`), and what an order does.
"""

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from aiohttp import web

from allocsync.errors import AllocsyncError
from allocsync.model.ids import NotFound
from allocsync.model.public_json import SCHEMA
from allocsync.planning.rendering import count
from allocsync.reconcile.pause_control import MOST_SECONDS, Begun, Lifted
from allocsync.web import serializers

Body: TypeAlias = Mapping[str, Any]
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
MOST_BYTES = 65_536
_TEXT_LENGTH = 200


class Pausing(Protocol):
    """Sets and lifts pauses; a name of None means all allocations."""

    def begin(self, name: str | None, *, seconds: float, reason: str, owner: str) -> Begun | NotFound:
        """Send nothing for so long."""

    def lift(self, name: str | None, *, by: str) -> Lifted | NotFound:
        """End a pause before its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What an order has done. `approve` is given a digest and who it is that approves."""

    token: Callable[[], str]
    sync: Callable[[], int]
    reload: Callable[[], None]
    approve: Callable[[str, str], int]
    pauses: Pausing


class WrongBodyError(AllocsyncError):
    """The order's body is not what it must be; `str()` says what."""


def add_orders(app: web.Application, orders: Orders) -> None:
    """Add the routes."""

    def sync(_body: Body) -> web.Response:
        return _json({"allocations": orders.sync()}, status=202)

    def reload(_body: Body) -> web.Response:
        orders.reload()
        return _json({"reloading": True}, status=202)

    def approve(body: Body) -> web.Response:
        changes = orders.approve(text_of(body, "revision"), text_of(body, "owner", default=""))
        return _json({"changes": changes})

    def pause(body: Body) -> web.Response:
        how = _how_long(body), text_of(body, "reason"), text_of(body, "owner")
        begun = orders.pauses.begin(_name(body), seconds=how[0], reason=how[1], owner=how[2])
        if isinstance(begun, NotFound):
            return _json(serializers.not_found(begun), status=404)
        return _json({"id": begun.key, "ends": begun.pause.ends})

    def resume(body: Body) -> web.Response:
        name = _name(body)
        lifted = orders.pauses.lift(name, by=text_of(body, "owner", default=""))
        if isinstance(lifted, NotFound):
            return _json(serializers.not_found(lifted), status=404)
        if not lifted.there:
            what = (
                "there is no pause of everything" if name is None else f"{lifted.key} is not paused by itself"
            )
            return _json({"error": what + _still(lifted)}, status=409)
        everything = None if lifted.everything is None else str(lifted.everything)
        return _json({"id": lifted.key, "others": lifted.others, "everything": everything})

    acts = {"sync": sync, "reload": reload, "approve": approve, "pause": pause, "resume": resume}
    for name, act in acts.items():
        app.router.add_post(f"/-/{name}", _with_token(orders.token, act))


def _json(
    value: Mapping[str, object], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.json_response({"schema": SCHEMA, **value}, status=status, headers=headers)


def text_of(body: Body, name: str, *, default: str | None = None) -> str:
    """A short text in the body, on one line.

    Raises:
        WrongBodyError: it is none.
    """
    text = body.get(name, default)
    proper = isinstance(text, str) and len(text) <= _TEXT_LENGTH and text.isprintable()
    if not isinstance(text, str) or not proper or (default is None and not text.strip()):
        raise WrongBodyError(f"{name} must be a text of at most {_TEXT_LENGTH} characters on one line")
    return text


def _name(body: Body) -> str | None:
    """The allocation that the body names, None where it says `"all": true`.

    Raises:
        WrongBodyError: it says neither, or both.
    """
    everything = body.get("all", False)
    if not isinstance(everything, bool) or everything == ("id" in body):
        raise WrongBodyError('the body must have either "id" or "all": true')
    return None if everything else text_of(body, "id")


def _how_long(body: Body) -> float:
    seconds = body.get("seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MOST_SECONDS:
        raise WrongBodyError(f"seconds must be a number above 0 and at most {MOST_SECONDS:.0f}")
    return float(seconds)


def _still(lifted: Lifted) -> str:
    """Which pauses there are all the same."""
    if lifted.everything is not None:
        return f"; everything is {lifted.everything}"
    if lifted.key is None and lifted.others:
        return f"; {count(lifted.others, 'allocation')} paused by themselves"
    return ""


def _with_token(token: Callable[[], str], act: Callable[[Body], web.Response]) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        if not _shows(request.headers.get("Authorization", ""), token()):
            return _json(
                {"error": "an order needs the header `Authorization: Bearer TOKEN`, with the listen_token"},
                status=401,
                headers={"WWW-Authenticate": 'Bearer realm="allocsync"'},
            )
        try:
            return act(_object(await request.read()))
        except WrongBodyError as error:
            return _json({"error": str(error)}, status=400)
        except AllocsyncError as error:
            return _json({"error": str(error)}, status=409)

    return handle


def _shows(header: str, token: str) -> bool:
    scheme, _, shown = header.partition(" ")
    same = hmac.compare_digest(shown.strip().encode(errors="replace"), token.encode())
    return scheme.lower() == "bearer" and same


def _object(data: bytes) -> Body:
    """The body; an empty one is an empty object.

    Raises:
        WrongBodyError: it is no JSON object.
    """
    try:
        value = json.loads(data or b"{}")
    except (ValueError, RecursionError) as error:
        raise WrongBodyError("the body must be a JSON object") from error
    if not isinstance(value, dict):
        raise WrongBodyError("the body must be a JSON object")
    return value
