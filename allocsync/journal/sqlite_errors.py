"""Classifies errors of the journal: transient trouble of disk or access, or a damaged file.

The rule: a transient error is waited for, and the file is not touched; any other error about the journal's
file means that it is damaged. The codes decide, not the exception classes: an unreadable column is an
`OperationalError` too, and it is damage. SQLite quotes damaged text in its messages; if that is not UTF-8,
Python raises UnicodeDecodeError instead of a `sqlite3` error.

Left out: what is done about the errors (`journal.database`, `journal.writer`).
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WRITE_VERSION = 18  # the offset in SQLite's header; an unknown version there makes the file read-only
KNOWN_VERSIONS = (b"\x01", b"\x02")
STATEMENT_ERRORS = (sqlite3.Error, UnicodeDecodeError)  # what a statement can raise
# What reading a damaged file can raise: in a statement, or in decoding its result.
DECODE_ERRORS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
READ_ERRORS = (sqlite3.DatabaseError, *DECODE_ERRORS)
TRANSIENT_CODES = frozenset(
    {
        *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM),
        *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN),
        *(sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT),
    }
)
CORRUPTION_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def message(error: Exception) -> str:
    """The message of an error, also of one whose text is not UTF-8."""
    if isinstance(error, UnicodeDecodeError):
        return error.object.decode(errors="backslashreplace")
    return str(error)


@contextmanager
def row_errors(sequence: int) -> Iterator[None]:
    """Turn an error raised while a row is decoded into a ValueError that names the row."""
    try:
        yield
    except DECODE_ERRORS as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else message(error)
        raise ValueError(f"row {sequence} makes no sense: {why}") from error


def is_transient(error: Exception, path: Path) -> bool:
    """Whether the error is transient, rather than damage of the file at `path`."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    if code == sqlite3.SQLITE_READONLY:
        with path.open("rb") as file:
            return file.read(WRITE_VERSION + 1)[WRITE_VERSION:] in KNOWN_VERSIONS
    return code in TRANSIENT_CODES


def is_corruption(error: Exception) -> bool:
    """Whether the error of a write means that the file is damaged for good; text must be UTF-8."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    return isinstance(error, UnicodeDecodeError) or code in CORRUPTION_CODES
