"""What a fault does to an answer: the status, the headers, the bytes, and how the connection ends.

The rule: what is done is what the table of faults says, whatever the client makes of it. `base` is the answer
that there would have been.

Left out: which fault it is (`faults`) and what becomes of an update (`app`).
"""

import asyncio
import socket
import struct
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus

from aiohttp import web

from allocsync.api import json_codec
from allocsync.model.cloud import Json
from allocsync.reference_server.faults import Body, Fault, Hit

TIMEOUT = "Gateway Timeout, request timed out."
_HTML = "<!doctype html><title>Sign in</title><p>Please sign in to continue.</p>"
_SOMEBODY = "00000000-0000-0000-0000-000000000000"
_NO_LINGER = struct.pack("ii", 1, 0)


class ResetError(Exception):
    """The connection was cut on purpose: there is no answer."""


async def strike(request: web.Request, hit: Hit, fault: Fault, base: Json) -> web.StreamResponse:
    """Do to the connection what the fault does, and return its answer, where it has one.

    Raises:
        ResetError: there is none.
    """
    if fault.waits:
        await asyncio.sleep(hit.timeout_seconds)
    match fault.body:
        case Body.RESET:
            _reset(request)
            raise ResetError
        case Body.CUT_OFF | Body.DRIPPING:
            return await _stream(request, hit, fault, json_codec.dumps(base))
        case Body.CLOUD:
            return json(json_codec.dumps(base))
        case Body.OTHER_ID:
            return json(json_codec.dumps({**base, "id": _SOMEBODY} if isinstance(base, dict) else base))
        case Body.HTML:
            return web.Response(status=fault.status, text=_HTML, content_type="text/html")
        case _:
            return _told(request, hit, fault)


def _told(request: web.Request, hit: Hit, fault: Fault) -> web.Response:
    headers = {}
    after = hit.knobs.retry_after
    if isinstance(after, str):
        headers["Retry-After"] = after
    elif after is not None:
        headers["Retry-After"] = format_datetime(datetime.now(UTC) + timedelta(seconds=after), usegmt=True)
    if fault.body is Body.REDIRECT:
        headers["Location"] = str(request.rel_url)
    if fault.body is Body.EMPTY:
        return web.Response(status=fault.status, headers=headers)
    phrase = TIMEOUT if fault.waits else HTTPStatus(fault.status).phrase
    return web.Response(status=fault.status, text=phrase, headers=headers)


async def _stream(request: web.Request, hit: Hit, fault: Fault, text: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(text)
    await response.prepare(request)
    if fault.body is Body.CUT_OFF:
        await response.write(text[: len(text) // 2])
        if request.transport is not None:
            request.transport.close()
        return response
    for index in range(len(text)):
        await response.write(text[index : index + 1])
        await asyncio.sleep(hit.drip_seconds)
    await response.write_eof()
    return response


def _reset(request: web.Request) -> None:
    """Cut the connection so that the client meets a reset and not an orderly end."""
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    request.transport.abort()


def json(text: bytes) -> web.Response:
    """200 with a JSON text."""
    return web.Response(body=text, content_type="application/json")
