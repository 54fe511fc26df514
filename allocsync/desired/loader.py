"""Files in, one generation out; or every reason why not, at once.

The rule: what is wrong inside one allocation quarantines that one; anything else rejects the whole set,
because then nobody can say what it declares; two ids that only a machine can tell apart, too. A file that
holds nothing is rejected as well: far more often it is being written, or was cut off by a full disk, than it
is a wish that everything be disowned.

The digest is of what is declared: not of comments, order, file names or places. Errors come sorted by place,
and the same files always give the same ones.

Left out: reading files (`desired.reading`), what each gives by itself (`desired.parts`) and when to load
(`desired.watch`).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from allocsync.desired import files
from allocsync.desired.file_cache import Key, Part, Parts
from allocsync.desired.similar_ids import difference, folded
from allocsync.errors import DesiredError, Problem
from allocsync.model.desired_state import Desired, Generation, Mode
from allocsync.model.escaping import visible
from allocsync.model.ids import AllocationId

T = TypeVar("T")


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
class _Merged:
    """What these parts declare together, sorted by id, and the line of each for the digest."""

    parts: Sequence[Part]
    allocations: Mapping[AllocationId, Desired]
    lines: Mapping[AllocationId, str]


class Loader:
    """Judges one set of files after the other, each whole; an edit costs little more than what it changes."""

    def __init__(self, *, default_mode: Mode) -> None:
        self._parts = Parts(default_mode=default_mode)
        self._merged = _Merged((), {}, {})  # of the last set that was not rejected

    def prepare(self, files: files.FileSet) -> None:
        """Parse what has to be parsed of it, because it will probably be examined."""
        self._parts.of(files)

    def examine(self, files: files.FileSet) -> Examined:
        """Judge this set; raises nothing."""
        parts, before = self._parts.of(files), self._merged
        same = _have_the_same_ids(parts, before.parts)
        fatal = [problem for part in parts for problem in part.fatal]
        if files.trouble:
            fatal.append(Problem(visible(files.name), 1, 1, "", files.trouble))
        if not same:
            fatal.extend(_clashes(parts))
        problems = tuple(sorted({*fatal, *(problem for part in parts for problem in part.problems)}))
        if fatal:
            return Examined(None, problems, len(files.files))
        merged = self._merged = _put_in(parts, before) if same else _merge(parts)
        return Examined(_loaded(merged, problems), problems, len(files.files))


def load(path: Path, *, default_mode: Mode) -> Loaded:
    """Load the file, or the directory of *.yaml and *.yml files, as one generation.

    Raises:
        DesiredError: the whole set is rejected; all of its problems.
    """
    return accept(examine(files.read(path), default_mode=default_mode))


def accept(examined: Examined) -> Loaded:
    """Give what was loaded.

    Raises:
        DesiredError: the whole set is rejected; all of its problems.
    """
    if examined.loaded is None:
        raise DesiredError(examined.problems)
    return examined.loaded


def examine(files: files.FileSet, *, default_mode: Mode) -> Examined:
    """Judge a set of files whole; raises nothing."""
    return Loader(default_mode=default_mode).examine(files)


def _have_the_same_ids(parts: Sequence[Part], before: Sequence[Part]) -> bool:
    """Whether each part has the ids that it had before, the same of them in quarantine."""
    return len(parts) == len(before) and all(
        part is other
        or (
            len(part.keys) == len(other.keys)
            and part.alike == other.alike
            and part.allocations.keys() == other.allocations.keys()
        )
        for part, other in zip(parts, before, strict=True)
    )


def _put_in(parts: Sequence[Part], before: _Merged) -> _Merged:
    """The same as `_merge`, where each part has the ids that it had before: each keeps its place."""
    allocations, lines = dict(before.allocations), dict(before.lines)
    for part, other in zip(parts, before.parts, strict=True):
        if part is not other:
            allocations.update(part.allocations)
            lines.update(part.lines)
    return _Merged(parts, allocations, lines)


def _merge(parts: Sequence[Part]) -> _Merged:
    allocations = _sorted([part.allocations for part in parts])
    return _Merged(parts, allocations, _sorted([part.lines for part in parts]))


def _loaded(merged: _Merged, problems: tuple[Problem, ...]) -> Loaded:
    quarantined = _sorted([part.quarantined for part in merged.parts])
    generation = Generation(
        digest=_digest(merged.lines.values(), quarantined),
        allocations=merged.allocations,
        quarantined={key: tuple(str(each) for each in sorted(found)) for key, found in quarantined.items()},
        files=len(merged.parts),
    )
    return Loaded(generation, problems)


def _clashes(parts: Sequence[Part]) -> Iterator[Problem]:
    """Ids that stand in two places, or that only a machine can tell apart."""
    alike: set[str] = set().union(*(part.alike for part in parts))
    if len(alike) == sum(len(part.keys) for part in parts):
        return  # without a look at each
    firsts: dict[AllocationId, Key] = {}
    folds: dict[str, Key] = {}
    for key in (key for part in parts for key in part.keys):
        first = firsts.setdefault(key.id, key)
        if first is not key:
            yield key.problem(f"declared twice; first at {first.place}")
            continue
        other = folds.setdefault(folded(key.id), key)
        if other is not key:
            yield key.problem(
                f"looks like the id at {other.place} and differs only in {difference(key.id, other.id)}; "
                "if both mean one allocation, remove one"
            )


def _sorted(mappings: Iterable[Mapping[AllocationId, T]]) -> dict[AllocationId, T]:
    """All of these in one, sorted."""
    found: dict[AllocationId, T] = {}
    for mapping in mappings:
        found.update(mapping)
    return {key: found[key] for key in sorted(found)}


def _digest(lines: Iterable[str], quarantined: Mapping[AllocationId, tuple[Problem, ...]]) -> str:
    held = [
        [key, sorted([problem.path, problem.message] for problem in found)]
        for key, found in quarantined.items()
    ]
    text = f"[[{','.join(lines)}],{json.dumps(held, separators=(',', ':'))}]"
    return hashlib.sha256(text.encode("ascii")).hexdigest()
