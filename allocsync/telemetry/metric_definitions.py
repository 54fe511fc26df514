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
_LANES = ("read", "write")
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
    _counter("reconcile_total", "Passes over one allocation, each begun with a look."),
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
        "What became of updates, found out by reading; stale_overwrite: one put back a foreign change.",
        outcome=(
            *("applied", "applied_partial", "late_applied", "not_applied", "superseded", "void"),
            "stale_overwrite",
        ),
    ),
    _histogram(
        "outcome_settle_duration_seconds",
        "Time from an update until it was found out what became of it.",
        _WAIT_BUCKETS,
    ),
    _counter(
        "duplicate_writes_avoided_total",
        "Updates of unknown outcome that had been applied: sending again would have been needless.",
    ),
    _counter(
        "resync_total", "Looks at everything in one request that were begun; one by one there are none."
    ),
    _histogram(
        "resync_duration_seconds", "Time of such a look, what was made of it included.", _REQUEST_BUCKETS
    ),
    _counter("bulk_unavailable_total", "Attempts to read everything in one request that failed."),
    _counter("revisions_activated_total", "Revisions of the desired state that became active."),
    _counter("desired_rejected_total", "Loads of the desired state that were rejected as a whole."),
    _gauge("desired_last_load_successful", "1 if the last load of the desired state succeeded."),
    _gauge("desired_last_load_success_timestamp_seconds", "When the desired state last loaded; 0: never."),
    _gauge("desired_quarantined", "Allocations whose entry in the desired state has errors."),
    _state("generation_info", "Always 1; the label names the generation in force.", generation=()),
    _state("generation_timestamp_seconds", "When the generation in force was adopted; 0: there is none."),
    _state(
        "generation_held", "1 if a rail holds the newest generation: until approved, or shown by canaries."
    ),
    _state("generation_held_timestamp_seconds", "Since when it is held; 0: it is not."),
    _state("pauses", "Pauses in force, by what they are of: everything, or one allocation.", scope=_SCOPES),
    _state("pause_end_timestamp_seconds", "When the last of them ends; 0: there is none.", scope=_SCOPES),
    _state(
        "generation_changed_allocations",
        "Allocations that the newest generation declares otherwise than the baseline does.",
    ),
    _state(
        "allocations",
        "Allocations by condition.",
        condition=tuple(condition.value for condition in Condition),
    ),
    _gauge("journal_writable", "1 if the journal can be written; nothing is sent while it cannot."),
    _counter("journal_failures_total", "Times at which writing the journal began to fail."),
    _state("settle_seconds", "How long an update of unknown outcome is waited for before it is judged."),
    _state("open_intents", "Updates whose outcome is not known yet."),
    _state("queue_depth", "Allocations that are due and wait for a slot.", lane=_LANES),
    _state("in_flight", "Slots taken by requests under way.", lane=_LANES),
    _state("slow_in_flight", "Of these, those that take long and no longer count.", lane=_LANES),
    _state("concurrency_limit", "Slots that there are now.", lane=_LANES),
    _state("concurrency_max", "Most requests in flight, slow ones included.", lane=_LANES),
    _state("breaker_open", "1 while nothing succeeds and only probes go.", lane=_LANES),
    _counter("breaker_openings_total", "Times at which a breaker opened.", lane=_LANES),
    _counter("breaker_probes_total", "Probes while a breaker was open, by the slot they took.", lane=_LANES),
    _state("last_full_look_timestamp_seconds", "Since when everything has been looked at; 0: not yet."),
    _state("stalled", "1 if the loop makes no progress; an outage of the API is no stall."),
    _state("stopping", "1 if the daemon is shutting down."),
)
