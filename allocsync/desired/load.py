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

from allocsync.desired import reading
from allocsync.desired.alike import difference, folded
from allocsync.desired.parts import Key, Part, Parts
from allocsync.errors import DesiredError, Problem
from allocsync.planning.model import AllocationId, Generation, Mode
from allocsync.planning.render import visible

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
    return merge(files, Parts(default_mode=default_mode).of(files))


def merge(files: reading.FileSet, parts: Sequence[Part]) -> Examined:
    """Judge a set by the part of each file; raises nothing."""
    fatal = [problem for part in parts for problem in part.fatal]
    if files.trouble:
        fatal.append(Problem(visible(files.name), 1, 1, "", files.trouble))
    fatal.extend(_clashes(parts))
    problems = tuple(sorted({*fatal, *(problem for part in parts for problem in part.problems)}))
    if fatal:
        return Examined(None, problems, len(files.files))
    allocations = _merged([part.allocations for part in parts])
    quarantined = _merged([part.quarantined for part in parts])
    lines = {key: line for part in parts for key, line in part.lines.items()}
    generation = Generation(
        digest=_digest([lines[key] for key in allocations], quarantined),
        allocations=allocations,
        quarantined={key: tuple(str(each) for each in sorted(found)) for key, found in quarantined.items()},
        files=len(files.files),
    )
    return Examined(Loaded(generation, problems), problems, len(files.files))


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


def _merged(mappings: Iterable[Mapping[AllocationId, T]]) -> dict[AllocationId, T]:
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
