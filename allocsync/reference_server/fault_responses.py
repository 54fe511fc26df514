"""Sends the response of a fault: its status, its headers, its bytes, and the end of the connection.

The rule: the response is what the table of faults says, whatever the client makes of it. `base` is the body
that the response would have without the fault.

Left out: which fault a request meets (`reference_server.faults`) and what becomes of an update
(`reference_server.handlers`).
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
from allocsync.reference_server.faults import Body, Fault, FaultDraw

GATEWAY_TIMEOUT_TEXT = "Gateway Timeout, request timed out."
_HTML = "<!doctype html><title>Sign in</title><p>Please sign in to continue.</p>"
_OTHER_ID = "00000000-0000-0000-0000-000000000000"
_NO_LINGER = struct.pack("ii", 1, 0)


class InjectedResetError(Exception):
    """A fault reset the connection, so there is no response."""


async def respond_with_fault(
    request: web.Request, draw: FaultDraw, fault: Fault, base: Json
) -> web.StreamResponse:
    """Wait, respond or reset as the fault says, and return the response.

    Raises:
        InjectedResetError: the fault resets the connection.
    """
    if fault.is_timeout:
        await asyncio.sleep(draw.timeout_seconds)
    match fault.body:
        case Body.RESET:
            _reset(request)
            raise InjectedResetError
        case Body.CUT_OFF | Body.DRIPPING:
            return await _stream_body(request, draw, fault, json_codec.dumps(base))
        case Body.CLOUD:
            return json_response(json_codec.dumps(base))
        case Body.OTHER_ID:
            return json_response(
                json_codec.dumps({**base, "id": _OTHER_ID} if isinstance(base, dict) else base)
            )
        case Body.HTML:
            return web.Response(status=fault.status, text=_HTML, content_type="text/html")
        case _:
            return _status_response(request, draw, fault)


def _status_response(request: web.Request, draw: FaultDraw, fault: Fault) -> web.Response:
    headers = {}
    after = draw.settings.retry_after
    if isinstance(after, str):
        headers["Retry-After"] = after
    elif after is not None:
        headers["Retry-After"] = format_datetime(datetime.now(UTC) + timedelta(seconds=after), usegmt=True)
    if fault.body is Body.REDIRECT:
        headers["Location"] = str(request.rel_url)
    if fault.body is Body.EMPTY:
        return web.Response(status=fault.status, headers=headers)
    phrase = GATEWAY_TIMEOUT_TEXT if fault.is_timeout else HTTPStatus(fault.status).phrase
    return web.Response(status=fault.status, text=phrase, headers=headers)


async def _stream_body(
    request: web.Request, draw: FaultDraw, fault: Fault, text: bytes
) -> web.StreamResponse:
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
        await asyncio.sleep(draw.drip_seconds)
    await response.write_eof()
    return response


def _reset(request: web.Request) -> None:
    """Close the connection with a TCP reset instead of an orderly end."""
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    request.transport.abort()


def json_response(text: bytes) -> web.Response:
    """Return a 200 response with this JSON text."""
    return web.Response(body=text, content_type="application/json")
