"""The journal on a real file: what is durable, what survives, what is refused, and what checking it finds."""

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
from allocsync.journal.entries import Intent, Memory, Outcome
from allocsync.journal.retention import DAY_SECONDS, prune
from allocsync.journal.writer import Journal
from allocsync.model.change import Change
from allocsync.model.cloud import NumberLiteral
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import IntentRecord, Restored

T = TypeVar("T")
WALL = 1.7e9
A, B = AllocationId("a"), AllocationId("b")
RECORD = IntentRecord(
    changes=(Change("region", "x", "y"), Change("version", NumberLiteral("1e400"), "2")),
    leaves=(("region", "y"), ("version", "2")),
    undeclared="00ff",
    generation="g",
    reason="drift",
)


async def inline(work: Callable[[], T]) -> T:
    return work()


def opened(directory: Path) -> tuple[JournalFile, Restored]:
    return JournalFile.open(directory, wall=lambda: WALL)


def running(
    file: JournalFile, wall: Callable[[], float] = lambda: WALL
) -> AbstractAsyncContextManager[Journal]:
    now = asyncio.get_running_loop().time
    return Journal.running(file, execute=inline, now=now, wall=wall)


def copy(directory: Path, to: Path) -> None:
    """What a killed process leaves: the file and its log as they are at this moment."""
    to.mkdir()
    for part in directory.glob(f"{NAME}*"):
        shutil.copy(part, to / part.name)


async def fill(journal: Journal) -> None:
    for number in range(1000):
        await journal.intent(AllocationId(f"{number:04}"), RECORD)


async def healed(journal: Journal) -> None:
    async with asyncio.timeout(10):
        while journal.problem is not None:
            await asyncio.sleep(0.01)


async def test_what_was_open_and_what_was_remembered_is_there_after_a_crash(tmp_path: Path) -> None:
    file, before = opened(tmp_path)
    assert before == Restored()
    async with running(file) as journal:
        journal.remember("k", {"n": 1})
        first = await journal.intent(A, RECORD)
        second = await journal.intent(B, RECORD)
        copy(tmp_path, tmp_path / "crash")
        journal.outcome(A, first, "applied", "because")
    after, left = opened(tmp_path / "crash")
    assert [(each.sequence, each.allocation, each.record) for each in left.open_intents] == [
        (first, A, RECORD),
        (second, B, RECORD),
    ]
    assert (left.memories, left.gap) == ({"k": {"n": 1}}, None)
    after.close()
    file.close()
    again, settled = opened(tmp_path)
    assert [each.sequence for each in settled.open_intents] == [second]
    again.close()


async def test_a_full_file_refuses_intents_keeps_outcomes_and_heals(tmp_path: Path) -> None:
    file, _ = opened(tmp_path)
    told = list[str | None]()
    async with running(file) as journal:
        journal.on_change = told.append
        first = await journal.intent(A, RECORD)
        pages = file.connection.execute("PRAGMA page_count").fetchone()[0]
        file.connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(JournalUnavailable, match="full"):
            await fill(journal)
        journal.outcome(A, first, "applied", "x" * 10_000)
        await asyncio.sleep(0)
        assert told == [journal.problem]
        file.connection.execute("PRAGMA max_page_count = 100000")
        await healed(journal)
        await journal.intent(B, RECORD)
    assert len(told) == 2
    assert told[1] is None
    file.close()
    again, left = opened(tmp_path)
    assert A not in {each.allocation for each in left.open_intents}
    with reader.opened(tmp_path) as connection:
        assert not reader.verify(connection).problems
    again.close()


def test_two_open_intents_for_one_allocation_cannot_be_written(tmp_path: Path) -> None:
    file, _ = opened(tmp_path)
    file.write([Intent(A, RECORD)], WALL)
    with pytest.raises(sqlite3.IntegrityError):
        file.write([Intent(A, RECORD)], WALL)
    assert file.write([Intent(B, RECORD)], WALL) == [2]
    file.close()


@pytest.mark.parametrize("how", ["garbage", "another program's", "a changed row", "a header alone"])
def test_a_damaged_journal_is_set_aside_and_the_gap_is_told(tmp_path: Path, how: str) -> None:
    file, _ = opened(tmp_path)
    file.write([Intent(A, RECORD)], WALL)
    path = tmp_path / NAME
    if how == "a changed row":
        file.connection.execute("UPDATE entries SET data = replace(data, 'drift', 'other')")
    file.close()
    if how == "garbage":
        path.write_bytes(b"no database" * 1000)
    elif how == "a header alone":
        path.write_bytes(path.read_bytes()[:100])
    elif how == "another program's":
        path.unlink()
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE theirs (x)")
        connection.close()
    before = path.read_bytes()
    file, left = opened(tmp_path)
    assert left.gap is not None
    assert "damaged" in left.gap
    assert left.open_intents == ()
    (kept,) = [each for each in tmp_path.glob(f"{NAME}.damaged-*") if each.suffix[-1].isdigit()]
    assert kept.read_bytes() == before
    with reader.opened(tmp_path) as connection:
        assert [reason for _, reason in reader.gaps(connection)] == [left.gap]
    file.close()


def test_a_newer_format_is_refused_and_not_touched(tmp_path: Path) -> None:
    file, _ = opened(tmp_path)
    file.connection.execute("PRAGMA user_version = 99")
    file.close()
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(AllocsyncError, match="newer allocsync"):
        opened(tmp_path)
    assert (tmp_path / NAME).read_bytes() == before


@pytest.mark.parametrize(
    "wrong",
    [
        "UPDATE entries SET data = replace(data, '\"x\"', '\"z\"') WHERE sequence = 1",
        "UPDATE entries SET at = at + 1 WHERE sequence = 2",
        "UPDATE entries SET allocation = 'c' WHERE sequence = 3",
        "DELETE FROM entries WHERE sequence = 2",
        "UPDATE entries SET sequence = 99 WHERE sequence = 4",
    ],
)
def test_checking_finds_what_was_changed_taken_out_or_moved(tmp_path: Path, wrong: str) -> None:
    file, _ = opened(tmp_path)
    file.write([Intent(A, RECORD), Outcome(A, 1, "applied", "r"), Intent(B, RECORD)], WALL)
    file.write([Outcome(B, 3, "applied", "r")], WALL)
    with reader.opened(tmp_path) as connection:
        assert reader.verify(connection).problems == ()
    assert file.connection.execute(wrong).rowcount == 1
    with reader.opened(tmp_path) as connection:
        assert reader.verify(connection).problems
    file.close()


@given(days=st.lists(st.sampled_from([0.0, 50.0, 100.0, 200.0]), min_size=1, max_size=12), data=st.data())
def test_pruning_cuts_a_settled_prefix_and_the_chain_goes_on(
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
    file.write([Memory("m", 1), Intent(A, RECORD)], WALL)
    file.close()
    file, left = opened(directory)
    assert {each.allocation: each.sequence for each in left.open_intents if each.allocation != A} == left_open
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


def test_a_row_of_a_clock_that_was_wrong_takes_nothing_with_it_and_keeps_nothing(tmp_path: Path) -> None:
    file, _ = opened(tmp_path)

    def write(at: float) -> None:
        (sequence,) = file.write([Intent(A, RECORD)], at)
        file.write([Outcome(A, sequence, "applied", "r")], at)

    for at in (WALL - 60, 1e9, WALL):
        write(at)
    assert prune(file, wall=WALL, days=90) == 0, "what is young is kept, whatever stands behind it"
    assert prune(file, wall=WALL + 100 * DAY_SECONDS, days=90) == 6
    for at in (WALL, WALL + 900 * DAY_SECONDS, WALL):
        write(at)
    assert prune(file, wall=WALL + 100 * DAY_SECONDS, days=90) == 6
    for at in (WALL, WALL + 1):
        write(at)
    assert prune(file, wall=WALL - 5 * DAY_SECONDS, days=90) == 0, "this time it is today's clock"
    file.close()
    with reader.opened(tmp_path) as connection:
        assert reader.verify(connection).problems == ()


def test_many_rows_of_a_clock_that_was_ahead_are_cut_in_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 4)
    file, _ = opened(tmp_path)
    for at in (*[WALL + 900 * DAY_SECONDS] * 5, *[WALL] * 3, WALL + 200 * DAY_SECONDS):
        (sequence,) = file.write([Intent(A, RECORD)], at)
        file.write([Outcome(A, sequence, "applied", "r")], at)
    now = WALL + 200 * DAY_SECONDS
    assert [prune(file, wall=now) for _ in range(6)] == [4, 4, 4, 4, 0, 0]
    file.close()


def test_history_finds_an_update_by_what_it_put_back_and_by_how_it_ended(tmp_path: Path) -> None:
    file, _ = opened(tmp_path)
    file.write([Intent(A, RECORD)], WALL)
    file.write([Outcome(A, 1, "late_applied", "r"), Outcome(A, 1, "stale_overwrite", "r")], WALL + 1)
    with reader.opened(tmp_path) as connection:
        for outcome, number in {"late_applied": 1, "stale_overwrite": 1, "applied": 0}.items():
            asked = reader.Query(outcomes=frozenset({outcome}))
            assert len(list(reader.updates(connection, asked))) == number
    file.close()


def test_a_journal_that_cannot_be_reached_is_said_to_be(tmp_path: Path) -> None:
    with (
        pytest.raises(AllocsyncError, match=r"cannot be read: file name too long\. Ask as its user"),
        reader.opened(tmp_path / ("x" * 300)),
    ):
        raise AssertionError("opened")
