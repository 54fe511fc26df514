"""The simulated disk below the real journal: what a crash and a power cut leave of the journal."""

import itertools
import random
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.errors import AllocsyncError
from allocsync.journal.database import NAME, JournalFile
from allocsync.journal.entries import Intent
from allocsync.model.ids import AllocationId
from tests.simulation.disk.disk import Disk, Fault
from tests.simulation.disk.image import SECTOR, Image
from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.disk.writer import CHECKPOINTS, RECORD, WALL_BEGINS, Writer, files_in, rows_at
from tests.support.tier import part_of


@CHECKPOINTS
@pytest.mark.parametrize("seed", range(part_of(25)))
def test_a_row_survives_power_cuts_once_its_commit_has_returned(
    disk: Disk, checkpoint_pages: int, seed: int
) -> None:
    rng = random.Random(seed)
    writer = Writer(disk, checkpoint_pages=checkpoint_pages)
    for _ in range(20):
        writer.write_many(rng.randrange(4))
        if rng.random() < 0.2:
            writer.file.close()
        disk.cut_power(rng)
        writer.restart()
    writer.file.close()
    assert len(writer.returned) >= 15


@CHECKPOINTS
def test_a_power_cut_loses_commits_without_a_sync_but_the_chain_verifies(
    disk: Disk, tmp_path: Path, checkpoint_pages: int
) -> None:
    writer = Writer(disk, checkpoint_pages=checkpoint_pages, synchronous="NORMAL")
    numbers = set[int]()
    for number in range(100):
        writer.write()
        disk.power_cut_image(tmp_path / f"{number}", random.Random(number))
        found = rows_at(tmp_path / f"{number}")
        assert found == writer.returned[: len(found)]
        numbers.add(len(writer.returned) - len(found))
    writer.file.close()
    assert max(numbers) > min(numbers) == 0


def test_a_process_crash_keeps_unsynced_writes_and_a_later_power_cut_may_lose_them(
    disk: Disk, tmp_path: Path
) -> None:
    writer = Writer(disk, synchronous="NORMAL")
    writer.write_many(10)
    disk.crash_process()
    for seed in range(50):
        disk.power_cut_image(tmp_path / f"{seed}", random.Random(seed))
    assert {len(rows_at(tmp_path / f"{seed}")) for seed in range(50)} >= {0, 10}
    writer.restart()
    assert len(writer.returned) == 10
    writer.file.close()


@pytest.mark.parametrize("end", [Disk.crash_process, lambda disk: disk.cut_power(random.Random(0))])
def test_a_process_that_has_ended_changes_nothing_when_it_writes_or_closes(
    disk: Disk, end: Callable[[Disk], Path]
) -> None:
    writer = Writer(disk)
    writer.write()
    dead, before = writer.file, disk.directory
    assert end(disk) == disk.directory != before
    writer.file = writer.opened()
    writer.write()
    files = files_in(disk.directory)
    with pytest.raises(sqlite3.OperationalError):
        dead.write([Intent(AllocationId("late"), RECORD)], WALL_BEGINS)
    dead.close()
    with pytest.raises(AllocsyncError):
        JournalFile.open(before, wall=lambda: WALL_BEGINS)
    assert files_in(disk.directory) == files
    writer.write()
    writer.file.close()
    assert rows_at(disk.directory) == writer.returned


def test_a_file_name_created_or_deleted_since_the_last_sync_may_be_lost(disk: Disk, tmp_path: Path) -> None:
    def possible_files(when: str) -> set[frozenset[str]]:
        for seed in range(50):
            disk.power_cut_image(tmp_path / when / f"{seed}", random.Random(seed))
        return {frozenset(files_in(tmp_path / when / f"{seed}")) for seed in range(50)}

    found = list[set[frozenset[str]]]()
    log = f"{NAME}-wal"
    disk.call_back_at(1, lambda: found.append(possible_files("opening")))
    writer = Writer(disk)
    assert {frozenset(), frozenset({NAME})} < found[0]
    writer.write()
    assert possible_files("written") == {frozenset({NAME, log})}
    writer.file.close()
    assert possible_files("closed") == {frozenset({NAME}), frozenset({NAME, log})}
    assert all(rows_at(each) == ["0000"] for each in (tmp_path / "closed").iterdir())


@CHECKPOINTS
@pytest.mark.parametrize("how", ["a power cut", "a crash"])
def test_an_end_at_any_disk_call_keeps_every_committed_row(
    shim: SqliteShim, checkpoint_pages: int, how: str
) -> None:
    """From the first opening over commits to closing, at each call that reaches the disk."""
    for call in itertools.count(1):
        rng = random.Random(call)
        with Disk(shim) as disk:
            ended = list[Path]()

            def end(disk: Disk = disk, rng: random.Random = rng, ended: list[Path] = ended) -> None:
                ended.append(disk.cut_power(rng) if how == "a power cut" else disk.crash_process())

            disk.call_back_at(call, end)
            writer = None
            with suppress(sqlite3.OperationalError, AllocsyncError):
                writer = Writer(disk, checkpoint_pages=checkpoint_pages)
                writer.write_many(4)
            if writer is not None:
                writer.file.close()
            if not ended:
                assert call > 30
                return
            if writer is None:
                writer = Writer(disk, checkpoint_pages=checkpoint_pages)
            else:
                writer.restart()
            writer.write()
            writer.file.close()


def test_other_directories_and_connections_after_the_disk_are_not_affected(tmp_path: Path) -> None:
    with SqliteShim() as shim, Disk(shim) as disk:
        disk.fault = Fault.IO_ERROR
        connection = sqlite3.connect(tmp_path / "other")
        connection.execute("CREATE TABLE t (x)")
    connection.execute("INSERT INTO t VALUES (1)")
    connection.commit()
    connection.close()
    assert disk.calls == 0
    assert not disk.directory.exists()


@given(
    before=st.binary(max_size=3 * SECTOR).map(lambda start: start + bytes(2 * SECTOR)),
    offset=st.integers(0, 3 * SECTOR),
    sectors=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_after_a_power_cut_each_sector_of_an_unsynced_write_is_old_or_new(
    before: bytes, offset: int, sectors: int, seed: int
) -> None:
    image = Image(before)
    image.write(offset, b"n" * sectors * SECTOR)
    old, new, found = before, bytes(image.cached), bytes(image.after_power_cut(random.Random(seed)))
    for start in range(0, len(new), SECTOR):
        part = slice(start, start + SECTOR)
        assert found[part] in {old[part], new[part], old[part].ljust(len(new[part]), b"\0")}
    image.sync()
    assert image.after_power_cut(random.Random(seed)) == new
