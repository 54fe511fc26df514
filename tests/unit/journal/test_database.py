"""The journal on a real file: durability, restarts, disk errors, damage, verification and pruning."""

import asyncio
import itertools
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.errors import AllocsyncError, JournalUnavailable
from allocsync.journal import reader, retention
from allocsync.journal.database import NAME, JournalFile
from allocsync.journal.entries import CheckpointValue, Intent, Outcome
from allocsync.journal.retention import DAY_SECONDS, prune
from allocsync.journal.writer import Journal
from allocsync.model.change import Change
from allocsync.model.cloud import NumberLiteral
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import IntentRecord, Restored
from allocsync.model.times import Monotonic, WallTime

T = TypeVar("T")
WALL = WallTime(1.7e9)
A, B = AllocationId("a"), AllocationId("b")
RECORD = IntentRecord(
    changes=(Change("region", "x", "y"), Change("version", NumberLiteral("1e400"), "2")),
    fields=(("region", "y"), ("version", "2")),
    unmanaged_hash="00ff",
    revision="g",
    reason="drift",
)


async def inline(work: Callable[[], T]) -> T:
    return work()


def opened(directory: Path) -> tuple[JournalFile, Restored]:
    return JournalFile.open(directory, wall=lambda: WALL)


def running(
    file: JournalFile, wall: Callable[[], WallTime] = lambda: WALL
) -> AbstractAsyncContextManager[Journal]:
    loop = asyncio.get_running_loop()
    return Journal.running(file, execute=inline, now=lambda: Monotonic(loop.time()), wall=wall)


def copy_files(directory: Path, to: Path) -> None:
    """Copy what a killed process would leave: the file and its write-ahead log as they are now."""
    to.mkdir()
    for part in directory.glob(f"{NAME}*"):
        shutil.copy(part, to / part.name)


async def write_many_intents(journal: Journal) -> None:
    for number in range(1000):
        await journal.intent(AllocationId(f"{number:04}"), RECORD)


async def wait_until_writable(journal: Journal) -> None:
    async with asyncio.timeout(10):
        while journal.problem is not None:
            await asyncio.sleep(0.01)


async def test_open_intents_and_checkpoint_values_survive_a_crash(tmp_path: Path) -> None:
    file, before = opened(tmp_path)
    assert before == Restored()
    async with running(file) as journal:
        journal.remember("k", {"n": 1})
        first = await journal.intent(A, RECORD)
        second = await journal.intent(B, RECORD)
        copy_files(tmp_path, tmp_path / "crash")
        journal.outcome(A, first, "applied", "because")
    after, restored = opened(tmp_path / "crash")
    assert [(each.sequence, each.allocation, each.record) for each in restored.open_intents] == [
        (first, A, RECORD),
        (second, B, RECORD),
    ]
    assert (restored.memories, restored.gap) == ({"k": {"n": 1}}, None)
    after.close()
    file.close()
    again, settled = opened(tmp_path)
    assert [each.sequence for each in settled.open_intents] == [second]
    again.close()


async def test_a_full_disk_fails_intents_and_keeps_outcomes_until_there_is_space(tmp_path: Path) -> None:
    file, _ = opened(tmp_path)
    reported = list[str | None]()
    async with running(file) as journal:
        journal.on_change = reported.append
        first = await journal.intent(A, RECORD)
        pages = file.connection.execute("PRAGMA page_count").fetchone()[0]
        file.connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(JournalUnavailable, match="full"):
            await write_many_intents(journal)
        journal.outcome(A, first, "applied", "x" * 10_000)
        await asyncio.sleep(0)
        assert reported == [journal.problem]
        file.connection.execute("PRAGMA max_page_count = 100000")
        await wait_until_writable(journal)
        await journal.intent(B, RECORD)
    assert len(reported) == 2
    assert reported[1] is None
    file.close()
    again, restored = opened(tmp_path)
    assert A not in {each.allocation for each in restored.open_intents}
    with reader.opened(tmp_path) as connection:
        assert not reader.verify(connection).problems
    again.close()


async def test_a_flush_says_whether_what_was_queued_before_is_on_the_disk(tmp_path: Path) -> None:
    file, _ = opened(tmp_path)
    async with running(file) as journal:
        await journal.flush()  # nothing was queued
        journal.remember("first", 1)
        await journal.flush()
        copy_files(tmp_path, tmp_path / "stored")
        pages = file.connection.execute("PRAGMA page_count").fetchone()[0]
        file.connection.execute(f"PRAGMA max_page_count = {pages}")
        journal.remember("second", "x" * 10_000)
        abandoned = asyncio.create_task(journal.flush())
        await asyncio.sleep(0)
        abandoned.cancel()
        with pytest.raises(JournalUnavailable, match="full"):
            await journal.flush()
        with pytest.raises(JournalUnavailable, match="full"):
            await journal.flush()  # nothing new was queued, but what was queued before is still not stored
        copy_files(tmp_path, tmp_path / "not stored")
        file.connection.execute("PRAGMA max_page_count = 100000")
        await journal.flush()
        copy_files(tmp_path, tmp_path / "stored again")
    assert abandoned.cancelled()
    file.close()
    found = {}
    for name in ("stored", "not stored", "stored again"):
        copied, restored = opened(tmp_path / name)
        found[name] = sorted(restored.memories)
        copied.close()
    assert found == {"stored": ["first"], "not stored": ["first"], "stored again": ["first", "second"]}


def test_an_allocation_cannot_have_two_open_intents(tmp_path: Path) -> None:
    file, _ = opened(tmp_path)
    file.write([Intent(A, RECORD)], WALL)
    with pytest.raises(sqlite3.IntegrityError):
        file.write([Intent(A, RECORD)], WALL)
    assert file.write([Intent(B, RECORD)], WALL) == [2]
    file.close()


@pytest.mark.parametrize("damage", ["garbage", "another program's", "a changed row", "a header alone"])
def test_a_damaged_journal_is_set_aside_and_the_gap_is_recorded(tmp_path: Path, damage: str) -> None:
    file, _ = opened(tmp_path)
    file.write([Intent(A, RECORD)], WALL)
    path = tmp_path / NAME
    if damage == "a changed row":
        file.connection.execute("UPDATE entries SET data = replace(data, 'drift', 'other')")
    file.close()
    if damage == "garbage":
        path.write_bytes(b"no database" * 1000)
    elif damage == "a header alone":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "another program's":
        path.unlink()
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE theirs (x)")
        connection.close()
    before = path.read_bytes()
    file, restored = opened(tmp_path)
    assert restored.gap is not None
    assert "damaged" in restored.gap
    assert restored.open_intents == ()
    (kept,) = [each for each in tmp_path.glob(f"{NAME}.damaged-*") if each.suffix[-1].isdigit()]
    assert kept.read_bytes() == before
    with reader.opened(tmp_path) as connection:
        assert [reason for _, reason in reader.gaps(connection)] == [restored.gap]
    file.close()


def test_a_journal_with_a_newer_format_is_rejected_and_not_changed(tmp_path: Path) -> None:
    file, _ = opened(tmp_path)
    file.connection.execute("PRAGMA user_version = 99")
    file.close()
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(AllocsyncError, match="newer allocsync"):
        opened(tmp_path)
    with pytest.raises(AllocsyncError, match="newer allocsync"), reader.opened(tmp_path):
        pytest.fail("the reader took rows that it does not know")
    assert (tmp_path / NAME).read_bytes() == before


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE entries SET data = replace(data, '\"x\"', '\"z\"') WHERE sequence = 1",
        "UPDATE entries SET at = at + 1 WHERE sequence = 2",
        "UPDATE entries SET allocation = 'c' WHERE sequence = 3",
        "DELETE FROM entries WHERE sequence = 2",
        "UPDATE entries SET sequence = 99 WHERE sequence = 4",
    ],
)
def test_verification_finds_changed_removed_and_moved_rows(tmp_path: Path, sql: str) -> None:
    file, _ = opened(tmp_path)
    file.write([Intent(A, RECORD), Outcome(A, 1, "applied", "r"), Intent(B, RECORD)], WALL)
    file.write([Outcome(B, 3, "applied", "r")], WALL)
    with reader.opened(tmp_path) as connection:
        assert reader.verify(connection).problems == ()
    assert file.connection.execute(sql).rowcount == 1
    with reader.opened(tmp_path) as connection:
        assert reader.verify(connection).problems
    file.close()


@given(days=st.lists(st.sampled_from([0.0, 50.0, 100.0, 200.0]), min_size=1, max_size=12), data=st.data())
def test_pruning_deletes_a_settled_prefix_and_the_chain_remains_valid(
    tmp_path_factory: pytest.TempPathFactory, days: list[float], data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("journal")
    file, _ = opened(directory)
    left_open = dict[str, int]()
    for number, ago in zip(itertools.count(), sorted(days, reverse=True), strict=False):
        key = AllocationId(f"{number}")
        (sequence,) = file.write([Intent(key, RECORD)], WALL - ago * DAY_SECONDS)
        if data.draw(st.booleans()):
            file.write([Outcome(key, sequence, "applied", "r")], WALL - ago * DAY_SECONDS)
        else:
            left_open[key] = sequence
    prune(file, wall=WALL, days=90)
    file.write([CheckpointValue("m", 1), Intent(A, RECORD)], WALL)
    file.close()
    file, restored = opened(directory)
    assert {
        each.allocation: each.sequence for each in restored.open_intents if each.allocation != A
    } == left_open
    with reader.opened(directory) as connection:
        assert reader.verify(connection).problems == ()
        kept = {past.at for past in reader.updates(connection, reader.Query())}
    if not left_open:
        assert min(kept) >= WALL - 90 * DAY_SECONDS
    file.close()


def test_history_is_filtered_by_id_time_and_outcome(tmp_path: Path) -> None:
    file, _ = opened(tmp_path)
    file.write([Intent(A, RECORD)], WALL)
    file.write([Outcome(A, 1, "applied", "accepted"), Outcome(A, 1, "not_applied", "not honoured")], WALL + 1)
    file.write([Intent(B, RECORD)], WALL + 100)
    with reader.opened(tmp_path) as connection:

        def found(**query: object) -> list[tuple[str, str]]:
            asked = reader.Query(**query)  # type: ignore[arg-type]  # by name
            return [(past.allocation, past.outcome) for past in reader.updates(connection, asked)]

        assert found() == [("a", "not_applied"), ("b", "unknown")]
        assert found(allocation="b") == found(since=WALL + 50) == found(last=1) == [("b", "unknown")]
        assert found(until=WALL) == found(outcomes=frozenset({"not_applied"})) == [("a", "not_applied")]
        assert found(outcomes=frozenset({"void"})) == []
    file.close()


def test_rows_written_with_a_wrong_clock_neither_delete_young_rows_nor_keep_old_ones(tmp_path: Path) -> None:
    file, _ = opened(tmp_path)

    def write(at: WallTime) -> None:
        (sequence,) = file.write([Intent(A, RECORD)], at)
        file.write([Outcome(A, sequence, "applied", "r")], at)

    for at in (WALL - 60, WallTime(1e9), WALL):
        write(at)
    assert prune(file, wall=WALL, days=90) == 0, "young rows are kept, whatever follows them"
    assert prune(file, wall=WALL + 100 * DAY_SECONDS, days=90) == 6
    for at in (WALL, WALL + 900 * DAY_SECONDS, WALL):
        write(at)
    assert prune(file, wall=WALL + 100 * DAY_SECONDS, days=90) == 6
    for at in (WALL, WALL + 1):
        write(at)
    assert prune(file, wall=WALL - 5 * DAY_SECONDS, days=90) == 0, "now the current clock is behind"
    file.close()
    with reader.opened(tmp_path) as connection:
        assert reader.verify(connection).problems == ()


def test_many_rows_from_the_future_are_deleted_in_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MAX_ROWS_PER_CALL", 4)
    file, _ = opened(tmp_path)
    for at in (*[WALL + 900 * DAY_SECONDS] * 5, *[WALL] * 3, WALL + 200 * DAY_SECONDS):
        (sequence,) = file.write([Intent(A, RECORD)], at)
        file.write([Outcome(A, sequence, "applied", "r")], at)
    now = WALL + 200 * DAY_SECONDS
    assert [prune(file, wall=now) for _ in range(6)] == [4, 4, 4, 4, 0, 0]
    file.close()


def test_history_finds_an_update_by_its_outcome_and_by_stale_overwrite(tmp_path: Path) -> None:
    file, _ = opened(tmp_path)
    file.write([Intent(A, RECORD)], WALL)
    file.write([Outcome(A, 1, "late_applied", "r"), Outcome(A, 1, "stale_overwrite", "r")], WALL + 1)
    with reader.opened(tmp_path) as connection:
        for outcome, number in {"late_applied": 1, "stale_overwrite": 1, "applied": 0}.items():
            asked = reader.Query(outcomes=frozenset({outcome}))
            assert len(list(reader.updates(connection, asked))) == number
    file.close()


def test_a_journal_that_cannot_be_reached_is_a_clear_error(tmp_path: Path) -> None:
    with (
        pytest.raises(AllocsyncError, match=r"cannot be read: file name too long\. Run this as the user"),
        reader.opened(tmp_path / ("x" * 300)),
    ):
        raise AssertionError("opened")
