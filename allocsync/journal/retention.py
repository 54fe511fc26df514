"""Deletes old rows from the journal, by age and by size.

The rules: only a prefix of the rows is deleted, and only if all of it is too old and all outcomes of its
intents are in it. An open intent is never deleted, nor a row of the last hour, because late applications are
recognised by recent rows. The hash of the last deleted row is kept as the anchor, so that the rest of the
chain can be verified.

Left out: when rows are deleted (`runtime.daemon`).
"""

import sqlite3

from allocsync.journal.database import JournalFile
from allocsync.journal.hash_chain import Head
from allocsync.model.times import WallTime

RETENTION_DAYS = 90
MAX_BYTES = 1024**3
MIN_AGE_SECONDS = 3600.0
MAX_ROWS_PER_CALL = 10_000
DAY_SECONDS = 86_400.0


def prune(
    file: JournalFile, *, wall: WallTime, days: float = RETENTION_DAYS, max_bytes: int = MAX_BYTES
) -> int:
    """Delete rows older than `days` or, if the file exceeds `max_bytes`, older than MIN_AGE_SECONDS.

    Deletes at most MAX_ROWS_PER_CALL rows and returns their number; 0 if there is nothing to delete.
    `wall` is the wall clock (Unix seconds).

    Raises:
        sqlite3.Error: nothing was deleted.
        ValueError: nothing was deleted, because of damage.
    """
    connection, begin = file.connection, file.anchor
    max_days = 0.0 if file.bytes() > max_bytes else days
    before = wall - max(max_days * DAY_SECONDS, MIN_AGE_SECONDS)
    last = _settled_prefix(connection, _old_prefix(connection, begin.sequence, before, wall))
    if last <= begin.sequence:
        return 0
    with file.transaction():
        found = connection.execute("SELECT hash FROM entries WHERE sequence = ?", (last,)).fetchone()
        if found is None:
            raise ValueError(f"row {last} is not there")
        end = found[0]
        connection.execute("INSERT OR REPLACE INTO anchor VALUES (1, ?, ?)", (last, end))
        connection.execute("DELETE FROM entries WHERE sequence <= ?", (last,))
    file.anchor = Head(last, end)
    connection.execute("PRAGMA incremental_vacuum").fetchall()
    return last - begin.sequence


def _old_prefix(connection: sqlite3.Connection, begin: int, before: WallTime, wall: WallTime) -> int:
    """The last row of the longest prefix of old rows, limited to MAX_ROWS_PER_CALL.

    A row written while the clock was wrong must neither cause young rows to be deleted nor keep old ones for
    ever: a row from more than a day ahead is deleted together with an old row after it, and is ignored
    otherwise.
    """
    end, ahead = begin + MAX_ROWS_PER_CALL, wall + DAY_SECONDS
    (young,) = connection.execute(
        "SELECT min(sequence) FROM entries WHERE sequence <= ? AND at BETWEEN ? AND ?", (end, before, ahead)
    ).fetchone()
    if young is None:
        after = "SELECT at FROM entries WHERE sequence > ? AND at <= ? ORDER BY sequence LIMIT 1"
        found = connection.execute(after, (end, ahead)).fetchone()
        if found is not None and found[0] < before:
            return end
    (old,) = connection.execute(
        "SELECT max(sequence) FROM entries WHERE sequence < ? AND at < ?",
        (end + 1 if young is None else young, before),
    ).fetchone()
    return begin if old is None else int(old)


def _settled_prefix(connection: sqlite3.Connection, last: int) -> int:
    """The last row of the longest prefix up to `last` whose intents have all their outcomes in it."""
    (opened,) = connection.execute("SELECT min(sequence) FROM open_intents").fetchone()
    last = last if opened is None else min(last, opened - 1)
    while True:
        (cut,) = connection.execute(
            "SELECT min(intent) FROM entries WHERE sequence > ? AND intent <= ?", (last, last)
        ).fetchone()
        if cut is None:
            return last
        last = cut - 1
