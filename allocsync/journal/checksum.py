"""What is remembered, as JSON behind a checksum.

No chain covers what is overwritten, and damage can look like sense. The rule: what comes back is what was
written, or an error.
"""

import json
from typing import Any
from zlib import crc32


def sealed(key: str, value: object) -> str:
    """The value as text, bound to its key."""
    text = json.dumps(value, separators=(",", ":"))
    return f"{_sum(key, text)} {text}"


def unsealed(key: str, text: str) -> Any:  # noqa: ANN401 - any JSON
    """The value that `sealed` made this of.

    Raises:
        ValueError: it is another text, or belongs to another key.
    """
    found, _, rest = text.partition(" ")
    if found != _sum(key, rest):
        raise ValueError(f"what is remembered under {key} is not what was written")
    return json.loads(rest)


def _sum(key: str, text: str) -> str:
    return f"{crc32(f'{key} {text}'.encode()):08x}"
