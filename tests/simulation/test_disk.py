"""The simulated disk beneath the real journal: what a crash, a power cut, a fault and damage leave of it."""

import itertools
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.errors import AllocsyncError
from allocsync.journal import reading
from allocsync.journal.entries import Intent
from allocsync.journal.file import NAME, JournalFile, rows_of
from allocsync.planning.diff import Change
from allocsync.planning.model import AllocationId
from allocsync.planning.record import IntentRecord
from tests.simulation.disk import Disk, Fault
from tests.simulation.disk_image import SECTOR, Image
from tests.simulation.sqlite_shim import SqliteShim

WALL = 1.7e9
# Long enough for a row to take a page of its own now and then.
RECORD = IntentRecord(
    changes=(Change("region", "x", "y" * 900),),
    leaves=(("region", "y"),),
    undeclared="00ff",
    generation="g",
    reason="drift",
)
CHECKPOINTS = pytest.mark.parametrize("checkpoint_pages", [1000, 4])


@pytest.fixture(scope="module")
def shim() -> Iterator[SqliteShim]:
    with SqliteShim() as shim:
        yield shim


@pytest.fixture
def disk(shim: SqliteShim) -> Iterator[Disk]:
    with Disk(shim) as disk:
        yield disk


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
    with reading.opened(directory) as connection:
        assert reading.verify(connection).problems == ()
        return [row.allocation or "" for row in rows_of(connection)]


def files_in(directory: Path) -> dict[str, bytes]:
    """All that counts: how readers and writers find each other is not part of it."""
    return {each.name: each.read_bytes() for each in directory.iterdir() if not each.name.endswith("-shm")}


@CHECKPOINTS
@pytest.mark.parametrize("seed", range(25))
def test_what_a_commit_returned_for_survives_power_cuts(disk: Disk, checkpoint_pages: int, seed: int) -> None:
    chance = random.Random(seed)
    writer = Writer(disk, checkpoint_pages=checkpoint_pages)
    for _ in range(20):
        writer.write_many(chance.randrange(4))
        if chance.random() < 0.2:
            writer.file.close()
        disk.cut_power(chance)
        writer.restart()
    writer.file.close()
    assert len(writer.returned) >= 15


@CHECKPOINTS
def test_commits_without_a_sync_are_lost_by_a_power_cut_but_leave_a_chain(
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


def test_a_process_crash_keeps_what_was_not_synced_and_a_power_cut_after_it_may_not(
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
def test_what_is_dead_changes_nothing_when_it_writes_or_closes_late(
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
        dead.write([Intent(AllocationId("late"), RECORD)], WALL)
    dead.close()
    with pytest.raises(AllocsyncError):
        JournalFile.open(before, wall=lambda: WALL)
    assert files_in(disk.directory) == files
    writer.write()
    writer.file.close()
    assert rows_at(disk.directory) == writer.returned


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


def test_a_name_that_was_made_or_deleted_since_the_last_sync_may_be_there_or_not(
    disk: Disk, tmp_path: Path
) -> None:
    def looked(when: str) -> set[frozenset[str]]:
        for seed in range(50):
            disk.power_cut_image(tmp_path / when / f"{seed}", random.Random(seed))
        return {frozenset(files_in(tmp_path / when / f"{seed}")) for seed in range(50)}

    found = list[set[frozenset[str]]]()
    log = f"{NAME}-wal"
    disk.cut_at(1, lambda: found.append(looked("opening")))
    writer = Writer(disk)
    assert {frozenset(), frozenset({NAME})} < found[0]
    writer.write()
    assert looked("written") == {frozenset({NAME, log})}
    writer.file.close()
    assert looked("closed") == {frozenset({NAME}), frozenset({NAME, log})}
    assert all(rows_at(each) == ["0000"] for each in (tmp_path / "closed").iterdir())


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


@CHECKPOINTS
@pytest.mark.parametrize("how", ["a power cut", "a crash"])
def test_an_end_in_the_middle_of_anything_leaves_a_chain_with_all_that_was_promised(
    shim: SqliteShim, checkpoint_pages: int, how: str
) -> None:
    """From the first opening over commits to closing, at each call that reaches the disk."""
    for call in itertools.count(1):
        chance = random.Random(call)
        with Disk(shim) as disk:
            ended = list[Path]()

            def end(disk: Disk = disk, chance: random.Random = chance, ended: list[Path] = ended) -> None:
                ended.append(disk.cut_power(chance) if how == "a power cut" else disk.crash_process())

            disk.cut_at(call, end)
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


def test_files_elsewhere_and_the_time_after_are_left_alone(tmp_path: Path) -> None:
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
def test_of_a_write_that_was_not_synced_each_sector_is_the_old_or_the_new(
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
