"""A journal with damage in it: a clear error for whoever reads it, and set aside by whoever writes it."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from allocsync.errors import AllocsyncError
from allocsync.journal import reader
from allocsync.journal.database import NAME, JournalFile
from allocsync.journal.entries import Intent, Memory, Outcome
from allocsync.journal.retention import DAY_SECONDS, prune
from allocsync.model.ids import AllocationId
from tests.unit.journal.test_database import RECORD, WALL, A, B, opened, running


def written(directory: Path) -> bytes:
    """A journal with something of everything in it, closed."""
    file, _ = opened(directory)
    file.write([Intent(A, RECORD), Memory("k", {"n": 1})], WALL)
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


def test_a_schema_that_is_no_text_any_more_is_told_to_who_reads_it(tmp_path: Path) -> None:
    written(tmp_path)
    damage(tmp_path, *SCHEMA)
    for read in (reader.verify, lambda each: list(reader.updates(each, reader.Query()))):
        with (
            pytest.raises(
                AllocsyncError, match=r"journal\.db: the journal cannot be read: .*malformed"
            ) as told,
            reader.opened(tmp_path) as connection,
        ):
            read(connection)
        assert "codec" not in str(told.value)


def test_a_schema_that_is_no_text_any_more_is_set_aside_and_the_gap_is_told(tmp_path: Path) -> None:
    written(tmp_path)
    damage(tmp_path, *SCHEMA)
    damaged = (tmp_path / NAME).read_bytes()
    file, left = opened(tmp_path)
    file.close()
    assert left.gap is not None
    assert "malformed" in left.gap
    assert (tmp_path / f"{NAME}.damaged-{WALL:.0f}").read_bytes() == damaged
    with reader.opened(tmp_path) as connection:
        assert [reason for _, reason in reader.gaps(connection)] == [left.gap]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"reason":"drift"', b'"reason":"dri\xfft"'),  # what is no text
        (b'"changes":[[', b'"changes":[]'),  # no JSON
        (b'"generation"', b'"generatiom"'),  # JSON that makes no sense
        (b' {"n":1}', b' {"n":2}'),  # what is remembered is not what was written
    ],
)
def test_a_row_that_makes_no_sense_is_told_and_set_aside(tmp_path: Path, before: bytes, after: bytes) -> None:
    written(tmp_path)
    damage(tmp_path, before, after)
    with pytest.raises(AllocsyncError, match="the journal cannot be read"):
        read_all(tmp_path)
    file, left = opened(tmp_path)
    file.close()
    assert left.gap is not None
    assert list(tmp_path.glob(f"{NAME}.damaged-*"))


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (b'{"outcome":', b'{"outcame":', "row 2 makes no sense: 'outcome' is missing"),
        (b'"generation"', b'"generatiom"', "row [13] makes no sense: 'generation' is missing"),
        (b'"changes":[[', b'"changes":[]', "row [13] makes no sense: "),
    ],
)
def test_which_row_makes_no_sense_is_said(tmp_path: Path, before: bytes, after: bytes, why: str) -> None:
    written(tmp_path)
    damage(tmp_path, before, after)
    with (
        pytest.raises(AllocsyncError, match=f"cannot be read: {why}"),
        reader.opened(tmp_path) as connection,
    ):
        list(reader.updates(connection, reader.Query()))


def flipped(data: bytes) -> Iterator[bytes]:
    """The file with one byte after the other wrong, every so many, and more where the schema is."""
    begin = data.index(b"CREATE TABLE") - 2000
    for position in range(len(data)):
        every = 13 if begin < position < begin + 2200 else 101
        if data[position] and position % every == 0:
            yield data[:position] + bytes([data[position] ^ 0x80]) + data[position + 1 :]


def test_wherever_a_byte_is_wrong_reading_ends_in_a_clear_error_and_opening_works(tmp_path: Path) -> None:
    told = set[str]()
    for data in flipped(written(tmp_path)):
        for part in tmp_path.iterdir():
            part.unlink()
        (tmp_path / NAME).write_bytes(data)
        try:
            read_all(tmp_path)
        except AllocsyncError as error:
            told.add(re.sub(r"[^a-z ]", "", str(error).partition("the journal cannot be read")[2])[:20])
        with suppress(AllocsyncError):  # a number of the format that looks newer
            opened(tmp_path)[0].close()
    assert len(told) > 3


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE sqlite_master SET name = CAST(x'ff' AS TEXT), sql = '-' WHERE name = 'entries'",
        "UPDATE sqlite_master SET rootpage = 99999 WHERE name = 'entries'",
    ],
)
async def test_damage_that_a_running_writer_meets_sets_the_file_aside_and_ends_the_process(
    tmp_path: Path, spoil: str
) -> None:
    written(tmp_path)
    file, _ = opened(tmp_path)
    told = list[str | None]()
    with closing(sqlite3.connect(tmp_path / NAME)) as other, other:
        other.execute("PRAGMA writable_schema = ON")
        other.execute(spoil)
        other.execute("PRAGMA schema_version = 99")

    async def run() -> None:
        async with running(file) as journal:
            journal.on_change = told.append
            assert await journal.tend() is None
            await journal.intent(A, RECORD)

    with pytest.raises(ExceptionGroup) as ended:
        await run()
    (error,) = ended.value.exceptions
    assert isinstance(error, AllocsyncError)
    assert re.search(r"journal\.db: the journal is damaged: .*malformed.* It is kept as journal", str(error))
    assert not told, "that is no trouble which passes"
    file, left = opened(tmp_path)
    file.close()
    assert left.gap is not None
    assert left.gap.startswith("a damaged journal was set aside")


async def test_damage_that_pruning_meets_is_told_and_ends_nothing(tmp_path: Path) -> None:
    file, _ = opened(tmp_path)
    for number in (1, 3):
        file.write([Intent(A, RECORD)], WALL)
        file.write([Outcome(A, number, "applied", "r")], WALL)
    file.write([Intent(B, RECORD)], WALL)  # stays open, so that row 4 is the last that may be cut
    file.connection.execute("DELETE FROM entries WHERE sequence = 4")
    later = WALL + 1000 * DAY_SECONDS
    with pytest.raises(ValueError, match="row 4 is not there"):
        prune(file, wall=later)
    assert file.connection.execute("SELECT count(*) FROM entries").fetchone() == (4,), "nothing was cut"
    async with running(file, wall=lambda: later) as journal:
        assert await journal.tend() is None
        assert journal.damage == "row 4 is not there"
        assert await journal.intent(AllocationId("c"), RECORD) == 6, "it can be written all the same"
    file.close()


def test_a_chain_that_does_not_begin_where_it_was_cut_off_is_damage(tmp_path: Path) -> None:
    written(tmp_path)
    with closing(sqlite3.connect(tmp_path / NAME)) as other, other:
        other.execute("INSERT OR REPLACE INTO anchor VALUES (1, 81, x'00')")
    file, left = opened(tmp_path)
    file.close()
    assert left.gap is not None
    assert "row 82 is not there: the first is row 1" in left.gap


def test_a_file_whose_gap_cannot_be_written_is_closed_and_the_next_attempt_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path)
    damage(tmp_path, *SCHEMA)
    begun = list[JournalFile]()

    def full(self: JournalFile, *_: object) -> list[int]:
        begun.append(self)
        raise sqlite3.DatabaseError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(JournalFile, "write", full)
        with pytest.raises(AllocsyncError, match="cannot be opened: database or disk is full"):
            opened(tmp_path)
    (left_behind,) = begun
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        left_behind.connection.execute("SELECT 1")
    file, left = opened(tmp_path)
    file.close()
    assert left.gap is not None
    with reader.opened(tmp_path) as connection:
        assert [reason for _, reason in reader.gaps(connection)] == [left.gap]
