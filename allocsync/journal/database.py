"""The journal's file: SQLite with a write-ahead log, each commit synced to the disk.

The rules: what a commit returned for has survived a power cut; rows are only appended, and hash-chained; one
open intent for an allocation at most (the schema says so); a file that is damaged is set aside and never
overwritten, and the gap is recorded. Every method is synchronous and for one thread at a time.

Left out: who waits for what (`writer`), reading it for people (`reading`), cutting off old rows (`pruning`).
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

from allocsync.errors import AllocsyncError
from allocsync.journal.checksum import sealed, unsealed
from allocsync.journal.entries import Entry, Gap, Intent, Memory, Outcome
from allocsync.journal.hash_chain import Head, Row, check, link
from allocsync.journal.sqlite_errors import DAMAGE, is_trouble, making_sense_of, message
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import OpenIntent, Restored, intent_from

NAME = "journal.db"
FORMAT = 1
APPLICATION = 0x616C7379
BUSY_SECONDS = 5.0
TAIL = 1000  # rows whose chain is checked at the start; all of them: `history --verify`

_SCHEMA = """
CREATE TABLE entries (
    sequence INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, allocation TEXT, intent INTEGER,
    data TEXT NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE INDEX entries_of_allocation ON entries (allocation, sequence);
CREATE INDEX outcomes_of_intent ON entries (intent) WHERE intent IS NOT NULL;
CREATE TABLE open_intents (allocation TEXT PRIMARY KEY, sequence INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE memory (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE anchor (
    one INTEGER PRIMARY KEY CHECK (one = 1), sequence INTEGER NOT NULL, hash BLOB NOT NULL) STRICT;
"""


class JournalFile:
    """The file, open for writing. From `JournalFile.open`. `anchor` and `head` are the ends of the chain."""

    def __init__(self, path: Path, connection: sqlite3.Connection, head: Head) -> None:
        self.path = path
        self.connection = connection
        self.anchor = self.head = head

    @classmethod
    def open(cls, directory: Path, *, wall: Callable[[], float]) -> tuple[Self, Restored]:
        """Open the journal in this directory, or begin one; one that is damaged is set aside first.

        Raises:
            AllocsyncError: it cannot be opened, or a newer allocsync has written it.
        """
        path = directory / NAME
        try:
            return cls._opened_or_begun(path, wall)
        except (sqlite3.Error, OSError) as error:
            raise AllocsyncError(
                f"{path}: the journal cannot be opened: {error}. Nothing is sent without it. "
                "Is the disk full or read-only? May this user write there?"
            ) from error

    @classmethod
    def _opened_or_begun(cls, path: Path, wall: Callable[[], float]) -> tuple[Self, Restored]:
        lost = ""
        try:
            file, restored = cls._opened(path)
        except DAMAGE as error:
            if is_trouble(error, path):
                raise
            why, kept = message(error), _set_aside(path, wall())
            lost = f"the journal was damaged ({why}); it is kept as {kept.name}, and a new one was begun"
            file, restored = cls._opened(path)
        else:
            if not file.head.sequence and any(path.parent.glob(f"{NAME}.damaged-*")):
                lost = "a damaged journal was set aside, and the process ended before it had begun a new one"
        if lost:
            at = wall()
            try:
                file.write([Gap(lost)], at)
            except BaseException:
                file.close()
                raise
            restored = Restored(gap=lost, gap_at=at)
        return file, restored

    @classmethod
    def _opened(cls, path: Path) -> tuple[Self, Restored]:
        connection = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(connection, path)
            file = cls(path, connection, anchor_of(connection))
            return file, file._restore()
        except BaseException:
            connection.close()
            raise

    def _restore(self) -> Restored:
        rows = list(rows_of(self.connection, "ORDER BY sequence DESC LIMIT ?", (TAIL,)))[::-1]
        _check_tail(self.head, rows)
        _check_open(self.connection, rows)
        if rows:
            self.head = Head(rows[-1].sequence, rows[-1].hash)
        return Restored(
            open_intents=tuple(
                _open_intent(row)
                for row in rows_of(
                    self.connection, "WHERE sequence IN (SELECT sequence FROM open_intents) ORDER BY sequence"
                )
            ),
            memories={
                key: unsealed(key, value)
                for key, value in self.connection.execute("SELECT key, value FROM memory ORDER BY key")
            },
            gap_at=max((row.at for row in rows if row.kind == "gap"), default=None),
        )

    def write(self, entries: Sequence[Entry], at: float) -> list[int]:
        """Commit these, all or none, and return the number of each one's row (0 for a memory).

        Raises:
            sqlite3.Error: nothing of it was written, as far as this process goes.
        """
        head, numbers = self.head, list[int]()
        with self.transaction():
            for entry in entries:
                head, number = self._write_one(entry, head, at)
                numbers.append(number)
        self.head = head
        return numbers

    def _write_one(self, entry: Entry, head: Head, at: float) -> tuple[Head, int]:
        run = self.connection.execute
        match entry:
            case Intent(allocation, record):
                head = self._append(head, Row(0, at, "intent", allocation, None, _json(record.as_data())))
                run("INSERT INTO open_intents VALUES (?, ?)", (allocation, head.sequence))
            case Outcome(allocation, intent, outcome, reason):
                data = {"outcome": outcome, "reason": reason}
                head = self._append(head, Row(0, at, "outcome", allocation, intent, _json(data)))
                run("DELETE FROM open_intents WHERE allocation = ? AND sequence = ?", (allocation, intent))
            case Gap(reason):
                head = self._append(head, Row(0, at, "gap", None, None, _json({"reason": reason})))
            case Memory(key, None):
                run("DELETE FROM memory WHERE key = ?", (key,))
                return head, 0
            case Memory(key, value):
                run("INSERT OR REPLACE INTO memory VALUES (?, ?)", (key, sealed(key, value)))
                return head, 0
        return head, head.sequence

    def _append(self, head: Head, row: Row) -> Head:
        """Append the row under the next number, whatever its own says."""
        row = replace(row, sequence=head.sequence + 1)
        head = Head(row.sequence, link(head.hash, row))
        self.connection.execute(
            "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)",
            (row.sequence, row.at, row.kind, row.allocation, row.intent, row.data, head.hash),
        )
        return head

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it, or none."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def bytes(self) -> int:
        """The size of the file without what is free in it."""
        pages, free, size = (
            self.connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def close(self) -> None:
        """Close the file; what was written is in it."""
        self.connection.close()

    def set_aside(self, at: float) -> Path:
        """Close the file and keep it under another name: the next process begins a new one."""
        self.close()
        return _set_aside(self.path, at)


def rows_of(
    connection: sqlite3.Connection, rest: str = "ORDER BY sequence", values: Sequence[object] = ()
) -> Iterator[Row]:
    """Rows; `rest` is what follows FROM, of our own making."""
    columns = "sequence, at, kind, allocation, intent, data, hash"
    for row in connection.execute(f"SELECT {columns} FROM entries {rest}", values):  # noqa: S608 - see above
        yield Row(*row)


def _open_intent(row: Row) -> OpenIntent:
    with making_sense_of(row.sequence):
        record = intent_from(json.loads(row.data))
    return OpenIntent(row.sequence, AllocationId(row.allocation or ""), row.at, record)


def anchor_of(connection: sqlite3.Connection) -> Head:
    """Where the chain begins: after the last row that was pruned."""
    found = connection.execute("SELECT sequence, hash FROM anchor").fetchone()
    return Head(*found) if found else Head()


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Set the file up, or see that it is ours and whole.

    Raises:
        sqlite3.DatabaseError, ValueError: it is damaged.
        AllocsyncError: a newer allocsync has written it.
    """
    run = connection.execute
    # First whose it is: one that is not ours, or newer, is not written to.
    application = run("PRAGMA application_id").fetchone()[0]
    if application == 0 and not run("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        run("PRAGMA auto_vacuum = INCREMENTAL")
        run("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            run(statement)
        run(f"PRAGMA application_id = {APPLICATION}")
        run(f"PRAGMA user_version = {FORMAT}")
        run("COMMIT")
    elif application != APPLICATION:
        raise ValueError("it is not a journal of allocsync")
    version = run("PRAGMA user_version").fetchone()[0]
    if version > FORMAT:
        raise AllocsyncError(
            f"{path}: written by a newer allocsync (format {version}; this one knows {FORMAT}). "
            "Nothing was changed. Run the newer one, or give another ALLOCSYNC_STATE_DIR."
        )
    run("PRAGMA journal_mode = WAL")
    # What was opened on a read-only disk stays read-only when the disk does not: no update could be recorded.
    run("DELETE FROM memory WHERE key = ''")
    # A commit whose sync failed can be there again after a kill: what is read from now on shall stay.
    run("PRAGMA wal_checkpoint").fetchone()
    run("PRAGMA synchronous = FULL")  # NORMAL would survive a kill, but not a power cut
    found = run("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise ValueError(found)


def _check_tail(anchor: Head, rows: Sequence[Row]) -> None:
    """See that the last rows are a chain.

    Raises:
        ValueError: they are not.
    """
    if rows and rows[0].sequence != anchor.sequence + 1:
        if len(rows) < TAIL:
            raise ValueError(f"row {anchor.sequence + 1} is not there: the first is row {rows[0].sequence}")
        anchor, rows = Head(rows[0].sequence, rows[0].hash), rows[1:]
    problems = check(anchor, rows).problems
    if problems:
        raise ValueError(problems[0])


def _check_open(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """See that what is said to be open is what the last rows leave open.

    Raises:
        ValueError: it is not.
    """
    said = dict(connection.execute("SELECT sequence, allocation FROM open_intents"))
    closed = {row.intent for row in rows}
    left = {
        row.sequence: row.allocation for row in rows if row.kind == "intent" and row.sequence not in closed
    }
    first = rows[0].sequence if rows else 0
    if left != {sequence: allocation for sequence, allocation in said.items() if sequence >= first}:
        raise ValueError("the intents that it calls open are not those that its rows leave open")


def _set_aside(path: Path, wall: float) -> Path:
    """Keep what there is under another name, with the log that belongs to it."""
    kept = path.with_name(f"{path.name}.damaged-{wall:.0f}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(kept.with_name(kept.name + suffix))
    return kept


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
