"""Checkpoint values as JSON with a checksum.

The rule: decoding returns the value that was encoded, or fails. The hash chain does not cover checkpoint
values, because they are overwritten, and a damaged value may still be valid JSON.

Left out: storing the values (`journal.database`).
"""

import json
from typing import Any
from zlib import crc32


def encode_with_checksum(key: str, value: object) -> str:
    """Encode a value as JSON text that is valid under this key only."""
    text = json.dumps(value, separators=(",", ":"))
    return f"{_sum(key, text)} {text}"


def decode_with_checksum(key: str, text: str) -> Any:  # noqa: ANN401 - any JSON
    """Decode what `encode_with_checksum` returned.

    Raises:
        ValueError: the text is damaged, or belongs to another key.
    """
    found, _, rest = text.partition(" ")
    if found != _sum(key, rest):
        raise ValueError(f"the checkpoint value under {key} is damaged")
    return json.loads(rest)


def _sum(key: str, text: str) -> str:
    return f"{crc32(f'{key} {text}'.encode()):08x}"
