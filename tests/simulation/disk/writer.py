"""Who writes to a simulated disk through the real journal, and remembers what was promised.

Left out: what may go wrong meanwhile (the tests).
"""

from pathlib import Path

from allocsync.journal import reader
from allocsync.journal.database import JournalFile, rows_of
from allocsync.journal.entries import Intent
from allocsync.model.change import Change
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import IntentRecord
from tests.simulation.disk.disk import Disk

WALL = 1.7e9
# Long enough for a row to take a page of its own now and then.
RECORD = IntentRecord(
    changes=(Change("region", "x", "y" * 900),),
    leaves=(("region", "y"),),
    undeclared="00ff",
    generation="g",
    reason="drift",
)


class Writer:
    """Writes one row a commit. `returned` are the rows whose commit returned, over all processes."""

    def __init__(self, disk: Disk, *, checkpoint_pages: int = 1000, synchronous: str = "FULL") -> None:
        self.disk = disk
        self.pragmas = (f"wal_autocheckpoint = {checkpoint_pages}", f"synchronous = {synchronous}")
        self.returned = list[str]()
        self.begun: str | None = None
        self.file = self.opened()

    def opened(self) -> JournalFile:
        file, left = JournalFile.open(self.disk.directory, wall=lambda: WALL)
        assert left.gap is None
        for pragma in self.pragmas:
            file.connection.execute(f"PRAGMA {pragma}").close()
        return file

    def write(self) -> None:
        self.begun = f"{len(self.returned):04}"
        self.file.write([Intent(AllocationId(self.begun), RECORD)], WALL)
        self.returned.append(self.begun)
        self.begun = None

    def write_many(self, commits: int) -> None:
        for _ in range(commits):
            self.write()

    def restart(self) -> None:
        """Begin the next process, after the disk has ended this one."""
        dead, self.file = self.file, self.opened()
        dead.close()
        self.check(rows_at(self.disk.directory))

    def check(self, found: list[str]) -> None:
        """See that all that was promised is there, and else one row at most, that was being written."""
        allowed = [self.returned, [*self.returned, self.begun or ""]]
        assert found in allowed
        self.returned = found


def rows_at(directory: Path) -> list[str]:
    with reader.opened(directory) as connection:
        assert reader.verify(connection).problems == ()
        return [row.allocation or "" for row in rows_of(connection)]


def files_in(directory: Path) -> dict[str, bytes]:
    """All that counts: how readers and writers find each other is not part of it."""
    return {each.name: each.read_bytes() for each in directory.iterdir() if not each.name.endswith("-shm")}
