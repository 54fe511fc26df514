"""New files that would change too much at once: what is held, what goes on, and what lets it through."""

from collections.abc import Iterable

import pytest

from allocsync.model.cloud import leaf
from allocsync.model.desired_state import Mode
from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.schedule import Approve, Edit, Edits, Ends, Event, Foreign, How, Look
from tests.simulation.engine.script import LIVE, allocation, at, edit, edits, play, unknown
from tests.simulation.oracles.run_record import Run, answered, near

ALL = range(40)
PERCENT = 30.0
HOUR_SECONDS = 3600.0
SETTLE_SECONDS, SLOTS_SECONDS = 10.0, 0.5
IN_LINE = [allocation(key, declared={"region": "x"}) for key in ALL]


def held(run: Run) -> list[float]:
    """When a generation was held."""
    return [note.at for note in run.told("revision_awaiting_approval")]


def sent(run: Run, region: str, keys: Iterable[int] = ALL) -> dict[int, list[float]]:
    """Who was sent this region, and when."""
    times = {
        key: [post.sent for post in run.posts(key) if leaf(post.body, "region") == region] for key in keys
    }
    return {key: at for key, at in times.items() if at}


def soon(seconds: float) -> object:
    """At this time, or as soon after it as slots for dozens of updates come free."""
    return pytest.approx(seconds + SLOTS_SECONDS / 2, abs=SLOTS_SECONDS / 2)


def looked_at(run: Run, keys: Iterable[int], *, since: float) -> bool:
    """Whether each of these was read within a second."""
    return all(run.reads(key, since=since, until=since + 1.0) for key in keys)


def test_four_edits_of_a_quarter_each_in_a_minute_are_held_from_the_second_on_until_they_are_approved(
    shim: SqliteShim,
) -> None:
    quarters = [range(first, first + 10) for first in range(0, 40, 10)]
    approved = 2 * HOUR_SECONDS
    run = play(
        shim,
        allocations=IN_LINE,
        events=[
            *(at(10.0 + 15.0 * number, edits("a", keys)) for number, keys in enumerate(quarters)),
            *(at(30.0, Foreign(key, "region", "theirs")) for key in (5, 15, 35)),
            at(31.0, Look()),
            at(approved, Approve()),
        ],
        until=approved + 10.0,
        max_changes_percent=PERCENT,
    )
    assert held(run) == [near(25.0), near(40.0), near(55.0)]
    changes = [note.fields["changed"] for note in run.told("revision_awaiting_approval")]
    assert changes == [20, 30, 40]
    first, *others = quarters
    assert {*sent(run, "a", first)} == {*first}
    assert all(at == [soon(10.0)] for key, at in sent(run, "a", first).items() if key != 5)
    for number, keys in enumerate(others, start=1):
        assert looked_at(run, keys, since=10.0 + 15.0 * number)
        assert sent(run, "a", keys) == {key: [soon(approved)] for key in keys}
    # What is in both goes on; what is changed is not written at all, back to what it was neither.
    assert sent(run, "x") == {35: [soon(31.0)]}
    assert sent(run, "a", [5]) == {5: [soon(10.0), soon(approved)]}
    assert [leaf(run.cloud(key), "region") for key in ALL] == ["a"] * 40


@pytest.mark.parametrize("how", [How.KILL, How.POWER, How.STOP])
def test_an_edit_and_a_restart_do_not_pass_the_rail_by_and_an_approval_outlives_one(
    shim: SqliteShim, how: How
) -> None:
    changed = range(20)
    approved = 2 * HOUR_SECONDS
    run = play(
        shim,
        allocations=IN_LINE,
        events=[
            at(20.0, Ends(how, 10.0)),
            at(25.0, edits("a", changed)),
            at(60.0, Ends(how, 1.0)),
            at(90.0, Foreign(0, "region", "theirs")),
            at(90.0, Foreign(30, "region", "theirs")),
            at(95.0, Look()),
            at(approved, Approve()),
            at(approved + 30.0, Ends(how, 1.0)),
            at(approved + 60.0, Foreign(0, "region", "theirs")),
            at(approved + 65.0, Look()),
        ],
        until=approved + 100.0,
        max_changes_percent=PERCENT,
    )
    _, second, third, _ = run.starts()
    assert held(run) == [near(second), near(third)]
    assert looked_at(run, changed, since=second)
    assert looked_at(run, changed, since=third)
    again = {0: [soon(approved), soon(approved + 65.0)]}
    assert sent(run, "a") == {key: [soon(approved)] for key in changed} | again
    assert sent(run, "x") == {30: [soon(95.0)]}


@pytest.mark.parametrize("restarted", [False, True])
def test_to_enforce_what_was_only_observed_is_held_until_it_is_approved(
    shim: SqliteShim, *, restarted: bool
) -> None:
    edited = 60.0
    run = play(
        shim,
        allocations=[allocation(key, mode=Mode.OBSERVE) for key in ALL],
        events=[
            *([at(edited - 5.0, Ends(How.KILL, 10.0))] if restarted else []),
            at(edited, edits("a", ALL)),
            at(HOUR_SECONDS + 100.0, Approve()),
        ],
        until=HOUR_SECONDS + 200.0,
        max_changes_percent=PERCENT,
    )
    known = run.starts()[-1] if restarted else edited
    assert held(run) == [near(known)]
    assert run.conditions(0, since=known) == ["AwaitingApproval", "Pending", "InSync"]
    assert looked_at(run, ALL, since=known)
    assert sent(run, "a") == {key: [soon(HOUR_SECONDS + 100.0)] for key in ALL}


@pytest.mark.parametrize("restarted", [False, True])
def test_what_a_held_generation_removes_stays_in_force_and_is_let_go_when_that_is_approved(
    shim: SqliteShim, *, restarted: bool
) -> None:
    removed, kept = range(20), range(20, 40)
    drift = [Foreign(key, "region", "theirs") for key in (3, 30)]
    run = play(
        shim,
        allocations=IN_LINE,
        events=[
            at(20.0, Edits(tuple(Edit(key, ()) for key in removed))),
            *([at(21.0, Ends(How.KILL, 4.0))] if restarted else []),
            *(at(30.0, each) for each in drift),
            at(40.0, Look()),
            at(100.0, Approve()),
            *(at(110.0, each) for each in drift),
            at(120.0, Look()),
        ],
        until=500.0,
        max_changes_percent=PERCENT,
    )
    assert held(run) == [near(20.0), *(near(start) for start in run.starts()[1:])]
    assert sent(run, "x") == {3: [soon(40.0)], 30: [soon(40.0), soon(120.0)]}
    assert leaf(run.cloud(3), "region") == "theirs"
    assert all(run.reads(key, since=120.0) for key in kept)
    assert not any(run.reads(key, since=120.0) for key in removed)


def test_to_take_an_edit_back_opens_the_rail_and_what_was_held_is_never_sent(shim: SqliteShim) -> None:
    changed = range(20)
    run = play(
        shim,
        allocations=IN_LINE,
        events=[
            at(20.0, edits("a", changed)),
            *(at(30.0, Foreign(key, "region", "theirs")) for key in (0, 30)),
            at(40.0, Look()),
            at(100.0, edits(dict(LIVE)["region"], changed)),
            at(150.0, edits("b", range(10))),
        ],
        until=500.0,
        max_changes_percent=PERCENT,
    )
    assert held(run) == [near(20.0)]
    assert looked_at(run, changed, since=20.0)
    assert sent(run, "a") == {}
    assert sent(run, "x") == {0: [soon(100.0)], 30: [soon(40.0)]}
    assert sent(run, "b") == {key: [soon(150.0)] for key in range(10)}


def test_an_update_whose_outcome_is_open_as_its_value_is_held_is_read_back_and_not_sent_again(
    shim: SqliteShim,
) -> None:
    run = play(
        shim,
        allocations=IN_LINE,
        updates={0: [unknown(lands=None)], 1: [unknown(lands=5.0)]},
        events=[at(20.0, edits("a", range(5))), at(22.0, edits("a", range(25))), at(100.0, Approve())],
        until=200.0,
        max_changes_percent=PERCENT,
    )
    assert held(run) == [near(22.0)]
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


def restarted(shim: SqliteShim, before: Iterable[Event], files: Edits) -> Run:
    """Something happens, the process is killed a moment later, and the next one starts with these files."""
    events = [*before, at(60.0, Ends(How.KILL, 10.0)), at(65.0, files)]
    run = play(shim, allocations=IN_LINE, events=events, until=100.0, max_changes_percent=PERCENT)
    assert len(run.told("revision_awaiting_approval")) == 1
    return run


def test_what_is_removed_while_no_process_runs_stays_as_it_was_in_force_until_that_is_approved(
    shim: SqliteShim,
) -> None:
    # The edit is in force and applied, but too young to be the baseline, by which x would be sent again.
    removed = Edits(tuple(Edit(key, ()) for key in range(20)))
    run = restarted(shim, [at(20.0, edit("a", 0))], removed)
    assert len(run.posts(0)) == 1


def test_what_was_let_go_is_not_written_again_because_other_edits_are_held_after_a_restart(
    shim: SqliteShim,
) -> None:
    # That it is not declared any more is too young to be the baseline, by which it would be owned again.
    let_go = [at(20.0, Edit(0, ())), at(30.0, Foreign(0, "region", "theirs"))]
    run = restarted(shim, let_go, edits("a", range(1, 21)))
    assert not run.posts(0)
