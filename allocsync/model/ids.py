"""Allocation ids, and which allocation a person means by the first characters of an id.

The rule: every command and every request that names an allocation uses `find`, so that the same name means
the same allocation everywhere: the whole id, or at least PREFIX_MIN characters with which exactly one id
begins.

Left out: which ids can be declared (`desired.schema`), and `allocsync history`, whose ID is a filter and may
select several allocations.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import NewType

AllocationId = NewType("AllocationId", str)
PREFIX_MIN = 8  # a shorter prefix that is unique today may be ambiguous tomorrow
SUGGESTIONS = 10


@dataclass(frozen=True, slots=True)
class NotFound:
    """The name selects no allocation or several, or is a prefix shorter than PREFIX_MIN.

    `why` is a message for people. `suggestions` holds at most SUGGESTIONS ids, sorted, that begin with the
    name or at least with its first characters.
    """

    why: str
    suggestions: tuple[AllocationId, ...]


def find(name: str, ids: Collection[AllocationId], *, among: str = "declared") -> AllocationId | NotFound:
    """Find the allocation that a person named by its id or by a prefix of it.

    `ids` should have a fast membership test (a set or a mapping). `among` is the word that says in the
    message which ids were searched.
    """
    if (key := AllocationId(name)) in ids:
        return key
    matches = _starting_with(name, ids)
    if len(matches) != 1 or len(name) < PREFIX_MIN:
        return _not_found(name, matches, ids, among)
    return matches[0]


def _starting_with(prefix: str, ids: Iterable[AllocationId]) -> list[AllocationId]:
    return [key for key in ids if key.startswith(prefix)]


def _not_found(name: str, matches: list[AllocationId], ids: Iterable[AllocationId], among: str) -> NotFound:
    if len(matches) > 1:
        why = f"{name} matches {len(matches):,} allocations; give more characters of the id"
    elif matches:
        why = f"{name} is too short: give the whole id, or at least its first {PREFIX_MIN} characters"
    else:
        why = f"{name}: no such allocation is {among}"
        # The typing error may be further back: the first characters may still be right.
        matches = _starting_with(name[:PREFIX_MIN], ids) or _starting_with(name[: PREFIX_MIN // 2], ids)
    return NotFound(why, tuple(islice(sorted(matches), SUGGESTIONS)))
