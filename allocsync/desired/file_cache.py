"""Parses the files of the desired state, and keeps the result for files that do not change.

The rules: the result depends only on the name and the bytes of the file. It is kept as long as both stay the
same, which a hash of the content decides and never the modification time. So a kept result equals the result
of parsing the file again. Only results for the files of the last set are kept.

A result is in the shape that `desired.loader` can merge without visiting each allocation: even with 100,000
allocations, the cost of an edit depends on the size of the edit.

Left out: the syntax and its errors (`yaml_parser`, `yaml_syntax_errors`, `source_text`), what a declaration
may say (`schema`), and checks across files (`loader`).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from allocsync.desired import schema, yaml_parser
from allocsync.desired.files import File, FileSet
from allocsync.desired.similar_ids import fold
from allocsync.desired.source_text import decode, path
from allocsync.errors import Problem
from allocsync.model.desired_state import Desired, Mode
from allocsync.model.escaping import escape
from allocsync.model.ids import AllocationId

_EMPTY = (
    "this file declares nothing; write `apiVersion: allocsync/v1` and `allocations: {}` to declare none, "
    "or remove the file"
)


class IdLocation(NamedTuple):
    """An allocation id and its location; `line` and `column` count from 1."""

    id: AllocationId
    file: str
    line: int
    column: int

    @property
    def place(self) -> str:
        """`file:line:column`, for messages."""
        return f"{self.file}:{self.line}:{self.column}"

    def problem(self, message: str) -> Problem:
        """Make a problem at this location."""
        return Problem(self.file, self.line, self.column, path(("allocations", self.id)), message)


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """The result for one file: `fatal` problems reject the whole set, `problems` quarantine one allocation.

    If an id is declared twice in the file, the mappings have one of the two; the set is rejected anyway.
    """

    fatal: tuple[Problem, ...] = ()
    problems: tuple[Problem, ...] = ()
    keys: tuple[IdLocation, ...] = ()
    folded_ids: frozenset[str] = frozenset()  # the ids after `similar_ids.fold`
    allocations: Mapping[AllocationId, Desired] = field(default_factory=dict)
    lines: Mapping[AllocationId, str] = field(default_factory=dict)  # for the hash: each allocation as JSON
    quarantined: Mapping[AllocationId, tuple[Problem, ...]] = field(default_factory=dict)


class FileCache:
    """Parses one set of files after the other, and keeps the results of the last set."""

    def __init__(self, *, default_mode: Mode) -> None:
        self._default_mode = default_mode
        self._by_content: Mapping[tuple[str, str, bytes], ParsedFile] = {}

    def parse(self, files: FileSet) -> Sequence[ParsedFile]:
        """Return the result for each file, in their order; raises nothing."""
        previous = self._by_content
        parsed_files = {}
        for file in files.files:
            key = (file.name, file.error, hashlib.sha256(file.data).digest())
            parsed_files[key] = previous.get(key) or _parse_file(file, self._default_mode)
        # In one assignment: a thread whose caller was cancelled may still be parsing the previous set.
        self._by_content = parsed_files
        return tuple(parsed_files.values())


def _parse_file(file: File, default_mode: Mode) -> ParsedFile:
    if file.error:
        return ParsedFile((Problem(escape(file.name), 1, 1, "", file.error),))
    text = decode(escape(file.name), file.data)
    if isinstance(text, Problem):
        return ParsedFile((text,))
    nodes, problems = yaml_parser.parse(text, reduce=partial(schema.read_body, text))
    fatal = [*problems]
    # An empty document (a `---` before the first or after the last) is harmless and ignored.
    declared = [node for node in nodes if not (isinstance(node, yaml_parser.ScalarNode) and node.is_null)]
    if not declared and not problems:
        fatal.append(text.problem(0, (), _EMPTY))
    entries: list[schema.Entry] = []
    for node in declared:
        document = schema.read_document(text, node, default_mode=default_mode)
        fatal.extend(document.problems)
        entries.extend(document.entries)
    allocations = {entry.id: entry.desired for entry in entries if entry.desired is not None}
    return ParsedFile(
        fatal=tuple(fatal),
        problems=tuple(problem for entry in entries for problem in entry.problems),
        keys=tuple(IdLocation(entry.id, text.file, *text.position(entry.offset)) for entry in entries),
        folded_ids=frozenset(fold(entry.id) for entry in entries),
        allocations=allocations,
        lines={key: _canonical_line(desired) for key, desired in allocations.items()},
        quarantined={entry.id: entry.problems for entry in entries if entry.problems},
    )


def _canonical_line(desired: Desired) -> str:
    """The declaration as JSON, without its location."""
    return json.dumps([desired.id, desired.mode, desired.fields], separators=(",", ":"))
