"""Reads the files of the desired state as one consistent set, under the names that the user gave.

The rule: a set never mixes old and new content. A mounted ConfigMap is replaced by one rename of its
`..data` link, so the link is resolved once, everything is read below its target, and the set counts only if
the link still has the same target afterwards (kubelet removes the old directory file by file). The same
applies to a directory or a file that is itself reached through a link. Names in messages stay as they were
given.

What cannot be read is a value, not an exception: `FileSet.error` and `File.error`. A file longer than
MAX_FILE_BYTES is such an error; little more than that is read of it. Only regular files are opened (a pipe
would block).

Left out: what the bytes mean (`desired.source_text`, `desired.yaml_parser`), and when to read
(`desired.watcher`).
"""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

MAX_FILE_BYTES = 64 * 1024 * 1024
_READ_BYTES = 1024 * 1024
_DATA_LINK = "..data"  # the link that kubelet replaces
SUFFIXES = (".yaml", ".yml")
_MAX_ATTEMPTS = 10  # then a directory that is replaced all the time is reported


@dataclass(frozen=True, slots=True)
class File:
    """One file: its name, and its bytes or the reason why it cannot be read."""

    name: str
    data: bytes = b""
    error: str = ""


@dataclass(frozen=True, slots=True)
class FileSet:
    """The files found at `name`, or the reason why none could be read."""

    name: str
    files: tuple[File, ...] = ()
    error: str = ""

    def fingerprint(self) -> str:
        """A hash of all names, contents and errors: equal for two sets exactly if nothing changed."""
        digest = hashlib.sha256()
        for part in (self.error, *(part for file in self.files for part in (file.name, file.error))):
            digest.update(b"%d:" % len(part) + part.encode(errors="surrogateescape"))
        for file in self.files:
            digest.update(b"%d:" % len(file.data))
            digest.update(file.data)
        return digest.hexdigest()


def read(path: Path) -> FileSet:
    """Read the file or, in a directory, each *.yaml and *.yml whose name does not begin with a dot.

    Raises nothing, and does not search directories inside the directory.
    """
    try:
        for _ in range(_MAX_ATTEMPTS):
            base = _resolve_content(path)
            found = _read_directory(path, base) if base.is_dir() else _read_single(path, base)
            if base == _resolve_content(path):
                return found
    except OSError as error:  # this user has no permission to search a directory above it
        return FileSet(str(path), error=f"this cannot be read: {_reason(error)}")
    return FileSet(str(path), error="this was replaced repeatedly while it was being read")


def _resolve_content(path: Path) -> Path:
    """The real path of the content, with every link resolved."""
    real = Path(os.path.realpath(path))
    data = real / _DATA_LINK
    return Path(os.path.realpath(data)) if data.is_symlink() else real


def _read_single(path: Path, base: Path) -> FileSet:
    if not os.path.lexists(path):
        return FileSet(
            str(path), error="no such file or directory; create it, or correct the setting `desired`"
        )
    return FileSet(str(path), (_read_file(str(path), base),))


def _read_directory(path: Path, base: Path) -> FileSet:
    try:
        entries = {entry.name: entry for entry in base.iterdir()}
        if not base.samefile(path):
            # Besides kubelet's links into `..data`, the directory may have files of its own.
            entries.update((entry.name, entry) for entry in path.iterdir() if _is_own_file(entry))
    except OSError as error:
        return FileSet(str(path), error=f"this directory cannot be read: {_reason(error)}")
    names = sorted(name for name in entries if name.endswith(SUFFIXES) and not name.startswith("."))
    if not names:
        return FileSet(str(path), error="this directory has no *.yaml or *.yml file")
    return FileSet(str(path), tuple(_read_file(str(path / name), entries[name]) for name in names))


def _is_own_file(entry: Path) -> bool:
    """Whether it is not one of kubelet's links into `..data`, which may vanish at any time."""
    try:
        return entry.readlink().parts[:1] != (_DATA_LINK,)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # not a link


def is_content_link(link: Path) -> bool:
    """Whether a link in the directory is read as a file: links into `..data` are not."""
    return link.suffix in SUFFIXES and not link.name.startswith(".") and _is_own_file(link)


def _read_file(name: str, place: Path) -> File:
    try:
        found = place.stat()
        if not stat.S_ISREG(found.st_mode):
            return File(name, error="this is not a regular file; only regular files are read")
        # Few calls: after each one this thread may have to wait for the event loop's thread.
        with place.open("rb", buffering=0) as stream:
            data = stream.read(min(found.st_size, MAX_FILE_BYTES) + 1)
            # The size has changed, or the system does not report it (as in /proc).
            while (
                len(data) != found.st_size
                and len(data) <= MAX_FILE_BYTES
                and (more := stream.read(_READ_BYTES))
            ):
                data += more
    except OSError as error:
        return File(name, error=f"this file cannot be read: {_reason(error)}")
    if len(data) > MAX_FILE_BYTES:
        return File(name, error=f"this file is longer than {MAX_FILE_BYTES >> 20} MiB; split it")
    return File(name, data)


def _reason(error: OSError) -> str:
    return (error.strerror or "unknown reason").lower()
