"""A writer of rows through the real journal that checks that no committed row is lost.

Left out: crashes and faults (the tests).
"""

from pathlib import Path

import pytest

from allocsync.journal import reader
from allocsync.journal.database import JournalFile, rows_of
from allocsync.journal.entries import Intent
from allocsync.model.change import Change
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import IntentRecord
from allocsync.model.times import WallTime
from tests.simulation.disk.disk import Disk

WALL_BEGINS = WallTime(1.7e9)
# Checkpoints of the write-ahead log seldom and often.
CHECKPOINTS = pytest.mark.parametrize("checkpoint_pages", [1000, 4])
# Long enough that some rows need a page of their own.
RECORD = IntentRecord(
    changes=(Change("region", "x", "y" * 900),),
    fields=(("region", "y"),),
    unmanaged_hash="00ff",
    revision="g",
    reason="drift",
)


class Writer:
    """Writes one row per commit. `returned` are the rows whose commit has returned, over all processes."""

    def __init__(self, disk: Disk, *, checkpoint_pages: int = 1000, synchronous: str = "FULL") -> None:
        self.disk = disk
        self.pragmas = (f"wal_autocheckpoint = {checkpoint_pages}", f"synchronous = {synchronous}")
        self.returned = list[str]()
        self.begun: str | None = None
        self.file = self.opened()

    def opened(self) -> JournalFile:
        file, left = JournalFile.open(self.disk.directory, wall=lambda: WALL_BEGINS)
        assert left.gap is None
        for pragma in self.pragmas:
            file.connection.execute(f"PRAGMA {pragma}").close()
        return file

    def write(self) -> None:
        self.begun = f"{len(self.returned):04}"
        self.file.write([Intent(AllocationId(self.begun), RECORD)], WALL_BEGINS)
        self.returned.append(self.begun)
        self.begun = None

    def write_many(self, commits: int) -> None:
        for _ in range(commits):
            self.write()

    def restart(self) -> None:
        """Start the next process, after the disk has ended this one."""
        dead, self.file = self.file, self.opened()
        dead.close()
        self.check(rows_at(self.disk.directory))

    def check(self, found: list[str]) -> None:
        """Check that every committed row is there, and at most one more: the one being written."""
        allowed = [self.returned, [*self.returned, self.begun or ""]]
        assert found in allowed
        self.returned = found


def rows_at(directory: Path) -> list[str]:
    """The rows of a journal, by allocation, after its chain was verified."""
    with reader.opened(directory) as connection:
        assert reader.verify(connection).problems == ()
        return [row.allocation or "" for row in rows_of(connection)]


def files_in(directory: Path) -> dict[str, bytes]:
    """The contents of all files except shared memory."""
    return {each.name: each.read_bytes() for each in directory.iterdir() if not each.name.endswith("-shm")}
