"""Cutting old rows off the journal, by age and by size.

The rules: only a prefix is cut, all of it too old, and only one whose updates are all settled in it; an open
intent is never cut, nor a row of the last hour, because late landings are told by recent rows. What was cut
leaves its last hash behind, so that the chain of the rest can still be followed.
"""

import sqlite3

from allocsync.journal.database import JournalFile
from allocsync.journal.hash_chain import Head

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
    most_days = 0.0 if file.bytes() > most_bytes else days
    before = wall - max(most_days * DAY_SECONDS, KEPT_SECONDS)
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


def _old_prefix(connection: sqlite3.Connection, begin: int, before: float, wall: float) -> int:
    """The longest prefix of old rows, some thousand at most.

    A row of a clock that was wrong must not take what is young with it, nor keep what is old for ever: one
    from more than a day ahead goes with an old one after it, and is no reason to cut or to stop.
    """
    end, ahead = begin + ROWS_AT_ONCE, wall + DAY_SECONDS
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
