"""What a response says about the API as a whole, apart from the one allocation it is for. Pure.

The rule: only what a busy server returns counts as overload, and only what affects every request counts as
unavailable. A response that rejects one body, or says that one allocation is gone, comes from an API that
works.

    response                                             class
    200, 202, 410, any other 4xx                         SERVED
    no answer after sending, 5xx, 408, 429, 499          OVERLOADED
    no connection, 401, 403, 404, 3xx                    UNAVAILABLE
    200 that cannot be used, any other 2xx               UNUSABLE

Left out: what follows for the allocation (`allocation.managed_allocation`), and for all of them
(`concurrency`, `circuit_breaker`).
"""

from enum import Enum, auto

from allocsync.model import api_answers


class ResponseClass(Enum):
    """How a request went, as far as it affects how many requests may be in flight."""

    SERVED = auto()
    OVERLOADED = auto()
    UNAVAILABLE = auto()  # no request can succeed: no connection, no access, or not the API that responds
    UNUSABLE = auto()


_OVERLOADED = frozenset({408, 429, 499})
_UNAVAILABLE = frozenset({401, 403, 404})
_REDIRECT, _CLIENT_ERROR, _SERVER_ERROR = 300, 400, 500


def classify_response(answer: api_answers.Snapshot | api_answers.UpdateAnswer) -> ResponseClass | None:
    """The class of this response; None if no request was sent, so that it says nothing about the API."""
    match answer:
        case api_answers.Live() | api_answers.Missing() | api_answers.Accepted():
            return ResponseClass.SERVED
        case api_answers.NotSent():
            return ResponseClass.UNAVAILABLE if answer.unreachable else None
        case api_answers.Failed(unreachable=True):
            return ResponseClass.UNAVAILABLE
        case _:
            return _classify_status(answer.status)


def _classify_status(status: int | None) -> ResponseClass:
    if status is None or status >= _SERVER_ERROR or status in _OVERLOADED:
        return ResponseClass.OVERLOADED
    if status in _UNAVAILABLE or _REDIRECT <= status < _CLIENT_ERROR:
        return ResponseClass.UNAVAILABLE
    return ResponseClass.SERVED if status >= _CLIENT_ERROR else ResponseClass.UNUSABLE
