"""The ids of allocations, and how an id or a prefix that a user gives selects one.

The rule: every command and every API call selects in the same way: by the whole id, or by a prefix of at
least PREFIX_MIN characters that exactly one id begins with.

Left out: which ids may be declared (`desired.schema`).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import NewType

AllocationId = NewType("AllocationId", str)
PREFIX_MIN = 8  # a shorter prefix may be unique now and select another allocation later
SUGGESTIONS = 10


@dataclass(frozen=True, slots=True)
class NotFound:
    """No single allocation is selected. `why` is the message; `suggestions` are ids that begin alike."""

    why: str
    suggestions: tuple[AllocationId, ...]


def find(name: str, ids: Collection[AllocationId]) -> AllocationId | NotFound:
    """Select an allocation by its id, or by a prefix of at least PREFIX_MIN characters that is unique."""
    if (key := AllocationId(name)) in ids:
        return key
    matching = _with_prefix(name, ids)
    if len(matching) != 1 or len(name) < PREFIX_MIN:
        return _not_found(name, matching, ids)
    return matching[0]


def _with_prefix(prefix: str, ids: Iterable[AllocationId]) -> list[AllocationId]:
    return [key for key in ids if key.startswith(prefix)]


def _not_found(name: str, matching: list[AllocationId], ids: Iterable[AllocationId]) -> NotFound:
    if len(matching) > 1:
        why = f"{name} matches {len(matching):,} allocations; give more of the id"
    elif matching:
        why = f"{name} is too short: give the id, or at least its first {PREFIX_MIN} characters"
    else:
        why = f"{name}: no such allocation is declared"
        # The typing error may be further back: ids are shown by their first characters.
        matching = _with_prefix(name[:PREFIX_MIN], ids) or _with_prefix(name[: PREFIX_MIN // 2], ids)
    return NotFound(why, tuple(islice(sorted(matching), SUGGESTIONS)))
