"""Turns files into one revision of the desired state, or lists every error in them.

The rules: an error inside one allocation quarantines that allocation. Any other error rejects the whole set,
because nobody can tell what it was meant to declare; so do two ids that are easily confused. A file that
declares nothing is rejected, too: it is far more likely to be half written, or cut off by a full disk, than
meant to release every allocation.

The id of a revision is a hash of the declarations and of the errors that quarantine allocations; comments,
order, file names and lines do not count. Errors are sorted by location, and the same files always give the
same errors.

Left out: reading files (`desired.files`), parsing each one (`desired.file_cache`) and when to load
(`desired.watcher`).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from allocsync.desired import files
from allocsync.desired.file_cache import FileCache, IdLocation, ParsedFile
from allocsync.desired.similar_ids import describe_difference, fold
from allocsync.errors import DesiredError, Problem
from allocsync.model.desired_state import Desired, Mode, Revision
from allocsync.model.escaping import escape
from allocsync.model.ids import AllocationId

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A revision, and the errors of its quarantined allocations."""

    revision: Revision
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Examined:
    """The result for a set of files: `loaded` is None if it is rejected; `problems` are sorted."""

    loaded: Loaded | None
    problems: tuple[Problem, ...]
    files: int


@dataclass(frozen=True, slots=True)
class _Merged:
    """What all files declare together, sorted by id; `lines` has each allocation as JSON, for the hash."""

    parsed_files: Sequence[ParsedFile]
    allocations: Mapping[AllocationId, Desired]
    lines: Mapping[AllocationId, str]


class Loader:
    """Examines one set of files after the other; the cost of an edit depends on the size of the edit."""

    def __init__(self, *, default_mode: Mode) -> None:
        self._cache = FileCache(default_mode=default_mode)
        self._merged = _Merged((), {}, {})  # of the last accepted set

    def prepare(self, files: files.FileSet) -> None:
        """Parse the files ahead of `examine`, whose result is then mostly cached."""
        self._cache.parse(files)

    def examine(self, files: files.FileSet) -> Examined:
        """Check a whole set of files; raises nothing."""
        parsed_files, before = self._cache.parse(files), self._merged
        same = _have_the_same_ids(parsed_files, before.parsed_files)
        fatal = [problem for parsed in parsed_files for problem in parsed.fatal]
        if files.error:
            fatal.append(Problem(escape(files.name), 1, 1, "", files.error))
        if not same:
            fatal.extend(_find_clashes(parsed_files))
        problems = tuple(
            sorted({*fatal, *(problem for parsed in parsed_files for problem in parsed.problems)})
        )
        if fatal:
            return Examined(None, problems, len(files.files))
        merged = self._merged = _replace_changed(parsed_files, before) if same else _merge(parsed_files)
        return Examined(_make_loaded(merged, problems), problems, len(files.files))


def load(path: Path, *, default_mode: Mode) -> Loaded:
    """Load a file, or a directory of *.yaml and *.yml files, as one revision.

    Raises:
        DesiredError: the set is rejected; with all of its errors.
    """
    return require_loaded(examine(files.read(path), default_mode=default_mode))


def require_loaded(examined: Examined) -> Loaded:
    """Return what was loaded.

    Raises:
        DesiredError: the set is rejected; with all of its errors.
    """
    if examined.loaded is None:
        raise DesiredError(examined.problems)
    return examined.loaded


def examine(files: files.FileSet, *, default_mode: Mode) -> Examined:
    """Check a whole set of files, without a cache; raises nothing."""
    return Loader(default_mode=default_mode).examine(files)


def _have_the_same_ids(parsed_files: Sequence[ParsedFile], before: Sequence[ParsedFile]) -> bool:
    """Whether each file has the same ids as before, and the same ids in quarantine."""
    return len(parsed_files) == len(before) and all(
        parsed is other
        or (
            len(parsed.keys) == len(other.keys)
            and parsed.folded_ids == other.folded_ids
            and parsed.allocations.keys() == other.allocations.keys()
        )
        for parsed, other in zip(parsed_files, before, strict=True)
    )


def _replace_changed(parsed_files: Sequence[ParsedFile], before: _Merged) -> _Merged:
    """Do what `_merge` does if no id has changed: the ids stay sorted, so only changed files are visited."""
    allocations, lines = dict(before.allocations), dict(before.lines)
    for parsed, other in zip(parsed_files, before.parsed_files, strict=True):
        if parsed is not other:
            allocations.update(parsed.allocations)
            lines.update(parsed.lines)
    return _Merged(parsed_files, allocations, lines)


def _merge(parsed_files: Sequence[ParsedFile]) -> _Merged:
    allocations = _merge_sorted([parsed.allocations for parsed in parsed_files])
    return _Merged(parsed_files, allocations, _merge_sorted([parsed.lines for parsed in parsed_files]))


def _make_loaded(merged: _Merged, problems: tuple[Problem, ...]) -> Loaded:
    quarantined = _merge_sorted([parsed.quarantined for parsed in merged.parsed_files])
    revision = Revision(
        id=_revision_id(merged.lines.values(), quarantined),
        allocations=merged.allocations,
        quarantined={key: tuple(str(each) for each in sorted(found)) for key, found in quarantined.items()},
        files=len(merged.parsed_files),
    )
    return Loaded(revision, problems)


def _find_clashes(parsed_files: Sequence[ParsedFile]) -> Iterator[Problem]:
    """Find ids that are declared twice, or that are easily confused with another."""
    folded_ids: set[str] = set().union(*(parsed.folded_ids for parsed in parsed_files))
    if len(folded_ids) == sum(len(parsed.keys) for parsed in parsed_files):
        return  # the usual case: no need to compare each id
    firsts: dict[AllocationId, IdLocation] = {}
    folds: dict[str, IdLocation] = {}
    for key in (key for parsed in parsed_files for key in parsed.keys):
        first = firsts.setdefault(key.id, key)
        if first is not key:
            yield key.problem(f"declared twice; first at {first.place}")
            continue
        other = folds.setdefault(fold(key.id), key)
        if other is not key:
            what = describe_difference(key.id, other.id)
            yield key.problem(
                f"looks like the id at {other.place} and differs only in {what}; "
                "if both mean one allocation, remove one"
            )


def _merge_sorted(mappings: Iterable[Mapping[AllocationId, T]]) -> dict[AllocationId, T]:
    """Merge these mappings into one, sorted by id."""
    found: dict[AllocationId, T] = {}
    for mapping in mappings:
        found.update(mapping)
    return {key: found[key] for key in sorted(found)}


def _revision_id(lines: Iterable[str], quarantined: Mapping[AllocationId, tuple[Problem, ...]]) -> str:
    problems = [
        [key, sorted([problem.path, problem.message] for problem in found)]
        for key, found in quarantined.items()
    ]
    text = f"[[{','.join(lines)}],{json.dumps(problems, separators=(',', ':'))}]"
    return hashlib.sha256(text.encode("ascii")).hexdigest()
