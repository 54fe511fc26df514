"""What can be asked of the daemon over HTTP: POST /-/sync, /-/reload and /-/approve.

The rules: every order shows the token, whatever address the listener has, and one without it learns nothing
but that. An order that cannot be carried out changes nothing and says why, as JSON with `error`.

Left out: who makes the token (`listen_token`), what is only looked at (`web`), and what an order does.
"""

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from aiohttp import web

from allocsync.errors import AllocsyncError

Body: TypeAlias = Mapping[str, Any]
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
MOST_BYTES = 65_536
_TEXT_LENGTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What an order has done. `approve` is given a digest and who it is that approves."""

    token: Callable[[], str]
    sync: Callable[[], int]
    reload: Callable[[], None]
    approve: Callable[[str, str], int]


class WrongBodyError(AllocsyncError):
    """The order's body is not what it must be; `str()` says what."""


def add_orders(app: web.Application, orders: Orders) -> None:
    """Add the routes."""

    def sync(_body: Body) -> web.Response:
        return web.json_response({"allocations": orders.sync()}, status=202)

    def reload(_body: Body) -> web.Response:
        orders.reload()
        return web.json_response({"reloading": True}, status=202)

    def approve(body: Body) -> web.Response:
        changes = orders.approve(text_of(body, "digest"), text_of(body, "owner", default=""))
        return web.json_response({"changes": changes})

    for name, act in (("sync", sync), ("reload", reload), ("approve", approve)):
        app.router.add_post(f"/-/{name}", _with_token(orders.token, act))


def text_of(body: Body, name: str, *, default: str | None = None) -> str:
    """A short text in the body, on one line.

    Raises:
        WrongBodyError: it is none.
    """
    text = body.get(name, default)
    if not isinstance(text, str) or len(text) > _TEXT_LENGTH or not (text.isprintable()):
        raise WrongBodyError(f"{name} must be a text of at most {_TEXT_LENGTH} characters on one line")
    return text


def _with_token(token: Callable[[], str], act: Callable[[Body], web.Response]) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        if not _shows(request.headers.get("Authorization", ""), token()):
            return web.json_response(
                {"error": "an order needs the header `Authorization: Bearer TOKEN`, with the listen_token"},
                status=401,
                headers={"WWW-Authenticate": 'Bearer realm="allocsync"'},
            )
        try:
            return act(_object(await request.read()))
        except WrongBodyError as error:
            return web.json_response({"error": str(error)}, status=400)
        except AllocsyncError as error:
            return web.json_response({"error": str(error)}, status=409)

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
