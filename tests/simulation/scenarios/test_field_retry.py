"""Fields that do not stay as declared: when they are sent again, and what is reported, through restarts."""

from itertools import pairwise

import pytest

from allocsync.model.api_answers import Rejected, RejectionClass
from allocsync.model.cloud import field_value
from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.schedule import (
    EndKind,
    EndProcess,
    Event,
    ForeignWrite,
    RequestResync,
    Retry,
    Seam,
)
from tests.simulation.engine.script import accepted, allocation, at, edit, run_script, unknown
from tests.simulation.oracles.run_record import answered, near

WINDOW_SECONDS, HOUR_SECONDS = 60.0, 3600.0
FIRST_RETRY_SECONDS = 300.0
KILL = EndProcess(EndKind.KILL, 1.0)


def strikes(*times: float) -> list[Event]:
    """At each time another client sets the region, and everything is read."""
    return [
        event
        for time in times
        for event in (at(time, ForeignWrite(0, "region", "theirs")), at(time + 0.5, RequestResync()))
    ]


@pytest.mark.parametrize("restarts", [0, 20])
def test_a_value_that_is_never_stored_is_sent_twice_and_then_after_waits_that_double_across_restarts(
    shim: SqliteShim, restarts: int
) -> None:
    kills = [at(2200.0 * number, KILL) for number in range(1, restarts + 1)]
    run = run_script(
        shim, allocations=[allocation(ignored_field="region")], events=kills, until=20.0 * HOUR_SECONDS
    )
    assert len(run.starts()) == restarts + 1
    waited = [later.sent - answered(earlier) for earlier, later in pairwise(run.posts())]
    doubled = [min(FIRST_RETRY_SECONDS * 2**number, 6 * HOUR_SECONDS) for number in range(1, 9)]
    assert (
        waited
        == [near(each) for each in (WINDOW_SECONDS, WINDOW_SECONDS + FIRST_RETRY_SECONDS, *doubled)][
            : len(waited)
        ]
    )
    assert len(waited) == 9
    assert {post.answer for post in run.posts()} == {"accepted"}
    assert run.outcomes() == [["applied", "not_applied"]] * len(run.posts())
    first = run.conditions(since=0.0)[:2]
    assert first == ["Pending", "Ignored"]
    assert set(run.conditions()) <= {"Pending", "Ignored"}


def test_a_client_that_strikes_once_before_the_first_read_and_a_crash_cost_one_more_update(
    shim: SqliteShim,
) -> None:
    run = run_script(
        shim,
        events=[at(0.5, ForeignWrite(0, "region", "x")), at(0.6, KILL)],
        until=300.0,
    )
    first, again = run.posts()
    _, start = run.starts()
    assert answered(first) < 0.5 < start < again.sent
    assert again.sent == near(answered(first) + WINDOW_SECONDS)
    assert run.outcomes() == [["applied", "not_applied"], ["applied"]]
    assert set(run.conditions()) == {"Pending", "InSync"}
    assert field_value(run.cloud(), "region") == "a"


def test_a_client_that_strikes_each_minute_is_in_conflict_after_three_and_named_once(
    shim: SqliteShim,
) -> None:
    run = run_script(
        shim, events=strikes(*(90.0 + 61.0 * number for number in range(50))), until=HOUR_SECONDS
    )
    (conflict,) = [note for note in run.events("condition_changed", 0) if note.fields["after"] == "Conflict"]
    (told,) = run.events("another_writer_suspected", 0)
    assert told.at == conflict.at == near(90.5 + 122.0)
    assert (told.fields["fields"], told.fields["flips"]) == (("region",), 3)
    assert len([post for post in run.posts() if post.sent < conflict.at]) == 3
    retries = [post.sent for post in run.posts() if post.sent > conflict.at]
    assert retries[0] == near(conflict.at + FIRST_RETRY_SECONDS)
    for (before, after), wait in zip(pairwise(retries), (600.0, 1200.0), strict=True):
        assert wait <= after - before < wait + 62.0


def test_a_client_that_strikes_each_hour_is_repaired_each_time_and_named(shim: SqliteShim) -> None:
    times = [HOUR_SECONDS * number for number in range(1, 6)]
    run = run_script(shim, events=strikes(*times), until=6 * HOUR_SECONDS)
    assert [post.sent for post in run.posts()[1:]] == [near(time + 0.5) for time in times]
    (told,) = run.events("another_writer_suspected", 0)
    assert told.at == near(times[2] + 0.5)
    assert "Conflict" not in run.conditions()


def test_a_value_that_shows_after_ninety_seconds_is_sent_twice_only_the_first_time(shim: SqliteShim) -> None:
    slow = accepted(applied=90.0)
    run = run_script(
        shim, updates={0: [slow, slow, slow]}, events=[at(399.0, KILL), at(401.0, edit("b"))], until=800.0
    )
    first, again, after_the_edit = run.posts()
    assert again.sent == near(answered(first) + WINDOW_SECONDS)
    assert (first.applied, after_the_edit.sent) == (near(90.0), near(401.0))
    assert len(run.starts()) == 2
    assert set(run.conditions()) == {"Pending", "InSync"}


def test_a_202_that_is_done_after_three_minutes_is_not_sent_again(shim: SqliteShim) -> None:
    run = run_script(shim, updates={0: [accepted(applied=180.0, status=202)]}, until=400.0)
    (update,) = run.posts()
    assert update.applied == near(180.0)
    assert run.conditions() == ["Pending", "InSync"]


def test_a_change_back_between_the_answer_and_a_crash_is_never_ignored(shim: SqliteShim) -> None:
    for seam in (Seam.POSTED, Seam.COMMITTED):
        run = run_script(
            shim,
            events=[
                at(0.0, ForeignWrite(0, "region", "theirs"), seam=Seam.POSTED),
                at(0.001, KILL, seam=seam),
            ],
            until=600.0,
        )
        assert len(run.starts()) == 2
        assert "Ignored" not in run.conditions()
        assert field_value(run.cloud(), "region") == "a"
        assert len(run.posts()) == 2


@pytest.mark.parametrize("key", [None, 0])
def test_a_retry_ends_each_wait_of_an_allocation_at_once(shim: SqliteShim, key: int | None) -> None:
    terminal = Rejected(422, "422 Unprocessable Entity", RejectionClass.BODY)
    run = run_script(
        shim,
        allocations=[allocation(0), allocation(1, ignored_field="region")],
        updates={0: [unknown(applied=None, answer=terminal)]},
        events=[at(200.0, Retry(key)), at(210.0, Retry(1))],
        until=250.0,
    )
    assert [post.sent for post in run.posts(0)] == [near(0.0), near(200.0)]
    ignored_until_asked = [near(0.0), near(WINDOW_SECONDS)]
    asked = [near(200.0), near(210.0)] if key is None else [near(210.0)]
    assert [post.sent for post in run.posts(1)][: 2 + len(asked)] == ignored_until_asked + asked


def test_a_retry_does_not_end_retry_after(shim: SqliteShim) -> None:
    locked = Rejected(423, "423 Locked", RejectionClass.NOT_NOW, retry_after_seconds=60.0)
    run = run_script(
        shim,
        updates={0: [unknown(applied=None, answer=locked)]},
        events=[at(20.0, Retry(None))],
        until=100.0,
    )
    first, again = run.posts()
    assert again.sent == near((first.answered or 0.0) + 60.0)
    assert not run.reads(since=1.0, until=60.0)
