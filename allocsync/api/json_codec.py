"""Reads and writes the JSON of the API without loss.

The rules:
- A value that was read is written back as the same value, so that an update does not alter other fields.
  Numbers stay the literals that the server wrote (`1e400`, `1.10`, `-0`), and unknown fields stay. White
  space and the escapes in strings may differ; of a duplicate key only the last value is kept.
- NaN and Infinity are not JSON and are refused.
- A text nested deeper than MAX_DEPTH is refused when it is read, so that no recursive function overflows the
  stack. Writing does not check MAX_DEPTH.
- The time for a text is proportional to its length.

Left out: what the objects mean (`model.cloud`) and how they are received (`api.client`).
"""

import json
import re
from collections.abc import Iterator, Mapping
from json.encoder import encode_basestring_ascii
from typing import Any, NoReturn

from allocsync.model.cloud import Json, NumberLiteral

MAX_DEPTH = 64
# Possessive, and the closing quote is optional: otherwise a text full of escaped quotes takes quadratic time.
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


class CodecError(ValueError):
    """The text is not JSON, or the value cannot be written as JSON."""


def _refuse_constant(name: str) -> NoReturn:
    raise CodecError(f"{name} is not JSON")


def _refuse_depth(text: str) -> None:
    """Raise CodecError if brackets nest deeper than MAX_DEPTH. Fast if there are few brackets."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "{[" else -1
        if depth > MAX_DEPTH:
            raise CodecError(f"nested deeper than {MAX_DEPTH}")


# With these hooks the decoder returns `Json`, though its type says Any.
_DECODER = json.JSONDecoder(
    parse_float=NumberLiteral, parse_int=NumberLiteral, parse_constant=_refuse_constant
)


def loads(data: bytes | str) -> Json:
    """Parse one JSON text. Bytes are UTF-8.

    Raises:
        CodecError: the text is not UTF-8 or not JSON, contains NaN or Infinity, or is nested deeper than
            MAX_DEPTH.
    """
    try:
        text = data.decode() if isinstance(data, bytes) else data
        _refuse_depth(text)
        value: Any = _DECODER.decode(text)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CodecError(f"not JSON: {error}") from error
    return value  # type: ignore[no-any-return]


def load_at(text: str, start: int) -> tuple[Json, int]:
    """Parse the value that begins at `start`. Returns the value and the index after its last character.

    A number at the end of the text is returned as it is, though more of it may follow in the next text.

    Raises:
        CodecError: as `loads`, also if the text ends before the value does.
    """
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise CodecError(f"not JSON: {error}") from error
    except RecursionError as error:
        raise CodecError(f"nested deeper than {MAX_DEPTH}") from error
    if text.count("{", start, end) + text.count("[", start, end) > MAX_DEPTH:
        _refuse_depth(text[start:end])
    return value, end


def dumps(value: Json) -> bytes:
    """Return the value as JSON: ASCII, without spaces, keys in their order.

    Raises:
        CodecError: a part of the value is not `Json`, or the value is too deep for the stack of Python.
    """
    try:
        return "".join(_pieces(value)).encode("ascii")
    except (TypeError, RecursionError, UnicodeEncodeError) as error:
        raise CodecError(f"cannot be written as JSON: {error}") from error


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


def number_literal(value: float) -> NumberLiteral:
    """Return a Python number as a JSON literal.

    Raises:
        ValueError: the number is not finite.
    """
    return NumberLiteral(json.dumps(value, allow_nan=False))
