"""Cutting old rows off the journal, by age and by size.

The rules: only a prefix is cut, all of it too old, and only one whose updates are all settled in it; an open
intent is never cut, nor a row of the last hour, because late landings are told by recent rows. What was cut
leaves its last hash behind, so that the chain of the rest can still be followed.
"""

import sqlite3

from allocsync.journal.chain import Head
from allocsync.journal.file import JournalFile

DAYS = 90
BYTES = 1024**3
KEPT_SECONDS = 3600.0
ROWS_AT_ONCE = 10_000
DAY_SECONDS = 86_400.0


def prune(file: JournalFile, *, wall: float, days: float = DAYS, most_bytes: int = BYTES) -> int:
    """Cut what is too old or too much, some thousand rows at most; returns how many.

    Raises:
        sqlite3.Error: nothing was cut.
        ValueError: neither, because of damage.
    """
    connection, begin = file.connection, file.anchor
    before = wall - days * DAY_SECONDS
    if file.bytes() > most_bytes:
        before = wall - KEPT_SECONDS
    # One row of a clock that was wrong must not take what is young with it, nor keep what is old for ever.
    kept = connection.execute(
        "SELECT sequence FROM entries WHERE at BETWEEN ? AND ? OR sequence > ? ORDER BY sequence LIMIT 1",
        (min(before, wall - KEPT_SECONDS), wall + DAY_SECONDS, begin.sequence + ROWS_AT_ONCE),
    ).fetchone()
    found = connection.execute("SELECT max(sequence) FROM entries").fetchone() if kept is None else None
    old = begin.sequence if found is None or found[0] is None else found[0]
    last = _settled_prefix(connection, old if kept is None else kept[0] - 1)
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


def _settled_prefix(connection: sqlite3.Connection, last: int) -> int:
    """The longest prefix up to `last` in which no intent is open or has an outcome later on."""
    (opened,) = connection.execute("SELECT min(sequence) FROM open_intents").fetchone()
    last = last if opened is None else min(last, opened - 1)
    while True:
        (cut,) = connection.execute(
            "SELECT min(intent) FROM entries WHERE sequence > ? AND intent <= ?", (last, last)
        ).fetchone()
        if cut is None:
            return last
        last = cut - 1
