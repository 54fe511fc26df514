"""What an answer says of the API, apart from what it says of one allocation. Pure.

The rule: only what a busy server would do is load; only what meets everybody is a fault of the whole API. An
answer that refuses one body, or says that one allocation is gone, is an API that works.

    answer                                               result
    200, 202, 410, any other 4xx                         SERVED
    no answer after sending, 5xx, 408, 429               OVERLOADED
    no connection, 401, 403, 404, 3xx                    SHUT
    200 that cannot be used, any other 2xx               UNUSABLE

Left out: what follows for the allocation (`lane`), and for everybody (`limiter`, `breaker`).
"""

from enum import Enum, auto

from allocsync.model import api_answers


class ResponseClass(Enum):
    """How a request went, for whoever decides how many there may be."""

    SERVED = auto()
    OVERLOADED = auto()
    SHUT = auto()  # nobody is served: it is not reached, does not know us, or is not what answers
    UNUSABLE = auto()


_OVERLOADED = frozenset({408, 429})
_SHUT = frozenset({401, 403, 404})
_REDIRECT, _CLIENT_ERROR, _SERVER_ERROR = 300, 400, 500


def class_of(answer: api_answers.Snapshot | api_answers.UpdateAnswer) -> ResponseClass | None:
    """What this answer says of the API; None: nothing, because the request never left."""
    match answer:
        case api_answers.Live() | api_answers.Missing() | api_answers.Accepted():
            return ResponseClass.SERVED
        case api_answers.NotSent():
            return ResponseClass.SHUT if answer.unreachable else None
        case api_answers.Failed(unreachable=True):
            return ResponseClass.SHUT
        case _:
            return _of_status(answer.status)


def _of_status(status: int | None) -> ResponseClass:
    if status is None or status >= _SERVER_ERROR or status in _OVERLOADED:
        return ResponseClass.OVERLOADED
    if status in _SHUT or _REDIRECT <= status < _CLIENT_ERROR:
        return ResponseClass.SHUT
    return ResponseClass.SERVED if status >= _CLIENT_ERROR else ResponseClass.UNUSABLE
