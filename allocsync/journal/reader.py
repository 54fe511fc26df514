"""Reading the journal for people, also while a daemon writes it.

The rules: nothing is ever written here; an update is one entry, with all that was found out of how it ended.
Checking the chain says what it cannot see: a tail that was cut off.
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
from allocsync.journal.checksum import unsealed
from allocsync.journal.database import APPLICATION, NAME, anchor_of, rows_of
from allocsync.journal.hash_chain import Checked, check
from allocsync.journal.sqlite_errors import DAMAGE, making_sense_of, message
from allocsync.model.change import Change
from allocsync.model.intent_record import intent_from

OPEN = "unknown"
OVERWRITE = "stale_overwrite"  # beside how an update ended


@dataclass(frozen=True, slots=True)
class Ending:
    """One thing that was found out about an update; `at` is seconds since the epoch."""

    at: float
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True)
class Past:
    """One update. `endings` are in the order in which they were learned; the last one holds."""

    sequence: int
    allocation: str
    at: float
    generation: str
    reason: str
    changes: tuple[Change, ...]
    endings: tuple[Ending, ...]

    @property
    def outcome(self) -> str:
        """How it ended as far as is known; `unknown` while it is open."""
        said = [ending for ending in self.endings if ending.outcome != OVERWRITE]
        return said[-1].outcome if said else OPEN

    @property
    def outcomes(self) -> frozenset[str]:
        """What it may be asked for by: how it ended, and that it put something back if it did."""
        return frozenset(
            {self.outcome, *(each.outcome for each in self.endings if each.outcome == OVERWRITE)}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which updates are asked for; times are seconds since the epoch, None does not matter."""

    allocation: str | None = None  # an id, or the beginning of one
    since: float | None = None
    until: float | None = None
    outcomes: frozenset[str] = frozenset()
    last: int | None = None


@contextmanager
def opened(directory: Path) -> Iterator[sqlite3.Connection]:
    """The journal in this directory, for reading and nothing else meanwhile.

    Raises:
        AllocsyncError: there is none, or it cannot be read, or what was read in it makes no sense.
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
            f"{path}: the journal cannot be read: {(error.strerror or 'unknown').lower()}. Ask as its user."
        ) from error
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
        try:
            if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
                raise AllocsyncError(f"{path}: not a journal of allocsync.")
            connection.execute("BEGIN")  # one moment for all that is read
            yield connection
        finally:
            connection.close()
    except (sqlite3.Error, *DAMAGE) as error:
        raise AllocsyncError(f"{path}: the journal cannot be read: {message(error)}.") from error


def verify(connection: sqlite3.Connection) -> Checked:
    """Follow the whole chain."""
    return check(anchor_of(connection), rows_of(connection))


def memories(connection: sqlite3.Connection, prefix: str) -> dict[str, Any]:
    """What is kept over restarts under keys that begin so, by the rest of the key.

    Raises:
        ValueError: it is not what was written.
    """
    found = connection.execute(
        "SELECT key, value FROM memory WHERE key >= ? AND key < ?", (prefix, prefix + "\U0010ffff")
    )
    return {key.removeprefix(prefix): unsealed(key, value) for key, value in found}


def updates(connection: sqlite3.Connection, query: Query) -> Iterator[Past]:
    """The updates that are asked for, oldest first; of `last` many the newest."""
    where, values = ["kind = 'intent'"], list[object]()
    if query.allocation is not None:
        # A range uses the index and knows no wildcards.
        where.append("allocation >= ? AND allocation < ?")
        values += [query.allocation, query.allocation + "\U0010ffff"]
    for condition, value in (("at >= ?", query.since), ("at <= ?", query.until)):
        if value is not None:
            where.append(condition)
            values.append(value)
    order = f"WHERE {' AND '.join(where)} ORDER BY sequence DESC"
    found = _asked(connection, order, values, query)
    yield from (reversed(list(found)))


def _asked(
    connection: sqlite3.Connection, order: str, values: Sequence[object], query: Query
) -> Iterator[Past]:
    number = 0
    for row in rows_of(connection, order, values):
        if query.last is not None and number >= query.last:
            return
        with making_sense_of(row.sequence):
            record = intent_from(json.loads(row.data))
        past = Past(
            row.sequence,
            row.allocation or "",
            row.at,
            record.generation,
            record.reason,
            record.changes,
            tuple(_endings(connection, row.sequence)),
        )
        if not query.outcomes or not query.outcomes.isdisjoint(past.outcomes):
            number += 1
            yield past


def _endings(connection: sqlite3.Connection, sequence: int) -> Iterator[Ending]:
    for row in rows_of(connection, "WHERE intent = ? ORDER BY sequence", (sequence,)):
        with making_sense_of(row.sequence):
            data = json.loads(row.data)
            ending = Ending(row.at, data["outcome"], data["reason"])
        yield ending


def gaps(connection: sqlite3.Connection) -> Iterator[tuple[float, str]]:
    """When and why the record is not whole."""
    for row in rows_of(connection, "WHERE kind = 'gap' ORDER BY sequence"):
        with making_sense_of(row.sequence):
            reason = json.loads(row.data)["reason"]
        yield row.at, reason
