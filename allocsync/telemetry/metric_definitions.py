"""The table of metrics: what each is called, what it means, which series it has.

The rules: every label's values are listed, so that all series can be made at the start; base units,
timestamps instead of ages, and labels from small fixed sets: never an allocation's id, and none that
Prometheus puts on targets itself (job, instance, region). The only open one is the generation's digest, of
which there is one at a time.

Left out: what moves them (`metrics`).
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from allocsync import __version__
from allocsync.model.condition import Condition

NO_CODE = "none"
CODES = (
    *("200", "202", "400", "401", "403", "404", "408", "410", "413", "422", "423", "429"),
    *("500", "502", "503", "504", "1xx", "2xx", "3xx", "4xx", "5xx", NO_CODE),
)
_OPERATION = ("read", "write")
_SCOPES = ("all", "one")
_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 75, 120)
_WAIT_BUCKETS = (5, 10, 15, 20, 30, 60, 90, 120, 180, 300, 900, 3600)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; `values` lists what its labels can be, so that all series can be made at once."""

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
        "Always 1; the labels say which version runs.",
        version=(__version__,),
        python_version=(platform.python_version(),),
    ),
    _counter("reconcile_total", "Reconciles of one allocation, each begun with a read."),
    _counter(
        "reconcile_errors_total",
        "Passes that failed, by what went wrong.",
        reason=("read_failed", "update_rejected", "update_unknown", "update_not_sent"),
    ),
    _histogram(
        "reconcile_duration_seconds",
        "Time in requests of a pass that found nothing to do, failed, or sent an update.",
        _REQUEST_BUCKETS,
    ),
    _counter(
        "api_requests_total",
        "Requests to the Allocation API; code none: no usable answer, 5xx: one not listed by itself.",
        operation=_OPERATIONS,
        code=CODES,
    ),
    _histogram(
        "api_request_duration_seconds",
        "Time until a request to the Allocation API was answered or given up.",
        _REQUEST_BUCKETS,
        operation=_OPERATIONS,
    ),
    _counter(
        "updates_total",
        "Updates, by how sending them ended; not_sent never left.",
        outcome=("accepted", "rejected", "unknown", "not_sent"),
    ),
    _counter(
        "outcomes_settled_total",
        "What reads showed of updates; stale_overwrite: one put back somebody else's change.",
        outcome=(
            *("applied", "applied_partial", "late_applied", "not_applied", "superseded", "void"),
            "stale_overwrite",
        ),
    ),
    _histogram(
        "outcome_settle_duration_seconds",
        "Time from an update until a read showed what became of it.",
        _WAIT_BUCKETS,
    ),
    _counter(
        "duplicate_writes_avoided_total",
        "Updates of unknown outcome that a read showed applied: none was sent twice.",
    ),
    _counter(
        "resync_total",
        "Reads of the list that were begun; there are none where allocations are read one by one.",
    ),
    _histogram(
        "resync_duration_seconds",
        "Time of a read of the list and of comparing what it shows.",
        _REQUEST_BUCKETS,
    ),
    _counter("bulk_unavailable_total", "Reads of the list that failed."),
    _counter("revisions_activated_total", "Revisions of the desired state that became active."),
    _counter("desired_rejected_total", "Loads of the desired state that were rejected as a whole."),
    _gauge("desired_last_load_successful", "1 if the last load of the desired state succeeded."),
    _gauge("desired_last_load_success_timestamp_seconds", "When the desired state last loaded; 0: never."),
    _gauge("desired_quarantined", "Allocations whose entry in the desired state has errors."),
    _state(
        "revision_info", "Always 1; the label names the active revision by its first 8 digits.", revision=()
    ),
    _state(
        "revision_active_timestamp_seconds",
        "When the active revision became active; 0: there is none in this process.",
    ),
    _state(
        "revision_awaiting_approval",
        "1 if the change limit stops the newest revision until it is approved or its canaries are verified.",
    ),
    _state(
        "revision_awaiting_approval_timestamp_seconds",
        "Since when the newest revision awaits approval; 0: it does not.",
    ),
    _state("pauses", "Pauses in force, by what they are of: everything, or one allocation.", scope=_SCOPES),
    _state("pause_end_timestamp_seconds", "When the last of them ends; 0: there is none.", scope=_SCOPES),
    _state(
        "revision_changed_allocations",
        "Allocations that the newest revision declares otherwise than the baseline does.",
    ),
    _state(
        "allocations",
        "Allocations by condition.",
        condition=tuple(condition.value for condition in Condition),
    ),
    _gauge("journal_writable", "1 if the journal can be written; nothing is sent while it cannot."),
    _counter("journal_failures_total", "Times at which writing the journal began to fail."),
    _state(
        "settle_seconds",
        "Settle time: how long after an unknown outcome a read may first show that it was not applied.",
    ),
    _state("open_intents", "Updates whose outcome is not known yet."),
    _state("queue_depth", "Allocations that are due and wait for their turn.", operation=_OPERATION),
    _state(
        "in_flight", "Requests in flight, by the operation that they are admitted for.", operation=_OPERATION
    ),
    _state(
        "slow_in_flight",
        "Of these, those that take long and no longer count against the limit.",
        operation=_OPERATION,
    ),
    _state("concurrency_limit", "Limit of requests in flight now.", operation=_OPERATION),
    _state(
        "concurrency_max", "Hard maximum of requests in flight, slow ones included.", operation=_OPERATION
    ),
    _state("breaker_open", "1 while nothing succeeds and only probes are sent.", operation=_OPERATION),
    _counter("breaker_openings_total", "Times at which a breaker opened.", operation=_OPERATION),
    _counter("breaker_probes_total", "Probes sent while a breaker was open.", operation=_OPERATION),
    _state("last_full_read_timestamp_seconds", "Since when every allocation has been read; 0: not yet."),
    _state("stalled", "1 if the loop makes no progress; an outage of the API is no stall."),
    _state("stopping", "1 if the daemon is shutting down."),
)
