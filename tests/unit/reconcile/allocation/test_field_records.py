"""Fields that do not stay as declared: when they are sent again, what is reported, and what a restart keeps.

A model of the API and of other writers answers each read and update at the time at which it is due.
"""

import json
from collections.abc import Callable, Iterable
from itertools import accumulate, pairwise

import pytest

from allocsync.model.api_answers import Accepted, Live
from allocsync.model.cloud import Json
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Desired, Mode
from allocsync.model.times import Monotonic
from allocsync.reconcile import checkpoint_codecs as codecs
from allocsync.reconcile.allocation.field_records import AnotherWriter, FieldRecord
from allocsync.reconcile.allocation.propagation_window import PropagationWindow
from allocsync.reconcile.allocation.updates import Update
from allocsync.reconcile.status.condition_rules import project
from tests.support.scripted_allocation import (
    RESYNC,
    RULES,
    UNKNOWN,
    ScriptedAllocation,
    cloud,
    new_allocation,
    wanted,
)

HOUR, DAY = 3600.0, 86_400.0
STEPS = [min(300.0 * 2**number, 6 * HOUR) for number in range(20)]
OFFSET = 1e9


class World(ScriptedAllocation):
    """An allocation, the API behind it, and other writers.

    `store` says what the API makes of an update at a time: the fields that it changes then, or a later time
    and the fields.
    """

    def __init__(self, desired: Desired | None = None, **live: Json) -> None:
        super().__init__(desired or wanted(region="a"))
        self.live: dict[str, Json] = live or {"region": "x"}
        self.store: Callable[[Update], dict[str, Json]] = lambda update: {
            change.field: change.desired for change in update.changes
        }
        self.shows_after = 0.0
        self.status = 200
        self.posts: list[float] = []
        self.reads: list[float] = []
        self.conditions: list[tuple[float, str]] = []
        self.told: list[tuple[float, AnotherWriter]] = []
        self.outcomes: list[str] = []
        self._later: list[tuple[float, dict[str, Json]]] = []

    def run(self, until: float, *, strikes: Iterable[float] = (), **values: Json) -> None:
        """Do what is due until then. At each of `strikes` another writer sets `values`, and a read is due."""
        for at in sorted(strikes):
            self._run(at)
            self.now = Monotonic(at)
            self.live.update(values)
            self.allocation.read_no_later_than(Monotonic(at))
        self._run(until)
        self.now = Monotonic(until)

    def _run(self, until: float) -> None:
        while self.allocation.queue_entry().at <= Monotonic(until):
            self.step(float(max(self.now, self.allocation.queue_entry().at)))

    def step(self, at: float) -> None:
        """One read at this time, and the update that follows."""
        while self._later and self._later[0][0] <= at:
            self.live.update(self._later.pop(0)[1])
        self.reads.append(at)
        decision = self.read(dict(self.live), at=Monotonic(at))
        self.outcomes += [finding.outcome for finding in decision.findings]
        if decision.another_writer is not None:
            self.told.append((at, decision.another_writer))
        if decision.update is not None:
            self.posts.append(at)
            self.begin_update(decision.update)
            self._note(at)
            self._later.append((at + self.shows_after, self.store(decision.update)))
            if not self.shows_after:
                self.live.update(self._later.pop()[1])
            self.receive(Accepted(self.status, None), at=Monotonic(at))
        self._note(at)

    def _note(self, at: float) -> None:
        condition = str(self.condition())
        if not self.conditions or self.conditions[-1][1] != condition:
            self.conditions.append((at, condition))

    def restart(self) -> None:
        """A new process with the checkpoint of this one; its monotonic clock started at another time."""
        before, clocks = self.allocation, codecs.Clocks(OFFSET, self.now)
        stored = codecs.encode_allocation(before, clocks)
        window = codecs.encode_propagation_window(before.read_back.propagation_window, clocks)
        self.allocation = new_allocation()
        if window is not None:
            learned = codecs.decode_propagation_window(window, clocks, RULES)
            self.allocation.read_back.propagation_window = learned
        if stored is not None:
            stored = json.loads(json.dumps(stored))
            codecs.decode_allocation(self.allocation, stored, clocks)
            assert codecs.encode_allocation(self.allocation, clocks) == stored
        self.allocation.set_desired(before.desired, now=self.now)
        self.allocation.next_read_at = self.now

    def reason(self) -> str:
        return project(self.allocation, self.now, RESYNC)[1]

    @property
    def window(self) -> float:
        return self.allocation.read_back.propagation_window.seconds(self.now)

    @property
    def record(self) -> FieldRecord:
        (record,) = self.allocation.read_back.field_records.records.values()
        return record


def ignores(_update: Update) -> dict[str, Json]:
    return {}


def schedule(first: float) -> list[float]:
    """The times of the retries of a field that is ignored, or in conflict, since `first`."""
    return [first + each for each in accumulate(STEPS)]


# Accepted and not shown.


@pytest.mark.parametrize("restart_every", [0.0, 37.0, 2200.0])
def test_a_value_that_never_shows_is_sent_twice_and_then_on_the_schedule_through_restarts(
    restart_every: float,
) -> None:
    world = World()
    world.store = ignores
    while world.now < Monotonic(2 * DAY):
        world.run(float(world.now) + (restart_every or 2 * DAY))
        world.restart()
    assert world.posts[:2] == [0.0, 60.0]
    assert world.posts[2:] == [at for at in schedule(120.0) if at < 2 * DAY]
    assert world.conditions == [(0.0, "Pending"), (120.0, "Ignored")]
    assert world.outcomes == ["not_applied"] * len(world.posts)


def test_confirming_reads_come_after_waits_that_double_and_at_the_end_of_the_window() -> None:
    world = World()
    world.store = ignores
    world.run(59.9)
    assert world.reads == [0.0, *(1.5 * 2**number for number in range(6))]
    world.run(60.0)
    assert world.reads[-1] == 60.0


def test_a_restart_goes_on_with_the_confirming_reads() -> None:
    world = World()
    world.store = ignores
    world.run(20.0)
    world.restart()
    world.run(59.9)
    assert [at for at in world.reads if at >= 20.0] == [20.0, 32.0]


def test_a_list_does_not_replace_the_read_at_the_end_of_the_window() -> None:
    world = World()
    world.store = ignores
    world.run(50.0)
    for at in (55.0, 59.0):
        world.allocation.on_listed({**world.live, "id": "x"}, begun=Monotonic(at), now=Monotonic(at))
    world.run(60.0)
    assert world.reads[-1] == 60.0
    assert world.posts == [0.0, 60.0]


def test_a_writer_that_strikes_once_before_the_first_read_costs_one_more_update() -> None:
    world = World()
    world.run(0.0)
    world.live["region"] = "x"
    world.run(3000.0)
    assert world.posts == [0.0, 60.0]
    assert [condition for _, condition in world.conditions] == ["Pending", "InSync"]
    assert world.live == {"region": "a"}
    assert world.told == []


@pytest.mark.parametrize("their_value", ["x", "theirs"])
def test_a_change_back_between_the_answer_and_the_first_read_after_a_restart_is_repaired(
    their_value: str,
) -> None:
    world = World()
    world.run(0.0)
    world.live["region"] = their_value
    world.now = Monotonic(1.0)
    world.restart()
    world.run(3000.0)
    assert world.posts == [0.0, 60.0]
    assert [condition for _, condition in world.conditions] == ["Pending", "InSync"]


def test_a_value_that_shows_after_90_seconds_is_sent_twice_once_and_then_given_135_seconds() -> None:
    world = World()
    world.shows_after = 90.0
    world.run(89.0)
    assert world.posts == [0.0, 60.0]
    world.step(90.0)
    assert world.window == 135.0
    world.run(1000.0)
    world.restart()
    world.allocation.set_desired(wanted(region="b"), now=Monotonic(1000.0))
    world.run(1500.0)
    assert world.posts == [0.0, 60.0, 1000.0]
    assert world.live == {"region": "b"}
    assert "Ignored" not in {condition for _, condition in world.conditions}
    world.now += DAY
    assert world.window == 60.0


def test_a_202_that_is_done_after_180_seconds_is_not_sent_again() -> None:
    world = World()
    world.status, world.shows_after = 202, 180.0
    world.run(1000.0)
    assert world.posts == [0.0]
    assert world.conditions[-1][1] == "InSync"
    world.restart()
    assert world.window == 1.5 * 192.0, "1.5 times the time of the first read that showed it"


def test_a_202_that_never_shows_has_a_window_of_ten_minutes_through_a_restart() -> None:
    world = World()
    world.status, world.store = 202, ignores
    world.run(300.0)
    world.restart()
    world.run(1500.0)
    assert world.posts == [0.0, 600.0, 1200.0 + 300.0]
    assert world.conditions[-1] == (1200.0, "Ignored")


def test_a_time_without_reads_teaches_no_longer_window() -> None:
    world = World()
    world.run(0.0)
    world.now = Monotonic(700.0)
    world.restart()
    world.run(700.0)
    assert world.live == {"region": "a"}
    assert world.condition() is Condition.IN_SYNC
    assert world.window == 60.0


def test_a_value_that_shows_once_it_is_sent_again_teaches_no_longer_window() -> None:
    world = World()
    world.run(0.0)
    world.live["region"] = "x"
    world.run(61.5)
    assert world.posts == [0.0, 60.0]
    assert world.reads[-1] == 61.5
    assert world.live == {"region": "a"}
    assert world.window == 60.0


def test_what_an_ignored_value_takes_to_show_teaches_no_longer_window() -> None:
    world = World()
    world.store = ignores
    world.run(400.0)
    world.store = World().store
    world.run(500.0)
    assert world.posts == [0.0, 60.0, 420.0]
    assert world.condition() is Condition.IN_SYNC
    assert world.window == 60.0


def test_an_ignored_field_stays_so_while_it_is_sent_again_until_a_read_shows_it() -> None:
    world = World()
    world.store = ignores
    world.run(420.0)
    assert world.posts[-1] == 420.0
    world.store, world.shows_after = World().store, 70.0
    world.run(1100.0)
    assert world.posts[-1] == 1020.0
    assert world.conditions[1:] == [(120.0, "Ignored")]
    world.run(1500.0)
    assert [condition for _, condition in world.conditions] == ["Pending", "Ignored", "InSync"]
    assert world.conditions[-1][0] >= 1090.0
    assert not world.allocation.read_back.field_records


def test_an_unknown_outcome_of_a_retry_does_not_change_since_when_it_is_ignored() -> None:
    world = World()
    world.store = ignores
    world.run(419.0)
    update = world.read(dict(world.live), at=Monotonic(420.0)).update
    assert update is not None
    world.begin_update(update)
    world.receive(UNKNOWN, at=Monotonic(420.0))
    assert world.condition() is Condition.OUTCOME_UNKNOWN
    world.run(431.0)
    assert world.condition() is Condition.IGNORED
    assert world.record.ignored_at == Monotonic(120.0)


@pytest.mark.parametrize(
    ("restarts", "shown", "named"), [(False, "a", "a"), (True, "a", "a"), (True, None, "(absent)")]
)
def test_a_value_that_the_api_stores_differently_is_ignored_and_the_reason_names_it(
    *, restarts: bool, shown: str | None, named: str
) -> None:
    world = World(wanted(region="A"))
    world.store = lambda _update: {"region": shown}
    for at in range(0, 400, 20):
        world.run(float(at))
        if restarts:
            world.restart()
    world.run(400.0)
    assert world.posts == [0.0, 60.0]
    assert world.conditions == [(0.0, "Pending"), (120.0, "Ignored")]
    assert world.reason() == (
        f"region: reads show {named} for A: the API stores it so, or another writer sets it; "
        "next attempt 00:07:00Z"
    )
    assert world.told == []
    world.run(DAY)
    assert world.posts[2:] == [at for at in schedule(120.0) if at <= DAY]


def test_latest_that_is_stored_as_a_version_has_a_hint() -> None:
    world = World(wanted(version="latest"), version="1.5.0")
    world.store = lambda _update: {"version": "1.6.0"}
    world.run(130.0)
    assert world.reason() == (
        "version: reads show 1.6.0 for latest: the API stores it so, or another writer sets it "
        "(latest may stand for a version: declare 1.6.0 to keep it); next attempt 00:07:00Z"
    )


def test_a_field_that_shows_the_value_from_before_is_ignored_and_both_causes_are_named() -> None:
    world = World()
    world.store = ignores
    world.run(130.0)
    assert world.reason() == (
        "region: a was accepted, and reads show x as before: the API ignores it, or another writer changes "
        "it back; next attempt 00:07:00Z"
    )
    world.run(131.0, strikes=[131.0], region="y" * 100)
    assert world.reason() == (
        f"region: reads show {'y' * 60}… for a: the API stores it so, or another writer sets it "
        "(the live value has changed 1 times since); next attempt 00:07:00Z"
    )
    assert world.posts == [0.0, 60.0]


def test_another_value_inside_the_window_is_waited_for_too() -> None:
    world = World()
    world.store = ignores
    world.run(59.0, strikes=[5.0], region="theirs")
    assert world.posts == [0.0]
    world.store = World().store
    world.run(100.0)
    assert world.posts == [0.0, 60.0]
    assert world.condition() is Condition.IN_SYNC


def test_values_that_differ_after_each_update_are_a_conflict_and_told() -> None:
    world = World()
    world.store = ignores
    world.run(110.0, strikes=[5.0], region="one")
    world.restart()
    world.run(121.0, strikes=[111.0], region="two")
    assert world.posts == [0.0, 60.0]
    assert world.conditions[-1] == (120.0, "Conflict")
    assert world.told == [(120.0, AnotherWriter((("region", ()),)))]
    assert world.reason() == (
        "another writer suspected: region has another value after each update; reads show two for a; "
        "next attempt 00:07:00Z"
    )
    world.run(DAY)
    assert world.posts[2:] == [at for at in schedule(120.0) if at <= DAY]
    assert world.conditions[-1] == (120.0, "Conflict")


# Lag.


def test_the_value_from_before_inside_the_window_is_lag_even_after_the_new_one_was_seen() -> None:
    world = World()
    world.run(3.0)
    assert world.condition() is Condition.IN_SYNC
    world.live["region"] = "x"  # a replica that is behind
    world.allocation.read_no_later_than(Monotonic(10.0))
    world.run(30.0)
    assert world.posts == [0.0]
    assert world.reason() == "the update of region was accepted and does not show yet"
    world.live["region"] = "a"
    world.run(3000.0)
    assert world.posts == [0.0]
    assert world.told == []
    assert not world.allocation.read_back.field_records


@pytest.mark.parametrize("restarts", [False, True])
def test_the_value_from_before_is_a_change_back_once_the_window_is_over(*, restarts: bool) -> None:
    world = World()
    world.run(3.0)
    if restarts:
        world.restart()
    world.run(59.0, strikes=[10.0], region="x")
    if restarts:
        world.restart()
    assert world.posts == [0.0]
    world.run(100.0)
    assert world.posts == [0.0, 60.0]
    assert world.record.flips == (Monotonic(60.0),)


def test_a_read_that_ends_after_the_window_and_began_inside_it_proves_nothing() -> None:
    world = World()
    world.run(0.0)
    records = world.allocation.read_back.field_records
    world.allocation.begin_read()
    decision = world.allocation.on_read(
        Live(cloud(region="x")),
        begun=Monotonic(59.9),
        now=Monotonic(60.1),
        delay_seconds=2.0,
        resync_seconds=RESYNC,
    )
    assert decision.update is None
    assert world.allocation.queue_entry().at == Monotonic(60.0), "a read is due at once"
    assert records.all_accepted(world.allocation.changes)


# Flips.


def test_a_third_value_after_ours_was_seen_is_repaired_at_once() -> None:
    world = World()
    world.run(20.0, strikes=[10.0], region="theirs")
    assert world.posts == [0.0, 10.0]
    assert world.record.flips == (Monotonic(10.0),)
    assert world.condition() is Condition.IN_SYNC


def test_strikes_each_minute_are_a_conflict_after_three_and_told_once() -> None:
    world = World(region="a")
    world.run(0.0)
    world.run(DAY, strikes=[60.0 * number for number in range(1, 1400)], region="theirs")
    first = [at for at in world.posts if at < 300.0]
    assert len(first) == 2
    (conflict_at,) = [at for at, condition in world.conditions if condition == "Conflict"]
    assert world.conditions[-1] == (conflict_at, "Conflict"), "it stays while repairs are tried"
    assert conflict_at < 300.0
    assert [at for at, _ in world.told] == [conflict_at]
    retried = [at for at in world.posts if at > conflict_at]
    for (before, after), step in zip(pairwise([conflict_at, *retried]), STEPS, strict=False):
        assert step <= after - before < step + 61.0
    assert len(retried) >= 6
    assert "another writer suspected: region changed back at" in world.reason()


def test_strikes_each_hour_are_repaired_each_time_and_named() -> None:
    world = World(region="a")
    world.run(0.0)
    strikes = [HOUR * number for number in range(1, 20)]
    world.run(20 * HOUR, strikes=strikes, region="theirs")
    assert world.posts == strikes
    assert "Conflict" not in {condition for _, condition in world.conditions}
    assert [at for at, _ in world.told] == [3 * HOUR]
    assert world.told[0][1] == AnotherWriter(
        (("region", tuple(Monotonic(hours * HOUR) for hours in (1, 2, 3))),)
    )
    assert world.condition() is Condition.IN_SYNC
    named = ", ".join(f"{hour:02}:00:00Z" for hour in range(1, 20))
    assert world.reason() == f"another writer suspected: region changed back at {named}"
    world.restart()
    world.step(float(world.now))
    assert world.reason() == f"another writer suspected: region changed back at {named}"
    world.run(20 * HOUR + DAY)
    assert world.reason() == ""
    assert not world.allocation.read_back.field_records


def in_conflict() -> World:
    world = World(region="a")
    world.run(0.0)
    world.run(310.0, strikes=[100.0, 200.0, 300.0], region="theirs")
    assert world.posts == [100.0, 200.0]
    assert world.conditions[-1] == (300.0, "Conflict")
    return world


@pytest.mark.parametrize("restarts", [False, True])
def test_a_conflict_ends_when_the_field_was_equal_for_an_hour(*, restarts: bool) -> None:
    world = in_conflict()
    for at in range(400, 5000, 200):
        if restarts:
            world.restart()
        world.run(float(at))
    assert world.posts == [100.0, 200.0, 600.0]
    ended = [at for at, condition in world.conditions if condition == "InSync"][-1]
    assert world.conditions[-2:] == [(300.0, "Conflict"), (ended, "InSync")]
    assert 600.0 + HOUR <= ended < 600.0 + HOUR + RESYNC
    assert (
        world.reason() == "another writer suspected: region changed back at 00:01:40Z, 00:03:20Z, 00:05:00Z"
    )
    world.run(5100.0, strikes=[5050.0], region="theirs")
    assert world.posts[-1] == 5050.0, "earlier flips make no new conflict"
    assert world.condition() is Condition.IN_SYNC


def test_a_list_that_shows_no_difference_leaves_the_end_of_a_conflict_to_a_read() -> None:
    world = in_conflict()
    world.run(605.0)
    record = world.record
    world.allocation.on_listed(cloud(region="a"), begun=Monotonic(700.0), now=Monotonic(700.0))
    assert world.allocation.queue_entry().at == record.equal_since + HOUR
    world.run(700.0)
    assert world.condition() is Condition.CONFLICT
    assert world.reason() == (
        "another writer suspected: region changed back at 00:01:40Z, 00:03:20Z, 00:05:00Z; it is as declared "
        "now, and the conflict ends at 01:10:01Z if it stays so"
    )


def test_a_conflict_is_known_before_the_first_read_after_a_restart() -> None:
    world = in_conflict()
    world.restart()
    assert world.condition() is Condition.CONFLICT
    assert world.reason().endswith("00:05:00Z; not read since")


def test_the_time_in_which_flips_are_a_conflict_grows_with_the_window() -> None:
    world = World(region="a")
    world.allocation.read_back.propagation_window = PropagationWindow(RULES, shown=[(Monotonic(0.0), 500.0)])
    assert 6 * world.window == 4500.0
    world.run(0.0)
    world.run(5000.0, strikes=[100.0, 2200.0, 4300.0], region="theirs")
    assert world.conditions[-1] == (4300.0, "Conflict")


def test_in_conflict_no_other_update_than_that_of_the_schedule_is_sent() -> None:
    world = in_conflict()
    world.store = ignores
    world.run(2000.0)
    assert world.posts == [100.0, 200.0, 600.0, 1200.0]
    assert world.conditions[-1] == (300.0, "Conflict"), (
        "an update that does not show does not make it Ignored"
    )


def test_a_field_in_conflict_that_mode_observe_does_not_repair_says_so() -> None:
    world = in_conflict()
    world.allocation.set_desired(wanted(Mode.OBSERVE, region="a"), now=Monotonic(310.0))
    world.run(310.0)
    assert world.reason().endswith("reads show theirs for a; mode observe forbids the next attempt")


# Edits and retries.


def test_an_edit_clears_the_records_of_the_fields_that_it_changes_and_no_others() -> None:
    world = World(wanted(region="a", version="1"), region="x", version="0")
    world.store = ignores
    world.run(130.0)
    assert world.condition() is Condition.IGNORED
    world.allocation.set_desired(wanted(region="b", version="1"), now=Monotonic(130.0))
    assert set(world.allocation.read_back.field_records.records) == {"version"}
    world.run(130.0)
    assert world.posts == [0.0, 60.0, 130.0]


def test_an_edit_ends_a_conflict() -> None:
    world = in_conflict()
    world.allocation.set_desired(wanted(region="b"), now=Monotonic(310.0))
    world.run(320.0)
    assert world.posts == [100.0, 200.0, 310.0]
    assert world.condition() is Condition.IN_SYNC


@pytest.mark.parametrize("stored_by", ["this version", "an earlier one"])
def test_an_edit_while_no_process_runs_ends_a_conflict(stored_by: str) -> None:
    world = in_conflict()
    world.restart()
    if stored_by == "an earlier one":
        world.record.desired = None  # it did not store it: the conflict counts for the value of now
    world.allocation.set_desired(None, now=Monotonic(310.0))
    world.allocation.read_back.field_records.records = {"region": in_conflict().record}
    if stored_by == "an earlier one":
        world.record.desired = None
    world.allocation.set_desired(wanted(region="b"), now=Monotonic(310.0))
    world.run(320.0)
    assert world.posts == [100.0, 200.0, *([310.0] if stored_by == "this version" else [])]


def test_a_release_clears_all_records() -> None:
    world = in_conflict()
    world.allocation.set_desired(None, now=Monotonic(310.0))
    assert not world.allocation.read_back.field_records


def test_a_retry_clears_the_records_and_an_update_follows() -> None:
    for world in (in_conflict(), World()):
        if not world.posts:
            world.store = ignores
            world.run(130.0)
            assert world.condition() is Condition.IGNORED
        begun = world.now
        world.allocation.retry(begun)
        assert not world.allocation.read_back.field_records
        assert world.allocation.queue_entry().at == begun
        world.run(float(begun))
        assert world.posts[-1] == float(begun)


def test_an_update_of_another_field_inside_the_window_counts_as_the_same_try() -> None:
    world = World(wanted(region="a", version="1"), region="x", version="1")
    world.store = lambda update: {
        change.field: change.desired for change in update.changes if change.field != "region"
    }
    world.run(20.0)
    world.restart()
    world.run(200.0, strikes=[30.0], version="2")
    assert world.posts == [0.0, 30.0, 90.0], "the object is sent whole, so the window begins anew"
    assert world.conditions[-1] == (150.0, "Ignored")
    assert "region: a was accepted, and reads show x as before" in world.reason()
