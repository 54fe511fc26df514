"""The oracle of pauses, write windows and the write quota."""

import pytest

from allocsync.model.ids import AllocationId
from tests.simulation.oracles.write_gates import WriteGatesOracle

A, B = AllocationId("a"), AllocationId("b")


def restart(
    gates: WriteGatesOracle, now: float, *, recorded_before: float = float("inf"), gap: bool = False
) -> None:
    """A process starts; what was stored before a time is surely on the disk."""
    gates.process_started(now, is_recorded=lambda _, at: at < recorded_before, gap=gap)


def test_an_update_during_a_pause_is_a_breach_until_the_pause_ends_or_is_lifted() -> None:
    gates = WriteGatesOracle()
    gates.pause_begun(A, 60.0, process=1, now=10.0)
    assert "paused" in gates.why_closed(A, 69.0)
    assert not gates.why_closed(B, 69.0)
    assert not gates.why_closed(A, 70.0)
    gates.pause_begun(None, 60.0, process=1, now=100.0)
    assert all(gates.why_closed(key, 101.0) for key in (A, B))
    gates.pause_lifted(A, process=1, now=110.0)
    assert gates.why_closed(A, 111.0)
    gates.pause_lifted(None, process=1, now=120.0)
    assert not gates.why_closed(A, 120.0)


def test_a_pause_holds_over_a_restart_if_it_is_on_the_disk_and_possibly_if_it_may_not_be() -> None:
    gates = WriteGatesOracle()
    gates.pause_begun(None, 60.0, process=1, now=10.0)
    restart(gates, 20.0)
    assert gates.why_closed(A, 21.0)
    assert "pause over a restart" in gates.fired
    gates.pause_lifted(None, process=2, now=30.0)
    restart(gates, 31.0, recorded_before=30.0)
    assert not gates.why_closed(A, 32.0)
    assert gates.opens_at(A, 32.0) == 70.0
    restart(gates, 33.0, gap=True)
    assert gates.opens_at(A, 34.0) <= 34.0


def test_a_step_of_the_wall_clock_moves_the_end_of_a_pause_or_not() -> None:
    gates = WriteGatesOracle()
    gates.pause_begun(A, 60.0, process=1, now=10.0)
    gates.wall_clock_moved(-30.0, 0.0)
    restart(gates, 20.0)
    assert gates.why_closed(A, 69.0)
    assert not gates.why_closed(A, 70.0)
    assert gates.opens_at(A, 71.0) == 100.0


def test_windows_close_in_the_given_minutes_of_each_hour_of_the_wall_clock() -> None:
    gates = WriteGatesOracle(closed_minutes=range(1, 3))
    gates.wall_clock_moved(0.0, 3600.0)
    assert [bool(gates.why_closed(A, at)) for at in (59.0, 60.0, 179.0, 180.0)] == [False, True, True, False]
    assert gates.opens_at(A, 100.0) == pytest.approx(180.0)
    assert gates.opened_between(100.0, 200.0)
    assert not gates.opened_between(200.0, 300.0)
    gates.wall_clock_moved(-30.0, 3570.0)
    assert not gates.why_closed(A, 89.0)
    assert gates.why_closed(A, 90.0)


def test_more_updates_within_an_hour_than_the_quota_are_a_breach_over_a_restart_too() -> None:
    gates = WriteGatesOracle(max_per_hour=2)
    for at in (10.0, 20.0):
        assert not gates.why_closed(A, at)
        gates.update_sent(at)
    restart(gates, 30.0)
    assert "2 updates" in gates.why_closed(A, 3609.0)
    assert not gates.why_closed(A, 3611.0)
    assert gates.opens_at(A, 40.0) > 3600.0
    assert gates.longest_closed_seconds(40.0) > 3600.0
    restart(gates, 50.0, gap=True)
    assert not gates.why_closed(A, 60.0)
