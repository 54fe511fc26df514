"""The propagation window: learned from reads, bounded, and forgotten after a day."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.model.times import Monotonic
from allocsync.reconcile import checkpoint_codecs as codecs
from allocsync.reconcile.allocation.propagation_window import DAY_SECONDS, PropagationWindow
from allocsync.reconcile.parameters import Parameters

RULES = Parameters()


@pytest.mark.parametrize(
    ("took_seconds", "window_seconds"), [(1.0, 60.0), (40.0, 60.0), (90.0, 135.0), (5000.0, 900.0)]
)
def test_the_window_is_one_and_a_half_times_the_longest_time_within_its_limits(
    took_seconds: float, window_seconds: float
) -> None:
    window = PropagationWindow(RULES)
    window.learn(took_seconds, Monotonic(100.0))
    assert window.seconds(Monotonic(100.0)) == window_seconds


def test_a_time_counts_for_a_day_and_a_shorter_one_after_it_for_longer() -> None:
    window = PropagationWindow(RULES)
    window.learn(200.0, Monotonic(0.0))
    window.learn(100.0, Monotonic(5000.0))
    assert [window.seconds(Monotonic(at)) for at in (5000.0, DAY_SECONDS - 1)] == [300.0, 300.0]
    assert window.seconds(Monotonic(DAY_SECONDS)) == 150.0
    assert window.seconds(Monotonic(DAY_SECONDS + 5000.0)) == 60.0


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 2000))), st.floats(0, 1e5))
def test_the_window_is_that_of_the_longest_time_of_the_last_day(
    learned: list[tuple[float, float]], later: float
) -> None:
    window = PropagationWindow(RULES)
    learned.sort()
    for at, took in learned:
        window.learn(took, Monotonic(at))
    now = (learned[-1][0] if learned else 0.0) + later
    longest = max((took for at, took in learned if at > now - DAY_SECONDS), default=0.0)
    assert window.seconds(Monotonic(now)) == min(max(60.0, 1.5 * longest), 900.0)


def test_what_is_learned_survives_a_restart_and_nothing_is_stored_before() -> None:
    clocks = codecs.Clocks(1e9, Monotonic(500.0))
    window = PropagationWindow(RULES)
    window.learn(1.0, Monotonic(100.0))
    assert codecs.encode_propagation_window(window, clocks) is None
    window.learn(90.0, Monotonic(400.0))
    stored = codecs.encode_propagation_window(window, clocks)
    assert stored == {"shown": [[1e9 + 400.0, 90.0]]}
    again = codecs.decode_propagation_window(stored, codecs.Clocks(1e9 + 5.0, Monotonic(495.0)), RULES)
    assert again.shown == [(Monotonic(395.0), 90.0)]
