"""What each file gives by itself; a file that has not changed is not parsed again.

The rule: a part depends on nothing but the name and the bytes of its file. So it may be kept for as long as
the file has both, told by a hash and never by a modification time, and what is made of kept parts is what is
made of new ones. Parts of files that are gone, or have changed, go: there are never more than files.

A part is in the shape that `desired.load` can merge without looking at each allocation: with a hundred
thousand of them an edit should cost what it changes.

Left out: what two files say together (`desired.load`).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from allocsync.desired import schema, yaml_parser
from allocsync.desired.files import File, FileSet
from allocsync.desired.similar_ids import folded
from allocsync.desired.source_text import decode, path
from allocsync.errors import Problem
from allocsync.model.desired_state import Desired, Mode
from allocsync.model.escaping import visible
from allocsync.model.ids import AllocationId

_EMPTY = (
    "nothing is declared here; write `apiVersion: allocsync/v1` and `allocations: {}` to declare none, "
    "or remove the file"
)


class Key(NamedTuple):
    """The key of an allocation, and where it stands."""

    id: AllocationId
    file: str
    line: int
    column: int

    @property
    def place(self) -> str:
        """As people are told of it."""
        return f"{self.file}:{self.line}:{self.column}"

    def problem(self, message: str) -> Problem:
        """Say what is wrong with it."""
        return Problem(self.file, self.line, self.column, path(("allocations", self.id)), message)


@dataclass(frozen=True, slots=True)
class Part:
    """What one file gives: `fatal` rejects the whole set, `problems` are those of its allocations.

    Of an id that stands in it twice the mappings have one; it does not matter which, the set is rejected.
    """

    fatal: tuple[Problem, ...] = ()
    problems: tuple[Problem, ...] = ()
    keys: tuple[Key, ...] = ()
    alike: frozenset[str] = frozenset()  # their ids as `folded` makes them
    allocations: Mapping[AllocationId, Desired] = field(default_factory=dict)
    lines: Mapping[AllocationId, str] = field(default_factory=dict)  # of each of these, for the digest
    quarantined: Mapping[AllocationId, tuple[Problem, ...]] = field(default_factory=dict)


class Parts:
    """Gives the parts of one set of files after the other; keeps those of the last set."""

    def __init__(self, *, default_mode: Mode) -> None:
        self._default_mode = default_mode
        self._kept: Mapping[tuple[str, str, bytes], Part] = {}

    def of(self, files: FileSet) -> Sequence[Part]:
        """The part of each file, in their order; raises nothing."""
        known = self._kept
        parts = {}
        for file in files.files:
            key = (file.name, file.trouble, hashlib.sha256(file.data).digest())
            parts[key] = known.get(key) or _part(file, self._default_mode)
        # In one step: a thread that nobody waits for any more may still be at the set before.
        self._kept = parts
        return tuple(parts.values())


def _part(file: File, default_mode: Mode) -> Part:
    if file.trouble:
        return Part((Problem(visible(file.name), 1, 1, "", file.trouble),))
    text = decode(visible(file.name), file.data)
    if isinstance(text, Problem):
        return Part((text,))
    nodes, problems = yaml_parser.parse(text, shrink=partial(schema.read_body, text))
    fatal = [*problems]
    # An empty document (`---` before the first, or after the last) is a slip of the pen.
    declared = [node for node in nodes if not (isinstance(node, yaml_parser.Scalar) and node.null)]
    if not declared and not problems:
        fatal.append(text.problem(0, (), _EMPTY))
    entries: list[schema.Entry] = []
    for node in declared:
        document = schema.read_document(text, node, default_mode=default_mode)
        fatal.extend(document.problems)
        entries.extend(document.entries)
    allocations = {entry.id: entry.desired for entry in entries if entry.desired is not None}
    return Part(
        fatal=tuple(fatal),
        problems=tuple(problem for entry in entries for problem in entry.problems),
        keys=tuple(Key(entry.id, text.file, *text.position(entry.at)) for entry in entries),
        alike=frozenset(folded(entry.id) for entry in entries),
        allocations=allocations,
        lines={key: _line(desired) for key, desired in allocations.items()},
        quarantined={entry.id: entry.problems for entry in entries if entry.problems},
    )


def _line(desired: Desired) -> str:
    """What is declared, and nothing of where."""
    return json.dumps([desired.id, desired.mode, desired.leaves], separators=(",", ":"))
