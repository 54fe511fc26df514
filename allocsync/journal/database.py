"""The journal's file: an SQLite database with a write-ahead log; every commit is synced to the disk.

The rules: what was committed survives a power cut. Rows are only appended, and form a hash chain. An
allocation has at most one open intent, which the schema enforces. A damaged file is set aside, never
overwritten, and the gap is recorded. Every method blocks, and one thread at a time may call them.

Left out: queueing and group commits (`journal.writer`), reading for people (`journal.reader`), and deleting
old rows (`journal.retention`).
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

from allocsync.errors import AllocsyncError
from allocsync.journal.checksum import decode_with_checksum, encode_with_checksum
from allocsync.journal.entries import CheckpointValue, Entry, Gap, Intent, Outcome
from allocsync.journal.hash_chain import Head, Row, check, link
from allocsync.journal.sqlite_errors import READ_ERRORS, is_transient, message, row_errors
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import OpenIntent, Restored, intent_from
from allocsync.model.times import WallTime

NAME = "journal.db"
FORMAT = 1
APPLICATION_ID = 0x616C7379
BUSY_SECONDS = 5.0
TAIL = 1000  # rows whose chain is verified at the start; `history --verify` verifies all

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
    """The open file, made by `JournalFile.open`. `anchor` is the last pruned row, `head` the last row."""

    def __init__(self, path: Path, connection: sqlite3.Connection, head: Head) -> None:
        self.path = path
        self.connection = connection
        self.anchor = self.head = head

    @classmethod
    def open(cls, directory: Path, *, wall: Callable[[], WallTime]) -> tuple[Self, Restored]:
        """Open the journal in a directory, or create one. A damaged journal is set aside and replaced.

        Returns the file and what it holds from earlier processes. `wall` is the wall clock (Unix seconds).

        Raises:
            AllocsyncError: it cannot be opened, or a newer version of allocsync has written it.
        """
        path = directory / NAME
        try:
            return cls._open_or_replace(path, wall)
        except (sqlite3.Error, OSError) as error:
            raise AllocsyncError(
                f"{path}: the journal cannot be opened: {error}. Nothing is sent without it. "
                "Is the disk full or read-only? May this user write there?"
            ) from error

    @classmethod
    def _open_or_replace(cls, path: Path, wall: Callable[[], WallTime]) -> tuple[Self, Restored]:
        lost = ""
        try:
            file, restored = cls._open_existing(path)
        except READ_ERRORS as error:
            if is_transient(error, path):
                raise
            why, kept = message(error), _set_aside(path, wall())
            lost = f"the journal was damaged ({why}); it is kept as {kept.name}, and a new one was begun"
            file, restored = cls._open_existing(path)
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
    def _open_existing(cls, path: Path) -> tuple[Self, Restored]:
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
        _verify_tail(self.head, rows)
        _verify_open_intents(self.connection, rows)
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
                key: decode_with_checksum(key, value)
                for key, value in self.connection.execute("SELECT key, value FROM memory ORDER BY key")
            },
            gap_at=max((row.at for row in rows if row.kind == "gap"), default=None),
        )

    def write(self, entries: Sequence[Entry], at: WallTime) -> list[int]:
        """Commit these entries, all or none; `at` is the wall clock time (Unix seconds).

        Returns the row number of each entry, 0 for a checkpoint value.

        Raises:
            sqlite3.Error: none was written, as far as this process can tell.
        """
        head, numbers = self.head, list[int]()
        with self.transaction():
            for entry in entries:
                head, number = self._write_one(entry, head, at)
                numbers.append(number)
        self.head = head
        return numbers

    def _write_one(self, entry: Entry, head: Head, at: WallTime) -> tuple[Head, int]:
        execute = self.connection.execute
        match entry:
            case Intent(allocation, record):
                head = self._append(head, Row(0, at, "intent", allocation, None, _json(record.as_data())))
                execute("INSERT INTO open_intents VALUES (?, ?)", (allocation, head.sequence))
            case Outcome(allocation, intent, outcome, reason):
                data = {"outcome": outcome, "reason": reason}
                head = self._append(head, Row(0, at, "outcome", allocation, intent, _json(data)))
                execute(
                    "DELETE FROM open_intents WHERE allocation = ? AND sequence = ?", (allocation, intent)
                )
            case Gap(reason):
                head = self._append(head, Row(0, at, "gap", None, None, _json({"reason": reason})))
            case CheckpointValue(key, None):
                execute("DELETE FROM memory WHERE key = ?", (key,))
                return head, 0
            case CheckpointValue(key, value):
                execute(
                    "INSERT OR REPLACE INTO memory VALUES (?, ?)", (key, encode_with_checksum(key, value))
                )
                return head, 0
        return head, head.sequence

    def _append(self, head: Head, row: Row) -> Head:
        """Append the row with the next number; its own `sequence` is ignored."""
        row = replace(row, sequence=head.sequence + 1)
        head = Head(row.sequence, link(head.hash, row))
        self.connection.execute(
            "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)",
            (row.sequence, row.at, row.kind, row.allocation, row.intent, row.data, head.hash),
        )
        return head

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything that is written in the context, or nothing."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def bytes(self) -> int:
        """The size of the file in bytes, without its free pages."""
        pages, free, size = (
            self.connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def set_aside(self, at: WallTime) -> Path:
        """Close the file and rename it, so that the next process creates a new one; returns the new path."""
        self.close()
        return _set_aside(self.path, at)


def rows_of(
    connection: sqlite3.Connection, rest: str = "ORDER BY sequence", values: Sequence[object] = ()
) -> Iterator[Row]:
    """Yield rows. `rest` is constant SQL that follows the table name; `values` are its parameters."""
    columns = "sequence, at, kind, allocation, intent, data, hash"
    for row in connection.execute(f"SELECT {columns} FROM entries {rest}", values):  # noqa: S608 - `rest` is a constant of the caller
        yield Row(*row)


def _open_intent(row: Row) -> OpenIntent:
    with row_errors(row.sequence):
        record = intent_from(json.loads(row.data))
    return OpenIntent(row.sequence, AllocationId(row.allocation or ""), row.at, record)


def anchor_of(connection: sqlite3.Connection) -> Head:
    """The beginning of the chain: the last row that was pruned, or a head before the first row."""
    found = connection.execute("SELECT sequence, hash FROM anchor").fetchone()
    return Head(*found) if found else Head()


def require_known_format(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a journal whose format is newer than this version knows: its rows may mean something else.

    Raises:
        AllocsyncError: a newer version of allocsync has written it.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > FORMAT:
        raise AllocsyncError(
            f"{path}: written by a newer allocsync (format {version}; this one knows {FORMAT}). "
            "Nothing was changed. Run the newer one, or give another ALLOCSYNC_STATE_DIR."
        )


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Create the tables in a new file; otherwise check that the file is a journal without damage.

    Raises:
        sqlite3.DatabaseError, ValueError: it is damaged, or not a journal.
        AllocsyncError: a newer version of allocsync has written it.
    """
    execute = connection.execute
    # Check first what it is: a file of another program or a newer version is not written to.
    application = execute("PRAGMA application_id").fetchone()[0]
    if application == 0 and not execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        execute("PRAGMA auto_vacuum = INCREMENTAL")
        execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            execute(statement)
        execute(f"PRAGMA application_id = {APPLICATION_ID}")
        execute(f"PRAGMA user_version = {FORMAT}")
        execute("COMMIT")
    elif application != APPLICATION_ID:
        raise ValueError("it is not a journal of allocsync")
    require_known_format(connection, path)
    execute("PRAGMA journal_mode = WAL")
    # Fails now if the disk is read-only: the connection would stay read-only even if the disk did not.
    execute("DELETE FROM memory WHERE key = ''")
    # A commit whose sync failed may reappear after a kill: make everything that is read now durable.
    execute("PRAGMA wal_checkpoint").fetchone()
    execute("PRAGMA synchronous = FULL")  # NORMAL survives a kill, but not a power cut
    found = execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise ValueError(found)


def _verify_tail(anchor: Head, rows: Sequence[Row]) -> None:
    """Verify the hash chain of the last rows.

    Raises:
        ValueError: it is broken.
    """
    if rows and rows[0].sequence != anchor.sequence + 1:
        if len(rows) < TAIL:
            raise ValueError(f"row {anchor.sequence + 1} is not there: the first is row {rows[0].sequence}")
        anchor, rows = Head(rows[0].sequence, rows[0].hash), rows[1:]
    problems = check(anchor, rows).problems
    if problems:
        raise ValueError(problems[0])


def _verify_open_intents(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Verify that the table of open intents agrees with the last rows.

    Raises:
        ValueError: it does not.
    """
    listed = dict(connection.execute("SELECT sequence, allocation FROM open_intents"))
    closed = {row.intent for row in rows}
    unsettled = {
        row.sequence: row.allocation for row in rows if row.kind == "intent" and row.sequence not in closed
    }
    first = rows[0].sequence if rows else 0
    if unsettled != {sequence: allocation for sequence, allocation in listed.items() if sequence >= first}:
        raise ValueError("the intents that it calls open are not those that its rows leave open")


def _set_aside(path: Path, wall: WallTime) -> Path:
    """Rename the file together with its write-ahead log; returns the new path."""
    kept = path.with_name(f"{path.name}.damaged-{wall:.0f}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(kept.with_name(kept.name + suffix))
    return kept


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
