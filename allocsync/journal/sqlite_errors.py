"""What an error met in the journal means: trouble of the disk or of access, or a damaged file.

The rule: trouble passes and is waited for, so nothing is touched; whatever else is said of a file of ours
means that it is damaged. That a column cannot be read is an operational error too, and no trouble of a disk.
SQLite quotes damaged text in what it says, and Python cannot even read that: no error of `sqlite3` then.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WRITE_VERSION = 18  # its place in SQLite's header; a number that is not known there makes a file read-only
KNOWN_VERSIONS = (b"\x01", b"\x02")
ERRORS = (sqlite3.Error, UnicodeDecodeError)  # what a statement can end with
# What reading a file with damage in it can end with: in a statement, or in making sense of what it gave.
NONSENSE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
DAMAGE = (sqlite3.DatabaseError, *NONSENSE)
TROUBLE = frozenset(
    {
        *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM),
        *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN),
        *(sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT),
    }
)
DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def message(error: Exception) -> str:
    """What this error says, for people."""
    if isinstance(error, UnicodeDecodeError):
        return error.object.decode(errors="backslashreplace")
    return str(error)


@contextmanager
def making_sense_of(sequence: int) -> Iterator[None]:
    """Have an error name the row that is read here."""
    try:
        yield
    except NONSENSE as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else message(error)
        raise ValueError(f"row {sequence} makes no sense: {why}") from error


def is_trouble(error: Exception, path: Path) -> bool:
    """Whether this error, met with the file at `path`, is none of the file's own."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    if code == sqlite3.SQLITE_READONLY:
        with path.open("rb") as file:
            return file.read(WRITE_VERSION + 1)[WRITE_VERSION:] in KNOWN_VERSIONS
    return code in TROUBLE


def is_damage(error: Exception) -> bool:
    """Whether this error, met while writing, says that the file is damaged and will not mend."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    return isinstance(error, UnicodeDecodeError) or code in DAMAGED
