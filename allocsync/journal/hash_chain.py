"""The rows of the journal, and the chain of hashes through them. Pure.

The rule: the hash of each row covers the row and the hash before it, so that a row that is changed, removed
or inserted is detected. A chain cannot show that its end was cut off, or that all of it was rewritten; for
that, the hash of the last row is logged every hour, to be compared with.

Left out: storing rows (`journal.database`).
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256

from allocsync.model.times import WallTime

NOTHING_BEFORE = b"\0" * 32


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `at` is in Unix seconds; `intent` is the row number of the intent of an outcome."""

    sequence: int
    at: WallTime
    kind: str  # intent, outcome or gap
    allocation: str | None
    intent: int | None
    data: str  # JSON
    hash: bytes = b""


@dataclass(frozen=True, slots=True)
class Head:
    """The last row of a chain, or of its pruned part: row number and hash."""

    sequence: int = 0
    hash: bytes = NOTHING_BEFORE


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of verifying a chain: the number of rows, the last row, and the problems, if any."""

    rows: int
    head: Head
    problems: tuple[str, ...]


def link(before: bytes, row: Row) -> bytes:
    """Compute the hash of a row that follows the row with the hash `before`."""
    content = [row.sequence, row.at, row.kind, row.allocation, row.intent, row.data]
    return sha256(before + json.dumps(content, separators=(",", ":")).encode()).digest()


def check(anchor: Head, rows: Iterable[Row]) -> Checked:
    """Verify the chain from its anchor on. After a break, verification goes on with the hash as stored."""
    head, count, problems = anchor, 0, list[str]()
    for row in rows:
        count += 1
        problems.extend(_find_problems(head, row))
        head = Head(row.sequence, row.hash)
    return Checked(count, head, tuple(problems))


def _find_problems(head: Head, row: Row) -> Iterator[str]:
    if row.sequence != head.sequence + 1:
        yield f"row {head.sequence + 1} is not there: row {row.sequence} follows row {head.sequence}"
    elif link(head.hash, row) != row.hash:
        yield f"row {row.sequence} is not what was written, or the row before it is not"
    if row.kind == "outcome" and (row.intent is None or row.intent >= row.sequence):
        yield f"row {row.sequence} is an outcome of no intent"
