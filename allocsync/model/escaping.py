"""Shows a value that came from a server or a file, so that it cannot steer a terminal or a log. Pure.

The rule: whatever is not printable becomes the escape that Python writes for it.
"""

import json

from allocsync.model.cloud import Json
from allocsync.model.lossless_json import tagged


def visible(value: Json) -> str:
    """One live or desired value on one line."""
    if value is None:
        return "(absent)"
    text = value if isinstance(value, str) else json.dumps(tagged(value))
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def as_text(value: Json) -> str | None:
    """One live value for programs: text as it is, anything else as JSON; None where there is none."""
    return value if isinstance(value, str | None) else json.dumps(tagged(value))
