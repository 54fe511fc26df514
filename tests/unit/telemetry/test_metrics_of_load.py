"""The metrics of the circuit breaker."""

from prometheus_client import CollectorRegistry

from allocsync.reconcile.events import Event
from allocsync.telemetry.metrics import Metrics


def test_openings_and_probes_are_counted_for_reads_and_writes() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics(Event("breaker_opened", fields={"lane": "write", "reason": "504 Gateway Timeout"}))
    metrics(Event("probe_started", fields={"lane": "read"}))
    metrics(Event("probe_started", fields={"lane": "read"}))
    metrics(Event("breaker_closed", fields={"lane": "write", "open_seconds": 1.0, "probes": 1}))

    def found(name: str) -> list[float | None]:
        return [registry.get_sample_value(f"allocsync_{name}", {"lane": lane}) for lane in ("read", "write")]

    assert found("breaker_openings_total") == [0, 1]
    assert found("breaker_probes_total") == [2, 0]
    assert found("breaker_open") == [0, 0]  # a state, read from the status; there is none here
