"""A damaged journal is a clear error to readers, and is set aside by the writer."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from allocsync.errors import AllocsyncError
from allocsync.journal import reader
from allocsync.journal.database import NAME, JournalFile
from allocsync.journal.entries import CheckpointValue, Intent, Outcome
from allocsync.journal.retention import DAY_SECONDS, prune
from allocsync.model.ids import AllocationId
from tests.unit.journal.test_database import RECORD, WALL, A, B, opened, running


def write_journal(directory: Path) -> bytes:
    """Write a journal with every kind of row, close it, and return its bytes."""
    file, _ = opened(directory)
    file.write([Intent(A, RECORD), CheckpointValue("k", {"n": 1})], WALL)
    file.write([Outcome(A, 1, "applied", "r"), Intent(B, RECORD)], WALL)
    file.close()
    return (directory / NAME).read_bytes()


def damage(directory: Path, before: bytes, after: bytes) -> None:
    path = directory / NAME
    found = path.read_bytes()
    assert before in found
    assert len(before) == len(after)
    path.write_bytes(found.replace(before, after))


def read_all(directory: Path) -> None:
    with reader.opened(directory) as connection:
        reader.verify(connection)
    with reader.opened(directory) as connection:
        list(reader.updates(connection, reader.Query()))
    with reader.opened(directory) as connection:
        list(reader.gaps(connection))
        reader.memories(connection, "")


SCHEMA = (b"CREATE TABLE entries (", b"CREATE\xffTABLE entries (")


def test_reading_a_journal_with_an_undecodable_schema_is_a_clear_error(tmp_path: Path) -> None:
    write_journal(tmp_path)
    damage(tmp_path, *SCHEMA)
    for read in (reader.verify, lambda each: list(reader.updates(each, reader.Query()))):
        with (
            pytest.raises(
                AllocsyncError, match=r"journal\.db: the journal cannot be read: .*malformed"
            ) as errors,
            reader.opened(tmp_path) as connection,
        ):
            read(connection)
        assert "codec" not in str(errors.value)


def test_a_journal_with_an_undecodable_schema_is_set_aside_and_the_gap_recorded(tmp_path: Path) -> None:
    write_journal(tmp_path)
    damage(tmp_path, *SCHEMA)
    damaged = (tmp_path / NAME).read_bytes()
    file, restored = opened(tmp_path)
    file.close()
    assert restored.gap is not None
    assert "malformed" in restored.gap
    assert (tmp_path / f"{NAME}.damaged-{WALL:.0f}").read_bytes() == damaged
    with reader.opened(tmp_path) as connection:
        assert [reason for _, reason in reader.gaps(connection)] == [restored.gap]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"reason":"drift"', b'"reason":"dri\xfft"'),  # not UTF-8
        (b'"changes":[[', b'"changes":[]'),  # not JSON
        (b'"generation"', b'"generatiom"'),  # JSON with an unknown key
        (b' {"n":1}', b' {"n":2}'),  # a checkpoint value without its checksum
    ],
)
def test_a_journal_with_a_damaged_row_is_an_error_to_readers_and_is_set_aside(
    tmp_path: Path, before: bytes, after: bytes
) -> None:
    write_journal(tmp_path)
    damage(tmp_path, before, after)
    with pytest.raises(AllocsyncError, match="the journal cannot be read"):
        read_all(tmp_path)
    file, restored = opened(tmp_path)
    file.close()
    assert restored.gap is not None
    assert list(tmp_path.glob(f"{NAME}.damaged-*"))


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (b'{"outcome":', b'{"outcame":', "row 2 makes no sense: 'outcome' is missing"),
        (b'"generation"', b'"generatiom"', "row [13] makes no sense: 'generation' is missing"),
        (b'"changes":[[', b'"changes":[]', "row [13] makes no sense: "),
    ],
)
def test_the_error_names_the_damaged_row(tmp_path: Path, before: bytes, after: bytes, why: str) -> None:
    write_journal(tmp_path)
    damage(tmp_path, before, after)
    with (
        pytest.raises(AllocsyncError, match=f"cannot be read: {why}"),
        reader.opened(tmp_path) as connection,
    ):
        list(reader.updates(connection, reader.Query()))


def flip_bytes(data: bytes) -> Iterator[bytes]:
    """Yield copies of the file with one byte flipped, at regular positions, more of them in the schema."""
    begin = data.index(b"CREATE TABLE") - 2000
    for position in range(len(data)):
        every = 13 if begin < position < begin + 2200 else 101
        if data[position] and position % every == 0:
            yield data[:position] + bytes([data[position] ^ 0x80]) + data[position + 1 :]


def test_any_flipped_byte_gives_readers_a_clear_error_and_does_not_prevent_opening(tmp_path: Path) -> None:
    errors = set[str]()
    for data in flip_bytes(write_journal(tmp_path)):
        for part in tmp_path.iterdir():
            part.unlink()
        (tmp_path / NAME).write_bytes(data)
        try:
            read_all(tmp_path)
        except AllocsyncError as error:
            errors.add(re.sub(r"[^a-z ]", "", str(error).partition("the journal cannot be read")[2])[:20])
        with suppress(AllocsyncError):  # the flipped byte may look like a newer format
            opened(tmp_path)[0].close()
    assert len(errors) > 3


@pytest.mark.parametrize(
    "corrupting_sql",
    [
        "UPDATE sqlite_master SET name = CAST(x'ff' AS TEXT), sql = '-' WHERE name = 'entries'",
        "UPDATE sqlite_master SET rootpage = 99999 WHERE name = 'entries'",
    ],
)
async def test_damage_found_by_the_writer_sets_the_file_aside_and_ends_the_process(
    tmp_path: Path, corrupting_sql: str
) -> None:
    write_journal(tmp_path)
    file, _ = opened(tmp_path)
    errors = list[str | None]()
    with closing(sqlite3.connect(tmp_path / NAME)) as other, other:
        other.execute("PRAGMA writable_schema = ON")
        other.execute(corrupting_sql)
        other.execute("PRAGMA schema_version = 99")

    async def run() -> None:
        async with running(file) as journal:
            journal.on_change = errors.append
            assert await journal.enforce_retention() is None
            await journal.intent(A, RECORD)

    with pytest.raises(ExceptionGroup) as ended:
        await run()
    (error,) = ended.value.exceptions
    assert isinstance(error, AllocsyncError)
    assert re.search(r"journal\.db: the journal is damaged: .*malformed.* It is kept as journal", str(error))
    assert not errors, "damage is not reported as a transient error"
    file, restored = opened(tmp_path)
    file.close()
    assert restored.gap is not None
    assert restored.gap.startswith("a damaged journal was set aside")


async def test_damage_found_by_pruning_is_reported_and_the_writer_continues(tmp_path: Path) -> None:
    file, _ = opened(tmp_path)
    for number in (1, 3):
        file.write([Intent(A, RECORD)], WALL)
        file.write([Outcome(A, number, "applied", "r")], WALL)
    file.write([Intent(B, RECORD)], WALL)  # stays open, so that row 4 is the last that may be deleted
    file.connection.execute("DELETE FROM entries WHERE sequence = 4")
    later = WALL + 1000 * DAY_SECONDS
    with pytest.raises(ValueError, match="row 4 is not there"):
        prune(file, wall=later)
    assert file.connection.execute("SELECT count(*) FROM entries").fetchone() == (4,), "nothing was deleted"
    async with running(file, wall=lambda: later) as journal:
        assert await journal.enforce_retention() is None
        assert journal.damage == "row 4 is not there"
        assert await journal.intent(AllocationId("c"), RECORD) == 6, "new rows can still be written"
    file.close()


def test_a_chain_that_does_not_begin_at_its_anchor_is_damage(tmp_path: Path) -> None:
    write_journal(tmp_path)
    with closing(sqlite3.connect(tmp_path / NAME)) as other, other:
        other.execute("INSERT OR REPLACE INTO anchor VALUES (1, 81, x'00')")
    file, restored = opened(tmp_path)
    file.close()
    assert restored.gap is not None
    assert "row 82 is not there: the first is row 1" in restored.gap


def test_a_file_whose_gap_cannot_be_written_is_closed_so_that_a_retry_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_journal(tmp_path)
    damage(tmp_path, *SCHEMA)
    opened_files = list[JournalFile]()

    def fail_to_write(self: JournalFile, *_: object) -> list[int]:
        opened_files.append(self)
        raise sqlite3.DatabaseError("database or disk is fail_to_write")

    with monkeypatch.context() as patched:
        patched.setattr(JournalFile, "write", fail_to_write)
        with pytest.raises(AllocsyncError, match="cannot be opened: database or disk is fail_to_write"):
            opened(tmp_path)
    (closed_file,) = opened_files
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        closed_file.connection.execute("SELECT 1")
    file, restored = opened(tmp_path)
    file.close()
    assert restored.gap is not None
    with reader.opened(tmp_path) as connection:
        assert [reason for _, reason in reader.gaps(connection)] == [restored.gap]
