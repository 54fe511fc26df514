"""Edits that change too much at once: what is held, what goes on, and what releases it."""

from collections.abc import Iterable

import pytest

from allocsync.model.cloud import field_value
from allocsync.model.desired_state import Mode
from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.schedule import (
    Approve,
    Edit,
    EndKind,
    EndProcess,
    Event,
    ForeignWrite,
    RequestResync,
    SimultaneousEdits,
)
from tests.simulation.engine.script import LIVE, allocation, at, edit, edits, run_script, unknown
from tests.simulation.oracles.run_record import RunRecord, answered, near

ALL = range(40)
PERCENT = 30.0
HOUR_SECONDS = 3600.0
SETTLE_SECONDS, SLOTS_SECONDS = 10.0, 0.5
CONVERGED = [allocation(key, declared={"region": "x"}) for key in ALL]


def held_times(run: RunRecord) -> list[float]:
    """When a revision was held."""
    return [note.at for note in run.events("revision_awaiting_approval")]


def sent_times(run: RunRecord, region: str, keys: Iterable[int] = ALL) -> dict[int, list[float]]:
    """When each of these allocations was sent this region; allocations without an update are left out."""
    times = {
        key: [post.sent for post in run.posts(key) if field_value(post.body, "region") == region]
        for key in keys
    }
    return {key: at for key, at in times.items() if at}


def soon(seconds: float) -> object:
    """At this time, or as soon after it as write slots for dozens of updates are free."""
    return pytest.approx(seconds + SLOTS_SECONDS / 2, abs=SLOTS_SECONDS / 2)


def are_read(run: RunRecord, keys: Iterable[int], *, since: float) -> bool:
    """Whether each of these allocations was read within a second."""
    return all(run.reads(key, since=since, until=since + 1.0) for key in keys)


def test_edits_within_a_minute_add_up_for_the_change_limit_and_are_held_until_approval(
    shim: SqliteShim,
) -> None:
    quarters = [range(first, first + 10) for first in range(0, 40, 10)]
    approved = 2 * HOUR_SECONDS
    run = run_script(
        shim,
        allocations=CONVERGED,
        events=[
            *(at(10.0 + 15.0 * number, edits("a", keys)) for number, keys in enumerate(quarters)),
            *(at(30.0, ForeignWrite(key, "region", "theirs")) for key in (5, 15, 35)),
            at(31.0, RequestResync()),
            at(approved, Approve()),
        ],
        until=approved + 10.0,
        max_changes_percent=PERCENT,
    )
    assert held_times(run) == [near(25.0), near(40.0), near(55.0)]
    changes = [note.fields["changed"] for note in run.events("revision_awaiting_approval")]
    assert changes == [20, 30, 40]
    first, *others = quarters
    assert {*sent_times(run, "a", first)} == {*first}
    assert all(at == [soon(10.0)] for key, at in sent_times(run, "a", first).items() if key != 5)
    for number, keys in enumerate(others, start=1):
        assert are_read(run, keys, since=10.0 + 15.0 * number)
        assert sent_times(run, "a", keys) == {key: [soon(approved)] for key in keys}
    # Unchanged allocations go on. A changed one is not written at all, not even back to its former value.
    assert sent_times(run, "x") == {35: [soon(31.0)]}
    assert sent_times(run, "a", [5]) == {5: [soon(10.0), soon(approved)]}
    assert [field_value(run.cloud(key), "region") for key in ALL] == ["a"] * 40


@pytest.mark.parametrize("how", [EndKind.KILL, EndKind.POWER, EndKind.STOP])
def test_a_restart_does_not_bypass_the_change_limit_and_keeps_an_approval(
    shim: SqliteShim, how: EndKind
) -> None:
    changed = range(20)
    approved = 2 * HOUR_SECONDS
    run = run_script(
        shim,
        allocations=CONVERGED,
        events=[
            at(20.0, EndProcess(how, 10.0)),
            at(25.0, edits("a", changed)),
            at(60.0, EndProcess(how, 1.0)),
            at(90.0, ForeignWrite(0, "region", "theirs")),
            at(90.0, ForeignWrite(30, "region", "theirs")),
            at(95.0, RequestResync()),
            at(approved, Approve()),
            at(approved + 30.0, EndProcess(how, 1.0)),
            at(approved + 60.0, ForeignWrite(0, "region", "theirs")),
            at(approved + 65.0, RequestResync()),
        ],
        until=approved + 100.0,
        max_changes_percent=PERCENT,
    )
    _, second, third, _ = run.starts()
    assert held_times(run) == [near(second), near(third)]
    assert are_read(run, changed, since=second)
    assert are_read(run, changed, since=third)
    again = {0: [soon(approved), soon(approved + 65.0)]}
    assert sent_times(run, "a") == {key: [soon(approved)] for key in changed} | again
    assert sent_times(run, "x") == {30: [soon(95.0)]}


@pytest.mark.parametrize("restarted", [False, True])
def test_changing_many_allocations_from_observe_to_enforce_is_held_until_approval(
    shim: SqliteShim, *, restarted: bool
) -> None:
    edited = 60.0
    run = run_script(
        shim,
        allocations=[allocation(key, mode=Mode.OBSERVE) for key in ALL],
        events=[
            *([at(edited - 5.0, EndProcess(EndKind.KILL, 10.0))] if restarted else []),
            at(edited, edits("a", ALL)),
            at(HOUR_SECONDS + 100.0, Approve()),
        ],
        until=HOUR_SECONDS + 200.0,
        max_changes_percent=PERCENT,
    )
    known = run.starts()[-1] if restarted else edited
    assert held_times(run) == [near(known)]
    assert run.conditions(0, since=known) == ["AwaitingApproval", "Pending", "InSync"]
    assert are_read(run, ALL, since=known)
    assert sent_times(run, "a") == {key: [soon(HOUR_SECONDS + 100.0)] for key in ALL}


@pytest.mark.parametrize("restarted", [False, True])
def test_removed_allocations_stay_active_while_held_and_are_released_on_approval(
    shim: SqliteShim, *, restarted: bool
) -> None:
    removed, kept = range(20), range(20, 40)
    drift = [ForeignWrite(key, "region", "theirs") for key in (3, 30)]
    run = run_script(
        shim,
        allocations=CONVERGED,
        events=[
            at(20.0, SimultaneousEdits(tuple(Edit(key, ()) for key in removed))),
            *([at(21.0, EndProcess(EndKind.KILL, 4.0))] if restarted else []),
            *(at(30.0, each) for each in drift),
            at(40.0, RequestResync()),
            at(100.0, Approve()),
            *(at(110.0, each) for each in drift),
            at(120.0, RequestResync()),
        ],
        until=500.0,
        max_changes_percent=PERCENT,
    )
    assert held_times(run) == [near(20.0), *(near(start) for start in run.starts()[1:])]
    assert sent_times(run, "x") == {3: [soon(40.0)], 30: [soon(40.0), soon(120.0)]}
    assert field_value(run.cloud(3), "region") == "theirs"
    assert all(run.reads(key, since=120.0) for key in kept)
    assert not any(run.reads(key, since=120.0) for key in removed)


def test_reverting_a_held_edit_ends_the_hold_and_its_values_are_never_sent(shim: SqliteShim) -> None:
    changed = range(20)
    run = run_script(
        shim,
        allocations=CONVERGED,
        events=[
            at(20.0, edits("a", changed)),
            *(at(30.0, ForeignWrite(key, "region", "theirs")) for key in (0, 30)),
            at(40.0, RequestResync()),
            at(100.0, edits(dict(LIVE)["region"], changed)),
            at(150.0, edits("b", range(10))),
        ],
        until=500.0,
        max_changes_percent=PERCENT,
    )
    assert held_times(run) == [near(20.0)]
    assert are_read(run, changed, since=20.0)
    assert sent_times(run, "a") == {}
    assert sent_times(run, "x") == {0: [soon(100.0)], 30: [soon(40.0)]}
    assert sent_times(run, "b") == {key: [soon(150.0)] for key in range(10)}


def test_an_open_update_is_read_back_and_not_sent_again_while_its_value_is_held(
    shim: SqliteShim,
) -> None:
    run = run_script(
        shim,
        allocations=CONVERGED,
        updates={0: [unknown(applied=None)], 1: [unknown(applied=5.0)]},
        events=[at(20.0, edits("a", range(5))), at(22.0, edits("a", range(25))), at(100.0, Approve())],
        until=200.0,
        max_changes_percent=PERCENT,
    )
    assert held_times(run) == [near(22.0)]
    lost, again = run.posts(0)
    (late,) = run.posts(1)
    for key, update in ((0, lost), (1, late)):
        assert update.answer == "unknown"
        read_back = answered(update) + SETTLE_SECONDS
        assert run.reads(key, since=22.0, until=100.0) == [near(read_back)]
    assert again.sent == soon(100.0)
    assert run.outcomes(0) == [["not_applied"], ["applied"]]
    assert run.outcomes(1) == [["applied"]]
    assert run.conditions(0, since=22.0) == ["AwaitingApproval", "Pending", "InSync"]


def restarted(shim: SqliteShim, before: Iterable[Event], files: SimultaneousEdits) -> RunRecord:
    """Some events, then a kill and a restart a moment later with these edits in the files."""
    events = [*before, at(60.0, EndProcess(EndKind.KILL, 10.0)), at(65.0, files)]
    run = run_script(shim, allocations=CONVERGED, events=events, until=100.0, max_changes_percent=PERCENT)
    assert len(run.events("revision_awaiting_approval")) == 1
    return run


def test_an_allocation_removed_while_no_process_runs_stays_active_until_approval(
    shim: SqliteShim,
) -> None:
    # The edit is active and applied, but too young to be the baseline. By the baseline, x would be sent.
    removed = SimultaneousEdits(tuple(Edit(key, ()) for key in range(20)))
    run = restarted(shim, [at(20.0, edit("a", 0))], removed)
    assert len(run.posts(0)) == 1


def test_a_released_allocation_is_not_written_because_of_edits_held_after_a_restart(
    shim: SqliteShim,
) -> None:
    # The removal is too young to be the baseline. By the baseline, the allocation would be managed again.
    released = [at(20.0, Edit(0, ())), at(30.0, ForeignWrite(0, "region", "theirs"))]
    run = restarted(shim, released, edits("a", range(1, 21)))
    assert not run.posts(0)
