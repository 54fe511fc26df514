"""The simulated disk when it fails: what is refused, what is counted, and what is there afterwards."""

import random
import sqlite3
from pathlib import Path

import pytest

from allocsync.errors import AllocsyncError
from allocsync.journal.database import NAME, JournalFile, rows_of
from tests.simulation.disk.disk import Disk, Fault
from tests.simulation.disk.writer import WALL, Writer, files_in, rows_at

CHECKPOINTS = pytest.mark.parametrize("checkpoint_pages", [1000, 4])


@CHECKPOINTS
@pytest.mark.parametrize("fault", Fault)
def test_a_fault_refuses_commits_is_counted_and_the_journal_heals(
    disk: Disk, fault: Fault, checkpoint_pages: int
) -> None:
    writer = Writer(disk, checkpoint_pages=checkpoint_pages)
    chance = random.Random(1)
    for _ in range(20):
        writer.write()
        disk.fault, before = fault, disk.faulted[fault]
        with pytest.raises(sqlite3.OperationalError):
            writer.write_many(500)  # a log that has grown before takes some more on a full disk
        assert disk.faulted[fault] > before
        if chance.random() < 0.5:
            disk.fault = None
            writer.write()
        disk.cut_power(chance)
        disk.fault = None
        writer.restart()
    assert disk.faulted.keys() == {fault}
    writer.file.close()


@pytest.mark.parametrize("fault", [Fault.SYNC_ERROR, Fault.SYNC_LOST])
def test_what_a_sync_failed_for_is_never_on_the_disk_only_if_it_is_lost(
    disk: Disk, tmp_path: Path, fault: Fault
) -> None:
    writer = Writer(disk)
    writer.write_many(2)
    disk.fault = fault
    with pytest.raises(sqlite3.OperationalError):
        writer.write()
    for seed in range(50):
        disk.power_cut_image(tmp_path / f"{seed}", random.Random(seed))
    found = {len(rows_at(tmp_path / f"{seed}")) for seed in range(50)}
    assert found == ({2, 3} if fault is Fault.SYNC_ERROR else {2})
    writer.file.close()


def test_a_full_disk_lets_what_it_has_be_written_over(disk: Disk) -> None:
    writer = Writer(disk)
    writer.write_many(5)
    writer.file.connection.execute("PRAGMA wal_checkpoint(RESTART)").close()
    disk.fault = Fault.FULL
    writer.write()
    assert disk.faulted[Fault.FULL] == 0
    with pytest.raises(sqlite3.OperationalError, match="full"):
        writer.write_many(5)
    assert disk.faulted[Fault.FULL] > 0
    writer.file.close()


def test_who_opens_a_read_only_disk_cannot_write_to_it(disk: Disk) -> None:
    disk.fault = Fault.READ_ONLY
    with pytest.raises(AllocsyncError, match="read-only"):
        JournalFile.open(disk.directory, wall=lambda: WALL)
    assert disk.faulted[Fault.READ_ONLY] > 0
    assert files_in(disk.directory) == {}
    disk.fault = None
    Writer(disk).file.close()


@pytest.mark.parametrize("seed", range(10))
def test_damage_is_set_aside_and_kept_over_power_cuts(disk: Disk, seed: int) -> None:
    chance = random.Random(seed)
    writer = Writer(disk)
    writer.write()
    disk.crash_process()
    writer.restart()
    writer.file.close()
    assert len(disk.flip(chance, number=5000)) == 5000
    damaged = (disk.directory / NAME).read_bytes()
    disk.cut_power(chance)
    assert (disk.directory / NAME).read_bytes() == damaged
    (disk.directory / f"{NAME}-wal").unlink(missing_ok=True)  # back from the dead, it would heal some pages
    file, left = JournalFile.open(disk.directory, wall=lambda: WALL)
    assert left.gap is not None
    disk.cut_power(chance)
    file.close()
    assert (disk.directory / f"{NAME}.damaged-{WALL:.0f}").read_bytes() == damaged
    file, left = JournalFile.open(disk.directory, wall=lambda: WALL)
    assert left.gap is None
    assert [row.kind for row in rows_of(file.connection)] == ["gap"]
    file.close()


def test_what_a_callback_raises_is_an_io_error_for_sqlite_and_raised_afterwards(disk: Disk) -> None:
    writer = Writer(disk)

    def fail() -> None:
        raise ZeroDivisionError

    disk.cut_at(1, fail)
    with pytest.raises(sqlite3.OperationalError, match="I/O"):
        writer.write()
    with pytest.raises(ZeroDivisionError):
        disk.check()
    writer.write()
    writer.file.close()
