"""Makes text from a server or a file safe to print: no control character reaches a terminal. Pure.

The rule: every character that is not printable becomes its Python escape, a backslash and its code.

Left out: the two places that need another rule, and say why: `api.responses.to_one_line` and
`telemetry.log_setup`.
"""

import json

from allocsync.model.cloud import Json
from allocsync.model.lossless_json import encode_lossless


def escape(text: str) -> str:
    """The text on one line, with an escape for each character that is not printable."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def shorten(text: str, limit: int) -> str:
    """The text, or its first `limit` characters and an ellipsis."""
    return text if len(text) <= limit else f"{text[:limit]}…"


def visible(value: Json) -> str:
    """A live or desired value on one line, for people: None is `(absent)`, and what is not text is JSON."""
    text = as_text(value)
    return "(absent)" if text is None else escape(text)


def as_text(value: Json) -> str | None:
    """A live value for programs, unescaped: text as it is, None as None, anything else as JSON."""
    return value if isinstance(value, str | None) else json.dumps(encode_lossless(value))
