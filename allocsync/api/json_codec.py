"""JSON as it travels: read without loss, written back to the letter.

The rule: what came in an answer goes back in an update unchanged. So numbers are kept as their literals
(`1e400`, `1.10`, `-0`), every field stays, and nothing is invented: NaN and Infinity are not JSON.
Bounded: nesting deeper than MAX_DEPTH is refused, so that no recursion here or later can run out of stack,
and the time that any text costs is proportional to its length.

Left out: what the objects mean (`planning.model`) and how they are fetched (`api.client`).
"""

import json
import re
from collections.abc import Iterator, Mapping
from json.encoder import encode_basestring_ascii
from typing import Any, NoReturn

from allocsync.model.cloud import Json, NumberLiteral

MAX_DEPTH = 64
# Possessive, and content to run to the end: an answer full of escaped quotes must not cost quadratic time.
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


class WireError(ValueError):
    """The text is not JSON that can be carried without loss."""


def _refuse_constant(name: str) -> NoReturn:
    raise WireError(f"{name} is not JSON")


def _refuse_depth(text: str) -> None:
    """Raise when brackets nest deeper than MAX_DEPTH; quick when there are few brackets at all."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "{[" else -1
        if depth > MAX_DEPTH:
            raise WireError(f"nested deeper than {MAX_DEPTH}")


# What `json` makes with these hooks is `Json`; only its own type says Any.
_DECODER = json.JSONDecoder(
    parse_float=NumberLiteral, parse_int=NumberLiteral, parse_constant=_refuse_constant
)


def loads(data: bytes | str) -> Json:
    """Read one JSON text.

    Raises:
        WireError: not UTF-8, not JSON, a NaN or an Infinity, or nested too deeply.
    """
    try:
        text = data.decode() if isinstance(data, bytes) else data
        _refuse_depth(text)
        value: Any = _DECODER.decode(text)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WireError(f"not JSON: {error}") from error
    return value  # type: ignore[no-any-return]


def load_at(text: str, start: int) -> tuple[Json, int]:
    """Read the value that begins at `start`; gives it and where it ends.

    Raises:
        WireError: as `loads`; the text may also simply end too early.
    """
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise WireError(f"not JSON: {error}") from error
    except RecursionError as error:
        raise WireError(f"nested deeper than {MAX_DEPTH}") from error
    if text.count("{", start, end) + text.count("[", start, end) > MAX_DEPTH:
        _refuse_depth(text[start:end])
    return value, end


def dumps(value: Json) -> bytes:
    """Write one JSON text: ASCII, no spaces, keys in the order they have.

    Raises:
        WireError: something in it is not `Json`, or it nests too deeply to be written.
    """
    try:
        return "".join(_pieces(value)).encode("ascii")
    except (TypeError, RecursionError, UnicodeEncodeError) as error:
        raise WireError(f"cannot be written as JSON: {error}") from error


def _pieces(value: Json) -> Iterator[str]:
    if value is None:
        yield "null"
    elif value is True:
        yield "true"
    elif value is False:
        yield "false"
    elif isinstance(value, str):
        yield encode_basestring_ascii(value)
    elif isinstance(value, NumberLiteral):
        yield value.text
    elif isinstance(value, Mapping):
        yield "{"
        for index, (key, item) in enumerate(value.items()):
            yield f"{',' if index else ''}{encode_basestring_ascii(key)}:"
            yield from _pieces(item)
        yield "}"
    else:
        yield "["
        for index, item in enumerate(value):
            if index:
                yield ","
            yield from _pieces(item)
        yield "]"


def number(value: float) -> NumberLiteral:
    """A Python number as a literal; only finite ones are JSON."""
    return NumberLiteral(json.dumps(value, allow_nan=False))
