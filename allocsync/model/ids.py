"""The ids of allocations, and which one a person means by the beginning of an id.

The rule: an id or a prefix of it means the same in every command and every request: the whole id, or at least
PREFIX_MIN characters that only one id begins with.

Left out: which ids can be declared at all (`desired.schema`).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import NewType

AllocationId = NewType("AllocationId", str)
PREFIX_MIN = 8  # a shorter prefix may be unique today and somebody else's tomorrow
SUGGESTIONS = 10


@dataclass(frozen=True, slots=True)
class NotFound:
    """The name fits no allocation, or more than one; `suggestions` are ids that begin alike."""

    why: str
    suggestions: tuple[AllocationId, ...]


def find(name: str, ids: Collection[AllocationId]) -> AllocationId | NotFound:
    """Which allocation has this id, or alone an id that begins with these 8 or more characters."""
    if (key := AllocationId(name)) in ids:
        return key
    fitting = _beginning(name, ids)
    if len(fitting) != 1 or len(name) < PREFIX_MIN:
        return _not_found(name, fitting, ids)
    return fitting[0]


def _beginning(start: str, ids: Iterable[AllocationId]) -> list[AllocationId]:
    return [key for key in ids if key.startswith(start)]


def _not_found(name: str, fitting: list[AllocationId], ids: Iterable[AllocationId]) -> NotFound:
    if len(fitting) > 1:
        why = f"{name} fits {len(fitting):,} allocations; give more of the id"
    elif fitting:
        why = f"{name} is too short: give the id, or the first {PREFIX_MIN} characters of it at least"
    else:
        why = f"{name}: no such allocation is declared"
        # A slip further back: the first characters, as they are shown everywhere, may still be right.
        fitting = _beginning(name[:PREFIX_MIN], ids) or _beginning(name[: PREFIX_MIN // 2], ids)
    return NotFound(why, tuple(islice(sorted(fitting), SUGGESTIONS)))
