"""The rows of the journal and the chain of hashes through them. Pure.

Each row's hash covers the row and the hash before it, so that a row which is changed, taken out or put in
shows. What the chain alone cannot show is a cut tail, or a whole chain written anew: for that the head's hash
goes to the log every hour, to be compared with.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256

NOTHING_BEFORE = b"\0" * 32


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `at` is seconds since the epoch; `intent` is the row that an outcome belongs to."""

    sequence: int
    at: float
    kind: str  # intent, outcome, gap
    allocation: str | None
    intent: int | None
    data: str  # JSON
    hash: bytes = b""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain, or of the part of it that was pruned away."""

    sequence: int = 0
    hash: bytes = NOTHING_BEFORE


@dataclass(frozen=True, slots=True)
class Checked:
    """What checking a chain found: how many rows, up to where, and what is wrong (empty: nothing)."""

    rows: int
    head: Head
    problems: tuple[str, ...]


def link(before: bytes, row: Row) -> bytes:
    """The hash of a row that follows the one with the hash `before`."""
    content = [row.sequence, row.at, row.kind, row.allocation, row.intent, row.data]
    return sha256(before + json.dumps(content, separators=(",", ":")).encode()).digest()


def check(anchor: Head, rows: Iterable[Row]) -> Checked:
    """Follow the chain from its anchor. After a break it goes on from the row as it stands."""
    head, number, problems = anchor, 0, list[str]()
    for row in rows:
        number += 1
        problems.extend(_wrong(head, row))
        head = Head(row.sequence, row.hash)
    return Checked(number, head, tuple(problems))


def _wrong(head: Head, row: Row) -> Iterator[str]:
    if row.sequence != head.sequence + 1:
        yield f"row {head.sequence + 1} is not there: row {row.sequence} follows row {head.sequence}"
    elif link(head.hash, row) != row.hash:
        yield f"row {row.sequence} is not what was written, or the row before it is not"
    if row.kind == "outcome" and (row.intent is None or row.intent >= row.sequence):
        yield f"row {row.sequence} is an outcome of no intent"
