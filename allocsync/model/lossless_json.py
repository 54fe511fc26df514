"""Values of live objects as plain JSON that loses nothing: to hash, to show and to write down.

The rule: a number and the text of it stay two things, and what was written down comes back equal.
"""

from collections.abc import Mapping
from typing import Any

from allocsync.model.cloud import Json, NumberLiteral


def tagged(value: Json) -> object:
    """The value in a form in which a number and the text of it differ, and JSON keeps both."""
    if isinstance(value, NumberLiteral):
        return {"number": value.text}
    if isinstance(value, Mapping):
        return {"object": [[key, tagged(item)] for key, item in sorted(value.items())]}
    if isinstance(value, str | bool) or value is None:
        return value
    return [tagged(item) for item in value]


def untagged(value: Any) -> Json:  # noqa: ANN401 - what JSON gives back
    """The value that `tagged` was given (an object's keys sorted).

    Raises:
        ValueError: nothing that `tagged` makes.
    """
    match value:
        case str() | bool() | None:
            return value
        case list():
            return [untagged(item) for item in value]
        case {"number": str(text)}:
            return NumberLiteral(text)
        case {"object": list(pairs)}:
            return {key: untagged(item) for key, item in pairs}
    raise ValueError(f"not a tagged value: {value!r}")
