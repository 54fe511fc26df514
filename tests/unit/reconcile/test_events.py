"""The events that logs, metrics and the terminal read."""

from allocsync.reconcile.events import Event, Stopped, Stopping, emit_to_all


def test_every_observer_gets_every_event_in_order() -> None:
    log: list[Event] = []
    metrics: list[Event] = []
    happened: list[Event] = [Stopping(in_flight=1), Stopped(open_intents=0)]
    emit = emit_to_all(seen.append for seen in (log, metrics))
    for event in happened:
        emit(event)
    assert log == metrics == happened
