"""A second allocsync on the same API does in a run what the schedule says, and is judged like the first."""

from allocsync.model.cloud import field_value
from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.schedule import SecondAllocsync, SecondKind
from tests.simulation.engine.script import allocation, at, edit, run_script
from tests.simulation.oracles.promises import CONFLICT_UPDATES
from tests.simulation.oracles.run_record import RunRecord, near


def sent_by_second(run: RunRecord) -> list[float]:
    """When the second allocsync sent updates."""
    return [note.at for note in run.outcome.notes if note.who == "2 client" and "is sent" in note.what]


def test_two_that_want_the_same_values_or_different_fields_are_both_in_sync_at_the_end(
    shim: SqliteShim,
) -> None:
    wanted = ((0, SecondKind.SAME, ""), (1, SecondKind.OTHER_FIELD, "note"))
    run = run_script(
        shim,
        allocations=[allocation(0), allocation(1)],
        second=SecondAllocsync(20.0, 30.0, wanted),
        events=[at(60.0, edit("b", 0))],
        until=120.0,
    )
    first_of_second, *later = sent_by_second(run)
    assert first_of_second == near(20.0)
    assert all(60.0 < each < 61.0 for each in later)  # both follow the edit
    assert field_value(run.cloud(0), "region") == "b"
    assert [field_value(run.cloud(1), name) for name in ("region", "note")] == ["a", "second"]
    assert "second allocsync: different fields" in run.outcome.fired


def test_two_that_want_different_values_send_ever_more_rarely(shim: SqliteShim) -> None:
    second = SecondAllocsync(20.0, 0.0, ((0, SecondKind.OTHER_VALUE, "region"),))
    run = run_script(shim, second=second, resync_seconds=30.0, until=900.0)
    assert "second allocsync: different values" in run.outcome.fired
    assert "Conflict" in run.conditions()
    for sent in ([post.sent for post in run.posts()], sent_by_second(run)):
        assert 3 <= len([each for each in sent if each < 600.0]) <= CONFLICT_UPDATES
        assert len([each for each in sent if each > 600.0]) <= 3
