"""Live values as plain JSON without loss, to be hashed, shown and stored.

The rule: a number and a string with the same text stay different, and decoding returns what was encoded.
"""

from collections.abc import Mapping
from typing import Any

from allocsync.model.cloud import Json, NumberLiteral


def encode_lossless(value: Json) -> object:
    """Encode a value so that a number and a string with the same text differ, and JSON keeps both."""
    if isinstance(value, NumberLiteral):
        return {"number": value.text}
    if isinstance(value, Mapping):
        return {"object": [[key, encode_lossless(item)] for key, item in sorted(value.items())]}
    if isinstance(value, str | bool) or value is None:
        return value
    return [encode_lossless(item) for item in value]


def decode_lossless(value: Any) -> Json:  # noqa: ANN401 - what JSON gives back
    """Decode what `encode_lossless` returned; the keys of an object come sorted.

    Raises:
        ValueError: the data is something else.
    """
    match value:
        case str() | bool() | None:
            return value
        case list():
            return [decode_lossless(item) for item in value]
        case {"number": str(text)}:
            return NumberLiteral(text)
        case {"object": list(pairs)}:
            return {key: decode_lossless(item) for key, item in pairs}
    raise ValueError(f"not a tagged value: {value!r}")
