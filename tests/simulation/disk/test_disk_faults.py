"""Faults of the simulated disk: which calls fail, what is counted, and what is on the disk afterwards."""

import random
import sqlite3
from pathlib import Path

import pytest

from allocsync.errors import AllocsyncError
from allocsync.journal.database import NAME, JournalFile, rows_of
from tests.simulation.disk.disk import Disk, Fault
from tests.simulation.disk.writer import CHECKPOINTS, WALL_BEGINS, Writer, files_in, rows_at
from tests.support.tier import part_of


@CHECKPOINTS
@pytest.mark.parametrize("fault", Fault)
def test_commits_fail_during_a_fault_and_the_journal_works_after_it(
    disk: Disk, fault: Fault, checkpoint_pages: int
) -> None:
    writer = Writer(disk, checkpoint_pages=checkpoint_pages)
    rng = random.Random(1)
    for _ in range(20):
        writer.write()
        disk.fault, before = fault, disk.fault_counts[fault]
        with pytest.raises(sqlite3.OperationalError):
            writer.write_many(
                500
            )  # a write-ahead log that was larger before still takes some rows on a full disk
        assert disk.fault_counts[fault] > before
        if rng.random() < 0.5:
            disk.fault = None
            writer.write()
        disk.cut_power(rng)
        disk.fault = None
        writer.restart()
    assert disk.fault_counts.keys() == {fault}
    writer.file.close()


@pytest.mark.parametrize("fault", [Fault.SYNC_ERROR, Fault.SYNC_LOST])
def test_a_failed_sync_may_keep_its_writes_unless_the_fault_drops_them(
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


def test_existing_bytes_can_be_overwritten_on_a_full_disk(disk: Disk) -> None:
    writer = Writer(disk)
    writer.write_many(5)
    writer.file.connection.execute("PRAGMA wal_checkpoint(RESTART)").close()
    disk.fault = Fault.FULL
    writer.write()
    assert disk.fault_counts[Fault.FULL] == 0
    with pytest.raises(sqlite3.OperationalError, match="full"):
        writer.write_many(5)
    assert disk.fault_counts[Fault.FULL] > 0
    writer.file.close()


def test_a_journal_opened_on_a_read_only_disk_cannot_be_written(disk: Disk) -> None:
    disk.fault = Fault.READ_ONLY
    with pytest.raises(AllocsyncError, match="read-only"):
        JournalFile.open(disk.directory, wall=lambda: WALL_BEGINS)
    assert disk.fault_counts[Fault.READ_ONLY] > 0
    assert files_in(disk.directory) == {}
    disk.fault = None
    Writer(disk).file.close()


@pytest.mark.parametrize("seed", range(part_of(10)))
def test_a_damaged_journal_is_set_aside_and_survives_power_cuts(disk: Disk, seed: int) -> None:
    rng = random.Random(seed)
    writer = Writer(disk)
    writer.write()
    disk.crash_process()
    writer.restart()
    writer.file.close()
    assert len(disk.corrupt(rng, number=5000)) == 5000
    damaged = (disk.directory / NAME).read_bytes()
    disk.cut_power(rng)
    assert (disk.directory / NAME).read_bytes() == damaged
    (disk.directory / f"{NAME}-wal").unlink(
        missing_ok=True
    )  # a deleted log that comes back would repair some pages
    file, left = JournalFile.open(disk.directory, wall=lambda: WALL_BEGINS)
    assert left.gap is not None
    disk.cut_power(rng)
    file.close()
    assert (disk.directory / f"{NAME}.damaged-{WALL_BEGINS:.0f}").read_bytes() == damaged
    file, left = JournalFile.open(disk.directory, wall=lambda: WALL_BEGINS)
    assert left.gap is None
    assert [row.kind for row in rows_of(file.connection)] == ["gap"]
    file.close()


def test_an_error_in_a_callback_is_an_io_error_for_sqlite_and_raised_by_check(disk: Disk) -> None:
    writer = Writer(disk)

    def fail() -> None:
        raise ZeroDivisionError

    disk.call_back_at(1, fail)
    with pytest.raises(sqlite3.OperationalError, match="I/O"):
        writer.write()
    with pytest.raises(ZeroDivisionError):
        disk.check()
    writer.write()
    writer.file.close()
