"""The metrics of the circuit breaker."""

from prometheus_client import CollectorRegistry

from allocsync.reconcile import events
from allocsync.reconcile.operation import Operation
from allocsync.telemetry.metrics import Metrics
from tests.support.made_events import made


def test_openings_and_probes_are_counted_for_reads_and_writes() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics(made(events.BreakerOpened, operation=Operation.WRITE))
    metrics(made(events.ProbeStarted, operation=Operation.READ))
    metrics(made(events.ProbeStarted, operation=Operation.READ))
    metrics(made(events.BreakerClosed, operation=Operation.WRITE))

    def found(name: str) -> list[float | None]:
        return [
            registry.get_sample_value(f"allocsync_{name}", {"operation": allocation})
            for allocation in ("read", "write")
        ]

    assert found("breaker_openings_total") == [0, 1]
    assert found("breaker_probes_total") == [2, 0]
    assert found("breaker_open") == [0, 0]  # a state, read from the status; there is none here
