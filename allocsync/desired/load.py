"""Files in, one generation out; or every reason why not, at once.

The rule: what is wrong inside one allocation quarantines that one; anything else rejects the whole set,
because then nobody can say what it declares; two ids that only a machine can tell apart, too. A file that
holds nothing is rejected as well: far more often it is being written, or was cut off by a full disk, than it
is a wish that everything be disowned.

The digest is of what is declared: not of comments, order, file names or places. Errors come sorted by place,
and the same files always give the same ones.

Left out: reading files (`desired.reading`), YAML (`desired.source`), what fields there are (`desired.schema`)
and when to load (`desired.watch`).
"""

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from allocsync.desired import reading, schema, source
from allocsync.desired.text import SourceText, decode
from allocsync.errors import DesiredError, Problem
from allocsync.planning.model import AllocationId, Desired, Generation, Mode
from allocsync.planning.render import visible

_EMPTY = (
    "nothing is declared here; write `apiVersion: allocsync/v1` and `allocations: {}` to declare none, "
    "or remove the file"
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A generation, and what is wrong with the allocations in quarantine."""

    generation: Generation
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Examined:
    """All that can be said of a set: `loaded` is None when it is rejected; `problems` are all, sorted."""

    loaded: Loaded | None
    problems: tuple[Problem, ...]
    files: int


@dataclass(frozen=True, slots=True)
class _Found:
    """An allocation, and the place of its key."""

    entry: schema.Entry
    place: str


@dataclass(slots=True)
class _Gathered:
    """What the files declare, while they are judged; `alike` has the ids as `folded` makes them."""

    entries: dict[AllocationId, _Found] = field(default_factory=dict)
    alike: dict[str, AllocationId] = field(default_factory=dict)
    fatal: list[Problem] = field(default_factory=list)


def load(path: Path, *, default_mode: Mode) -> Loaded:
    """Load the file, or the directory of *.yaml and *.yml files, as one generation.

    Raises:
        DesiredError: the whole set is rejected; all of its problems.
    """
    return accept(examine(reading.read(path), default_mode=default_mode))


def accept(examined: Examined) -> Loaded:
    """Give what was loaded.

    Raises:
        DesiredError: the whole set is rejected; all of its problems.
    """
    if examined.loaded is None:
        raise DesiredError(examined.problems)
    return examined.loaded


def examine(files: reading.FileSet, *, default_mode: Mode) -> Examined:
    """Judge a set of files whole; raises nothing."""
    gathered = _Gathered()
    entries, fatal = gathered.entries, gathered.fatal
    if files.trouble:
        fatal.append(Problem(visible(files.name), 1, 1, "", files.trouble))
    for file in files.files:
        _examine_file(file, gathered, default_mode)
    quarantined = {key: found.entry.problems for key, found in entries.items() if found.entry.problems}
    problems = sorted({*fatal, *(problem for found in quarantined.values() for problem in found)})
    if fatal:
        return Examined(None, tuple(problems), len(files.files))
    allocations = {
        key: found.entry.desired for key, found in sorted(entries.items()) if found.entry.desired is not None
    }
    generation = Generation(
        digest=_digest(allocations, quarantined),
        allocations=allocations,
        quarantined={
            key: tuple(str(problem) for problem in sorted(found))
            for key, found in sorted(quarantined.items())
        },
        files=len(files.files),
    )
    return Examined(Loaded(generation, tuple(problems)), tuple(problems), len(files.files))


def _examine_file(file: reading.File, gathered: _Gathered, default_mode: Mode) -> None:
    fatal = gathered.fatal
    if file.trouble:
        fatal.append(Problem(visible(file.name), 1, 1, "", file.trouble))
        return
    text = decode(visible(file.name), file.data)
    if isinstance(text, Problem):
        fatal.append(text)
        return
    nodes, problems = source.parse(text, shrink=partial(schema.read_body, text))
    fatal.extend(problems)
    # An empty document (`---` before the first, or after the last) is a slip of the pen.
    declared = [node for node in nodes if not (isinstance(node, source.Scalar) and node.null)]
    if not declared and not problems:
        fatal.append(text.problem(0, (), _EMPTY))
    for node in declared:
        document = schema.read_document(text, node, default_mode=default_mode)
        fatal.extend(document.problems)
        for entry in document.entries:
            _put(text, entry, gathered)


def _put(text: SourceText, entry: schema.Entry, gathered: _Gathered) -> None:
    first = gathered.entries.setdefault(entry.id, _Found(entry, text.place(entry.at)))
    if first.entry is not entry:
        twice = f"declared twice; first at {first.place}"
        gathered.fatal.extend(
            (text.problem(entry.at, ("allocations", entry.id), twice), *entry.problems),
        )
        return
    alike = gathered.alike.setdefault(folded(entry.id), entry.id)
    if alike != entry.id:
        other = gathered.entries[alike]
        gathered.fatal.append(
            text.problem(
                entry.at,
                ("allocations", entry.id),
                f"looks like the id at {other.place} and differs only in {_difference(entry.id, alike)}; "
                "if both mean one allocation, remove one",
            )
        )


def folded(key: str) -> str:
    """Give the same for two ids that a person, or a server, may take for one."""
    if key.isascii():
        return key.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", key).casefold())


class DeclarableIds:
    """Ids of one set, asked for one after the other: which of them a file can declare together."""

    def __init__(self) -> None:
        self._alike: dict[str, str] = {}

    def wrong(self, key: str) -> str:
        """What is wrong with an id, by itself or beside those asked for before; empty where nothing is."""
        wrong = schema.wrong_id(key)
        if wrong:
            return wrong
        alike = self._alike.setdefault(folded(key), key)
        return "" if alike == key else f"it differs from {alike} only in {_difference(key, alike)}"


def _difference(one: str, other: str) -> str:
    same = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    return "how its accents are written" if same else "upper and lower case"


def _digest(
    allocations: Mapping[AllocationId, Desired], quarantined: Mapping[AllocationId, tuple[Problem, ...]]
) -> str:
    declared = [[key, desired.mode, desired.leaves] for key, desired in sorted(allocations.items())]
    held = [
        [key, sorted([problem.path, problem.message] for problem in found)]
        for key, found in sorted(quarantined.items())
    ]
    return hashlib.sha256(json.dumps([declared, held], separators=(",", ":")).encode("ascii")).hexdigest()
