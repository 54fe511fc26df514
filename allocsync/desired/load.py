"""Files into a generation, or every reason why not.

The rules: what cannot be understood as a whole (a file that does not parse, an id in two places, a document
of another version) rejects the generation, and the last good one stays in force; a mistake inside one
allocation quarantines that one. The digest says what is declared: not comments, order or file names.
"""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from allocsync.desired import reading
from allocsync.desired.reading import FileSet
from allocsync.desired.schema import Declared, Document, read_document
from allocsync.desired.source import parse
from allocsync.desired.text import decode
from allocsync.errors import DesiredError, Problem
from allocsync.planning.model import AllocationId, Desired, Generation, Mode


@dataclass(frozen=True, slots=True)
class Loaded:
    """A generation, and the problems of the allocations that are quarantined in it."""

    generation: Generation
    problems: tuple[Problem, ...]


def load(path: Path, *, default_mode: Mode) -> Loaded:
    """Load a file or a directory.

    Raises:
        DesiredError: the generation must be rejected; every problem is in it.
    """
    return load_files(reading.read(path), default_mode=default_mode)


def load_files(files: FileSet, *, default_mode: Mode) -> Loaded:
    """Load what was read.

    Raises:
        DesiredError: the generation must be rejected; every problem is in it.
    """
    if files.trouble:
        raise DesiredError((Problem(files.name, 1, 1, "", files.trouble),))
    fatal: list[Problem] = []
    declared: dict[AllocationId, Declared] = {}
    for file in files.files:
        if file.trouble:
            fatal.append(Problem(file.name, 1, 1, "", file.trouble))
            continue
        for document in _documents(file.name, file.data, default_mode, fatal):
            fatal.extend(document.fatal)
            for entry in document.allocations:
                first = declared.setdefault(entry.id, entry)
                if first is not entry:
                    message = f"declared twice; first at {first.source.place(first.at)}"
                    fatal.append(entry.source.problem(entry.at, ("allocations", entry.id), message))
    problems = tuple(sorted(problem for entry in declared.values() for problem in entry.problems))
    if fatal:
        raise DesiredError((*fatal, *problems))
    return Loaded(_generation(declared, len(files.files)), problems)


def _documents(name: str, data: bytes, default_mode: Mode, fatal: list[Problem]) -> list[Document]:
    source = decode(name, data)
    if isinstance(source, Problem):
        fatal.append(source)
        return []
    nodes, problems = parse(source)
    fatal.extend(problems)
    if not nodes and not problems:
        fatal.append(
            Problem(name, 1, 1, "", "nothing is declared here; write `allocations: {}` to declare none")
        )
    if problems:
        return []  # what stands beside a mistake in the YAML itself may not mean what it seems to
    return [read_document(node, source, default_mode=default_mode) for node in nodes]


def _generation(declared: dict[AllocationId, Declared], files: int) -> Generation:
    allocations: dict[AllocationId, Desired] = {}
    quarantined: dict[AllocationId, tuple[str, ...]] = {}
    for key in sorted(declared):
        entry = declared[key]
        if entry.desired is not None:
            allocations[key] = entry.desired
        else:
            quarantined[key] = tuple(str(problem) for problem in sorted(entry.problems))
    digest = sha256()
    for desired in allocations.values():
        digest.update(json.dumps([desired.id, desired.mode, desired.leaves]).encode() + b"\n")
    for key, messages in quarantined.items():
        digest.update(json.dumps([key, None, messages]).encode() + b"\n")
    return Generation(digest.hexdigest(), allocations, quarantined, files)
