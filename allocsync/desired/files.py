"""The bytes of the desired state, all of one moment, under the names that people gave.

The rule: a set is never half old and half new. A mounted ConfigMap is swapped by one rename of its `..data`
link, so that link is resolved once, everything is read below what it led to, and the reading counts only when
the link still leads there afterwards (kubelet deletes the old directory file by file). The same holds for a
directory or a file that is itself reached by a link. Names shown stay as they were written.

What cannot be read is a value, not an exception: `FileSet.trouble` and `File.trouble`. Bounded: a file longer
than MAX_FILE_BYTES is not read to its end, and only regular files are opened (a pipe would block).
"""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

MAX_FILE_BYTES = 64 * 1024 * 1024
_STEP = 1024 * 1024
_DATA_LINK = "..data"  # what kubelet's AtomicWriter swaps
SUFFIXES = (".yaml", ".yml")
_TRIES = 10  # a directory that is swapped more often than it can be read is reported, not waited for


@dataclass(frozen=True, slots=True)
class File:
    """One file: what it is called, and its bytes or why there are none."""

    name: str
    data: bytes = b""
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class FileSet:
    """What was found at `name`; `trouble` says why that is nothing."""

    name: str
    files: tuple[File, ...] = ()
    trouble: str = ""

    def fingerprint(self) -> str:
        """A hash of names, contents and troubles: equal when there is nothing new to look at."""
        digest = hashlib.sha256()
        for part in (self.trouble, *(part for file in self.files for part in (file.name, file.trouble))):
            digest.update(b"%d:" % len(part) + part.encode(errors="surrogateescape"))
        for file in self.files:
            digest.update(b"%d:" % len(file.data))
            digest.update(file.data)
        return digest.hexdigest()


def read(path: Path) -> FileSet:
    """Read the file, or every *.yaml and *.yml of the directory; names that begin with a dot are skipped."""
    try:
        for _ in range(_TRIES):
            base = _base(path)
            found = _read_directory(path, base) if base.is_dir() else _read_single(path, base)
            if base == _base(path):
                return found
    except OSError as error:  # what stands above it is closed to us
        return FileSet(str(path), trouble=f"this cannot be read: {_why(error)}")
    return FileSet(str(path), trouble="this was replaced again and again while it was being read")


def _base(path: Path) -> Path:
    """Where the content stands now, every link on the way resolved."""
    real = Path(os.path.realpath(path))
    data = real / _DATA_LINK
    return Path(os.path.realpath(data)) if data.is_symlink() else real


def _read_single(path: Path, base: Path) -> FileSet:
    if not os.path.lexists(path):
        return FileSet(
            str(path), trouble="no such file or directory; create it, or correct the setting `desired`"
        )
    return FileSet(str(path), (_read_file(str(path), base),))


def _read_directory(path: Path, base: Path) -> FileSet:
    try:
        places = {entry.name: entry for entry in base.iterdir()}
        if not base.samefile(path):
            # Besides the links that kubelet makes into `..data`, a mounted directory may hold its own files.
            places.update((entry.name, entry) for entry in path.iterdir() if _is_its_own(entry))
    except OSError as error:
        return FileSet(str(path), trouble=f"this directory cannot be read: {_why(error)}")
    names = sorted(name for name in places if name.endswith(SUFFIXES) and not name.startswith("."))
    if not names:
        return FileSet(str(path), trouble="this directory holds no *.yaml or *.yml file")
    return FileSet(str(path), tuple(_read_file(str(path / name), places[name]) for name in names))


def _is_its_own(entry: Path) -> bool:
    """Whether it is there besides what `..data` brings; kubelet removes links of old names at any moment."""
    try:
        return entry.readlink().parts[:1] != (_DATA_LINK,)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # not a link


def leads_elsewhere(link: Path) -> bool:
    """Whether a link in the directory is read as a file of its own: those into `..data` are not."""
    return link.suffix in SUFFIXES and not link.name.startswith(".") and _is_its_own(link)


def _read_file(name: str, place: Path) -> File:
    try:
        found = place.stat()
        if not stat.S_ISREG(found.st_mode):
            return File(name, trouble="this is not a file that can be read; only regular files are")
        # As few calls as can be: after each of them the thread may have to wait for the event loop's.
        with place.open("rb", buffering=0) as stream:
            data = stream.read(min(found.st_size, MAX_FILE_BYTES) + 1)
            # It has grown or shrunk since, or does not tell its size.
            while len(data) != found.st_size and len(data) <= MAX_FILE_BYTES and (more := stream.read(_STEP)):
                data += more
    except OSError as error:
        return File(name, trouble=f"this file cannot be read: {_why(error)}")
    if len(data) > MAX_FILE_BYTES:
        return File(name, trouble=f"this file is longer than {MAX_FILE_BYTES >> 20} MiB; split it")
    return File(name, data)


def _why(error: OSError) -> str:
    return (error.strerror or "unknown reason").lower()
