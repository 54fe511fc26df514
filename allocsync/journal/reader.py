"""Reads the journal for people, also while a daemon is writing to it.

The rules: nothing is written here. An update is one record, with everything that was learned about its
outcome.

Left out: showing the records (`cli.commands.history`).
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from allocsync.errors import AllocsyncError
from allocsync.journal.checksum import decode_with_checksum
from allocsync.journal.database import APPLICATION_ID, NAME, anchor_of, require_known_format, rows_of
from allocsync.journal.hash_chain import Checked, check
from allocsync.journal.sqlite_errors import READ_ERRORS, message, row_errors
from allocsync.model.change import Change
from allocsync.model.intent_record import intent_from
from allocsync.model.times import WallTime

OPEN = "unknown"
OVERWRITE = "stale_overwrite"  # recorded in addition to an outcome


@dataclass(frozen=True, slots=True)
class RecordedOutcome:
    """One outcome that was recorded for an update; `at` is in Unix seconds."""

    at: WallTime
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True)
class RecordedUpdate:
    """One update; `at` is in Unix seconds. `endings` are in the order of recording; the last one counts."""

    sequence: int
    allocation: str
    at: WallTime
    revision: str
    reason: str
    changes: tuple[Change, ...]
    endings: tuple[RecordedOutcome, ...]

    @property
    def outcome(self) -> str:
        """The last outcome, apart from `stale_overwrite`; `unknown` while there is none."""
        outcomes = [ending for ending in self.endings if ending.outcome != OVERWRITE]
        return outcomes[-1].outcome if outcomes else OPEN

    @property
    def outcomes(self) -> frozenset[str]:
        """The outcomes by which a query finds it: the last one, and `stale_overwrite` if recorded."""
        return frozenset(
            {self.outcome, *(each.outcome for each in self.endings if each.outcome == OVERWRITE)}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Selects updates; `since` and `until` are inclusive, in Unix seconds. None or an empty set selects all.

    `last` selects only that many of the newest.
    """

    allocation: str | None = None  # an id, or a prefix of ids
    since: WallTime | None = None
    until: WallTime | None = None
    outcomes: frozenset[str] = frozenset()
    last: int | None = None


@contextmanager
def opened(directory: Path) -> Iterator[sqlite3.Connection]:
    """Open the journal in a directory read-only; all reads see it as of the first read.

    Raises:
        AllocsyncError: there is no journal, it cannot be read, a newer version has written it, or reading
            inside the context found damage.
    """
    path = directory / NAME
    try:
        path.stat()
    except FileNotFoundError as error:
        raise AllocsyncError(
            f"{path}: there is no journal yet. `allocsync run` and `apply` write one."
        ) from error
    except OSError as error:
        raise AllocsyncError(
            f"{path}: the journal cannot be read: {(error.strerror or 'unknown').lower()}. "
            "Run this as the user of the daemon."
        ) from error
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
        try:
            if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise AllocsyncError(f"{path}: not a journal of allocsync.")
            require_known_format(connection, path)
            connection.execute("BEGIN")  # all reads see one state of the file
            yield connection
        finally:
            connection.close()
    except (sqlite3.Error, *READ_ERRORS) as error:
        raise AllocsyncError(f"{path}: the journal cannot be read: {message(error)}.") from error


def verify(connection: sqlite3.Connection) -> Checked:
    """Verify the whole hash chain; a break is in `problems` of the result, and is not raised."""
    return check(anchor_of(connection), rows_of(connection))


def memories(connection: sqlite3.Connection, prefix: str) -> dict[str, Any]:
    """The checkpoint values whose keys have this prefix, by the rest of the key.

    Raises:
        ValueError: a value is damaged.
    """
    found = connection.execute(
        "SELECT key, value FROM memory WHERE key >= ? AND key < ?", (prefix, prefix + "\U0010ffff")
    )
    return {key.removeprefix(prefix): decode_with_checksum(key, value) for key, value in found}


def updates(connection: sqlite3.Connection, query: Query) -> Iterator[RecordedUpdate]:
    """Yield the selected updates, oldest first; with `last`, only that many of the newest."""
    where, values = ["kind = 'intent'"], list[object]()
    if query.allocation is not None:
        # A range uses the index and, unlike LIKE, has no wildcards.
        where.append("allocation >= ? AND allocation < ?")
        values += [query.allocation, query.allocation + "\U0010ffff"]
    for condition, value in (("at >= ?", query.since), ("at <= ?", query.until)):
        if value is not None:
            where.append(condition)
            values.append(value)
    rest = f"WHERE {' AND '.join(where)} ORDER BY sequence DESC"
    found = _select_updates(connection, rest, values, query)
    yield from (reversed(list(found)))


def _select_updates(
    connection: sqlite3.Connection, rest: str, values: Sequence[object], query: Query
) -> Iterator[RecordedUpdate]:
    count = 0
    for row in rows_of(connection, rest, values):
        if query.last is not None and count >= query.last:
            return
        with row_errors(row.sequence):
            record = intent_from(json.loads(row.data))
        update = RecordedUpdate(
            row.sequence,
            row.allocation or "",
            row.at,
            record.revision,
            record.reason,
            record.changes,
            tuple(_read_endings(connection, row.sequence)),
        )
        if not query.outcomes or not query.outcomes.isdisjoint(update.outcomes):
            count += 1
            yield update


def _read_endings(connection: sqlite3.Connection, sequence: int) -> Iterator[RecordedOutcome]:
    for row in rows_of(connection, "WHERE intent = ? ORDER BY sequence", (sequence,)):
        with row_errors(row.sequence):
            data = json.loads(row.data)
            ending = RecordedOutcome(row.at, data["outcome"], data["reason"])
        yield ending


def gaps(connection: sqlite3.Connection) -> Iterator[tuple[WallTime, str]]:
    """Yield the time (Unix seconds) and the reason of each gap in the journal."""
    for row in rows_of(connection, "WHERE kind = 'gap' ORDER BY sequence"):
        with row_errors(row.sequence):
            reason = json.loads(row.data)["reason"]
        yield row.at, reason
