"""The table of metrics: the name, the meaning and the series of each.

The rules: every label lists its values, so that all series can be created at the start. Metrics use base
units, and timestamps instead of ages. Labels have small fixed sets of values: never an allocation's id, and
no label that Prometheus sets on targets itself (job, instance, region). The only label with open values is
the revision, of which one is active at a time.

Left out: how the values change (`telemetry.metrics`).
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from allocsync import __version__
from allocsync.model.condition import Condition
from allocsync.reconcile import events
from allocsync.reconcile.status.convergence import HELD_BACK_BY

NO_CODE = "none"
CODES = (
    *("200", "202", "400", "401", "403", "404", "408", "410", "413", "422", "423", "429"),
    *("500", "502", "503", "504", "1xx", "2xx", "3xx", "4xx", "5xx", NO_CODE),
)
_READ_WRITE = ("read", "write")
_SCOPES = ("all", "one")
_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 75, 120)
_CONVERGENCE_BUCKETS = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
_WAIT_BUCKETS = (5, 10, 15, 20, 30, 60, 90, 120, 180, 300, 900, 3600)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    `values` lists the values of each label; a label without values is open. `from_status` says that the
    value is read from the controller's status at each scrape, and not counted from events.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()
    from_status: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its labels."""
        return tuple(self.values)


def _counter(name: str, text: str, **values: tuple[str, ...]) -> Metric:
    return Metric(f"allocsync_{name}", "counter", text, values)


def _histogram(name: str, text: str, buckets: tuple[float, ...], **values: tuple[str, ...]) -> Metric:
    return Metric(f"allocsync_{name}", "histogram", text, values, buckets)


def _gauge(name: str, text: str, **values: tuple[str, ...]) -> Metric:
    return Metric(f"allocsync_{name}", "gauge", text, values)


def _state(name: str, text: str, **values: tuple[str, ...]) -> Metric:
    return Metric(f"allocsync_{name}", "gauge", text, values, from_status=True)


_OPERATIONS = ("snapshot", "update", "list")
METRICS = (
    _gauge(
        "build_info",
        "Always 1; the labels are the running versions.",
        version=(__version__,),
        python_version=(platform.python_version(),),
    ),
    _counter("reconcile_total", "Reconciles of one allocation; each begins with a read."),
    _counter(
        "reconcile_errors_total",
        "Reconciles that failed, by what failed.",
        reason=("read_failed", "update_rejected", "update_unknown", "update_not_sent"),
    ),
    _histogram(
        "reconcile_duration_seconds",
        "Time in the requests of a reconcile that found nothing to do, failed, or sent an update.",
        _REQUEST_BUCKETS,
    ),
    _counter(
        "api_requests_total",
        "Requests to the Allocation API, by status; none: no usable answer, 5xx: a status not listed.",
        operation=_OPERATIONS,
        code=CODES,
    ),
    _histogram(
        "api_request_duration_seconds",
        "Time until a request to the Allocation API was answered or failed.",
        _REQUEST_BUCKETS,
        operation=_OPERATIONS,
    ),
    _state(
        "api_reachable",
        "1 if the Allocation API answers; 0 if it is unreachable, or before the first answer.",
    ),
    _state(
        "last_confirmed_timestamp_seconds",
        "When a request to the Allocation API last succeeded; 0: not yet.",
    ),
    _counter(
        "updates_total",
        "Updates, by the outcome of the request (not_sent: none was made) and by what called for them.",
        outcome=("accepted", "rejected", "unknown", "not_sent"),
        cause=get_args(events.UpdateCause),
    ),
    _histogram(
        "convergence_duration_seconds",
        "Time until an allocation was in sync, from when it was first managed, edited or found to differ.",
        _CONVERGENCE_BUCKETS,
        cause=get_args(events.ConvergenceCause),
    ),
    _state(
        "oldest_unconverged_timestamp_seconds",
        "Since when the slowest allocation is not in sync though nobody need act; 0: all are.",
    ),
    _state(
        "updates_held_back",
        "Allocations that differ and may not be updated, by what forbids it.",
        cause=HELD_BACK_BY,
    ),
    _counter(
        "outcomes_settled_total",
        "Outcomes of updates, found by reading; stale_overwrite: a late update overwrote a foreign change.",
        outcome=(
            *("applied", "applied_partial", "late_applied", "not_applied", "superseded", "void"),
            "stale_overwrite",
        ),
    ),
    _histogram(
        "outcome_settle_duration_seconds",
        "Time from an update until a read showed its outcome.",
        _WAIT_BUCKETS,
    ),
    _counter(
        "duplicate_writes_avoided_total",
        "Updates of unknown outcome that a read showed to be applied, so that they were not sent again.",
    ),
    _counter(
        "another_writer_suspected_total",
        "Allocations of which fields were changed back three times in a day, or differ after each update.",
    ),
    _counter("resync_total", "List reads that were started. Without the list this stays 0."),
    _histogram(
        "resync_duration_seconds",
        "Time of a list read, with the comparison of its allocations.",
        _REQUEST_BUCKETS,
    ),
    _counter("bulk_unavailable_total", "List reads that failed."),
    _counter("revisions_activated_total", "Revisions of the desired state that were activated."),
    _counter("desired_rejected_total", "Loads of the desired state that were rejected as a whole."),
    _gauge("desired_last_load_successful", "1 if the last load of the desired state succeeded."),
    _gauge(
        "desired_last_load_success_timestamp_seconds",
        "When the desired state last loaded successfully; 0: never.",
    ),
    _gauge("desired_quarantined", "Allocations whose entry in the desired state has errors."),
    _state(
        "revision_info", "Always 1; the label is the active revision, by its first 8 digits.", revision=()
    ),
    _state("revision_active_timestamp_seconds", "When the active revision was activated; 0: there is none."),
    _state(
        "revision_awaiting_approval", "1 while the newest revision awaits approval, or proof by its canaries."
    ),
    _state(
        "revision_awaiting_approval_timestamp_seconds",
        "Since when the newest revision awaits approval; 0: it does not.",
    ),
    _state("pauses", "Active pauses, by scope: all allocations, or one.", scope=_SCOPES),
    _state(
        "pause_end_timestamp_seconds", "When the last active pause ends; 0: there is none.", scope=_SCOPES
    ),
    _state(
        "revision_changed_allocations",
        "Allocations that the newest revision declares differently from the baseline.",
    ),
    _state(
        "allocations",
        "Allocations by condition.",
        condition=tuple(condition.value for condition in Condition),
    ),
    _state(
        "condition_oldest_timestamp_seconds",
        "Since when the allocation has a condition that has had it for the longest; 0: none has it.",
        condition=tuple(condition.value for condition in Condition),
    ),
    _gauge(
        "settings_last_reload_successful",
        "1 unless the settings, secrets or certificates were wrong when they were last read again.",
    ),
    _gauge("journal_size_bytes", "Size of the journal on the disk, once a minute."),
    _gauge("journal_writable", "1 if the journal can be written; while it cannot, no updates are sent."),
    _counter("journal_failures_total", "How often the journal became impossible to write."),
    _state(
        "settle_seconds", "Time after an update of unknown outcome until a read may show it as not applied."
    ),
    _state("open_intents", "Updates whose outcome is not known yet."),
    _state("queue_depth", "Allocations that are due and wait for a free slot.", operation=_READ_WRITE),
    _state("in_flight", "Requests in flight, including slow ones.", operation=_READ_WRITE),
    _state(
        "slow_in_flight",
        "Requests in flight that take long and no longer count against the limit.",
        operation=_READ_WRITE,
    ),
    _state(
        "concurrency_limit", "Current limit of requests in flight, without slow ones.", operation=_READ_WRITE
    ),
    _state("concurrency_max", "Maximum of requests in flight, including slow ones.", operation=_READ_WRITE),
    _state(
        "breaker_open",
        "1 while the circuit breaker is open: no request succeeds, and only probes are sent.",
        operation=_READ_WRITE,
    ),
    _counter("breaker_openings_total", "How often the circuit breaker opened.", operation=_READ_WRITE),
    _counter(
        "breaker_probes_total", "Probes sent while the circuit breaker was open.", operation=_READ_WRITE
    ),
    _state("last_full_read_timestamp_seconds", "Every allocation has been read since then; 0: not yet."),
    _state("stalled", "1 if the controller makes no progress; an outage of the API is not a stall."),
    _state("stopping", "1 while the daemon is shutting down."),
)
