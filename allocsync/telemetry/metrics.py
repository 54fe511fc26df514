"""The metrics for Prometheus, filled from the controller's events and its status.

The rules: every series exists from the start, so that a rate over it is right. Counters and histograms
change with events only; metrics with `from_status` are read from the status at each scrape.

Left out: names and meanings (`telemetry.metric_definitions`), and the listener (`web.server`).
"""

import itertools
import platform
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from allocsync import __version__
from allocsync.model.condition import Condition
from allocsync.model.times import WallTime
from allocsync.planning.change_limit import DIGITS
from allocsync.reconcile import events
from allocsync.reconcile.status.controller_status import ControllerStatus
from allocsync.telemetry.metric_definitions import CODES, METRICS, NO_CODE, Metric


class Metrics:
    """The metrics of one registry; an instance is an Observer of the controller's events."""

    def __init__(self, registry: CollectorRegistry) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library gives it no types
        rows = [metric for metric in METRICS if not metric.from_status]
        self._counters = {
            row.name: Counter(row.name, row.help, row.labels, registry=registry)
            for row in rows
            if row.kind == "counter"
        }
        self._gauges = {
            row.name: Gauge(row.name, row.help, row.labels, registry=registry)
            for row in rows
            if row.kind == "gauge"
        }
        self._histograms = {
            row.name: Histogram(row.name, row.help, row.labels, registry=registry, buckets=row.buckets)
            for row in rows
            if row.kind == "histogram"
        }
        for row in rows:
            self._create_series(row)
        self._gauges["allocsync_build_info"].labels(__version__, platform.python_version()).set(1)
        for name in ("allocsync_journal_writable", "allocsync_settings_last_reload_successful"):
            self._gauges[name].set(1)
        self._status = _StatusCollector()
        registry.register(self._status)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self._read_seconds: dict[str, float] = {}  # by allocation: duration of the read before an update

    def __call__(self, event: events.Event) -> None:  # noqa: C901, PLR0912 - one case an event
        """Count one event; events that change no metric are ignored."""
        match event:
            case events.ReadFinished():
                self._on_read_finished(event)
            case events.UpdateFinished():
                self._on_update_finished(event)
            case events.UpdateSettled(outcome=outcome, waited_seconds=seconds):
                self._count("outcomes_settled_total", outcome)
                self._observe("outcome_settle_duration_seconds", seconds)
                if outcome == "applied":
                    self._count("duplicate_writes_avoided_total")
            case events.Converged(cause=cause, seconds=seconds):
                self._observe("convergence_duration_seconds", seconds, cause)
            case events.AnotherWriterSuspected():
                self._count("another_writer_suspected_total")
            case events.RevisionActivated():
                self._count("revisions_activated_total")
            case events.ResyncStarted():
                self._count("resync_total")
            case events.ResyncFinished(elapsed_seconds=seconds):
                self._observe("resync_duration_seconds", seconds)
                self._count_request("list", seconds, 200)
            case events.ListUnavailable(asked=asked, status=status):
                self._count("bulk_unavailable_total")
                if asked:
                    self._count("api_requests_total", "list", _code_label(status))
            case events.BreakerOpened(operation=operation):
                self._count("breaker_openings_total", operation)
            case events.ProbeStarted(operation=operation):
                self._count("breaker_probes_total", operation)

    def follow(self, status: Callable[[], ControllerStatus]) -> None:
        """Call `status` at every scrape from now on; before that, metrics with `from_status` are 0."""
        self._status.status = status

    def desired_loaded(self, *, at: WallTime, quarantined: int) -> None:
        """Record a load that succeeded, with or without changes.

        `at` is in seconds since the epoch; `quarantined` counts allocations with an error in their entry.
        """
        self._gauges["allocsync_desired_last_load_successful"].set(1)
        self._gauges["allocsync_desired_last_load_success_timestamp_seconds"].set(float(at))
        self._gauges["allocsync_desired_quarantined"].set(quarantined)

    def desired_rejected(self) -> None:
        """Record a load that was rejected as a whole."""
        self._gauges["allocsync_desired_last_load_successful"].set(0)
        self._count("desired_rejected_total")

    def record_journal_state(self, *, works: bool) -> None:
        """Record that the journal can be written again, or can no longer; the latter counts as a failure."""
        self._gauges["allocsync_journal_writable"].set(works)
        if not works:
            self._count("journal_failures_total")

    def settings_reread(self, *, successful: bool, journal_bytes: int) -> None:
        """Record whether settings, secrets and certificates could be read again, and the journal's size."""
        self._gauges["allocsync_settings_last_reload_successful"].set(successful)
        self._gauges["allocsync_journal_size_bytes"].set(journal_bytes)

    def _create_series(self, row: Metric) -> None:
        made = {**self._counters, **self._gauges, **self._histograms}[row.name]
        for combination in _combinations(row) if row.labels else ():
            made.labels(*combination)

    def _count(self, name: str, *labels: str) -> None:
        counter = self._counters[f"allocsync_{name}"]
        (counter.labels(*labels) if labels else counter).inc()

    def _observe(self, name: str, seconds: float, *labels: str) -> None:
        histogram = self._histograms[f"allocsync_{name}"]
        (histogram.labels(*labels) if labels else histogram).observe(seconds)

    def _count_request(self, operation: str, elapsed_seconds: float, status: int | None) -> None:
        self._count("api_requests_total", operation, _code_label(status))
        self._observe("api_request_duration_seconds", elapsed_seconds, operation)

    def _on_read_finished(self, event: events.ReadFinished) -> None:
        self._count_request("snapshot", event.elapsed_seconds, event.status)
        self._count("reconcile_total")
        if event.answer == "failed":
            self._count("reconcile_errors_total", "read_failed")
        elif event.differs:
            self._read_seconds[event.allocation] = event.elapsed_seconds
            return
        self._observe("reconcile_duration_seconds", event.elapsed_seconds)

    def _on_update_finished(self, event: events.UpdateFinished) -> None:
        self._count("updates_total", event.outcome, event.cause)
        if event.outcome != "not_sent":
            self._count_request("update", event.elapsed_seconds, event.status)
        if event.outcome != "accepted":
            self._count("reconcile_errors_total", f"update_{event.outcome}")
        seconds = self._read_seconds.pop(event.allocation, 0.0) + event.elapsed_seconds
        self._observe("reconcile_duration_seconds", seconds)


class _StatusCollector(Collector):
    """Reads the status at each scrape."""

    def __init__(self) -> None:
        self.status: Callable[[], ControllerStatus] | None = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        read = _values_of(self.status()) if self.status else {}
        for row in METRICS:
            if row.from_status:
                family = GaugeMetricFamily(row.name, row.help, labels=row.labels)
                values = dict.fromkeys(_combinations(row), 0.0) | read.get(row.name, {})
                for labels, value in values.items():
                    family.add_metric(labels, value)
                yield family


def _values_of(status: ControllerStatus) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the values of all metrics with `from_status`, by name and then by label values."""
    unlabelled: dict[str, float] = {
        "revision_active_timestamp_seconds": _timestamp(status.active_since),
        "revision_awaiting_approval": bool(status.awaiting_reason),
        "revision_awaiting_approval_timestamp_seconds": _timestamp(status.awaiting_since),
        "revision_changed_allocations": status.changes,
        "api_reachable": status.api.reachable is True,
        "last_confirmed_timestamp_seconds": _timestamp(status.api.last_confirmed_at),
        "oldest_unconverged_timestamp_seconds": _timestamp(status.oldest_unconverged_at),
        "open_intents": status.open_intents,
        "settle_seconds": status.settle_seconds,
        "last_full_read_timestamp_seconds": _timestamp(status.last_full_read),
        "stalled": status.stalled is not None,
        "stopping": status.stopping,
    }
    labelled: dict[str, Mapping[str, float] | Mapping[Condition, float]] = {
        "revision_info": {status.active_revision[:DIGITS]: 1.0} if status.active_revision else {},
        "allocations": status.conditions,
        "condition_oldest_timestamp_seconds": {
            condition: float(since) for condition, since in status.oldest_conditions.items()
        },
        "updates_held_back": status.held_back,
        "pauses": {scope: number for scope, (number, _) in status.pauses.items()},
        "pause_end_timestamp_seconds": {scope: float(end) for scope, (_, end) in status.pauses.items()},
        "queue_depth": status.queued,
        "in_flight": status.in_flight,
        "slow_in_flight": status.slow,
        "concurrency_limit": status.limits,
        "concurrency_max": status.max_in_flight,
        "breaker_open": status.breakers_open,
    }
    values: dict[str, dict[tuple[str, ...], float]]
    values = {name: {(): float(value)} for name, value in unlabelled.items()}
    values |= {
        name: {(str(key),): float(value) for key, value in of.items()} for name, of in labelled.items()
    }
    return {f"allocsync_{name}": of for name, of in values.items()}


def _timestamp(at: WallTime | None) -> float:
    """Return the value of a timestamp metric; 0 for None."""
    return 0.0 if at is None else float(at)


def _combinations(row: Metric) -> Iterator[tuple[str, ...]]:
    return itertools.product(*row.values.values())


def _code_label(status: int | None) -> str:
    """Return the label for an HTTP status: itself if it is in CODES, else its class (5xx); `none` if None."""
    if status is None:
        return NO_CODE
    text = str(status)
    return text if text in CODES else f"{text[:1]}xx" if f"{text[:1]}xx" in CODES else NO_CODE
