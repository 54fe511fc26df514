"""The one event that logs, metrics and the terminal all read."""

from allocsync.reconcile.events import Event, tell_all


def test_every_observer_is_told_of_every_event_in_the_order_in_which_they_happened() -> None:
    log: list[Event] = []
    metrics: list[Event] = []
    happened = [Event("stopping"), Event("stopped")]
    tell = tell_all(told.append for told in (log, metrics))
    for event in happened:
        tell(event)
    assert log == metrics == happened
