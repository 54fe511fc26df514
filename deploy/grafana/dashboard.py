"""Prints the Grafana dashboard, made from the daemon's own metric names.

    python deploy/grafana/dashboard.py > deploy/grafana/allocsync.json

The rule: a panel can only show a metric that the daemon has, and each row answers one question: is it
working, does the API answer, what became of the updates, does it keep up, is the journal well? Times are
shown as ages.

Left out: alerts (`deploy/prometheus/rules.yml`).
"""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from allocsync.telemetry.metric_definitions import METRICS

NAMES = {metric.name for metric in METRICS}
HEIGHT, WIDTH = 7, 8  # of a panel, in units of the grid, which is 24 wide
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
IN_SYNC, NOT_IN_SYNC = 'condition="InSync"', 'condition!="InSync"'
TARGET = 'job=~"$job",instance=~"$instance"'


def series(name: str, labels: str = "") -> str:
    """The selector of one metric of the chosen daemons; `labels` are more matchers.

    Raises:
        ValueError: the daemon has no such metric.
    """
    base = next((name.removesuffix(end) for end in ("_bucket", "_count", "_sum") if name.endswith(end)), name)
    if f"allocsync_{name}" not in NAMES and f"allocsync_{base}" not in NAMES:
        raise ValueError(f"the daemon has no metric allocsync_{name}")
    return f"allocsync_{name}{{{','.join(filter(None, (TARGET, labels)))}}}"


def rate(name: str, by: str, labels: str = "") -> str:
    """The rate of a counter, summed by these labels."""
    return f"sum by ({by}) (rate({series(name, labels)}[$__rate_interval]))"


def quantile(share: float, name: str, by: str = "") -> str:
    """A quantile of a histogram, over the daemons."""
    by = ",".join(filter(None, ("le", by)))
    return f"histogram_quantile({share}, sum by ({by}) (rate({series(f'{name}_bucket')}[$__rate_interval])))"


def age(name: str, labels: str = "") -> str:
    """Seconds since the time that a metric holds; nothing while it holds none."""
    return f"time() - ({series(name, labels)} > 0)"


@dataclass(frozen=True)
class Panel:
    """One panel: its title, what it shows, the legend of each expression, and the unit of the values."""

    title: str
    text: str
    expressions: tuple[tuple[str, str], ...]  # (expression, legend)
    unit: str = "short"
    kind: str = "timeseries"
    maximum: float | None = None
    stacked: bool = False
    thresholds: tuple[tuple[float | None, str], ...] = field(default=((None, "green"),))

    def model(self, number: int, x: int, y: int) -> dict[str, Any]:
        """The panel as Grafana stores it, at this place of the grid."""
        custom = {"stacking": {"mode": "normal"}, "fillOpacity": 20} if self.stacked else {}
        defaults: dict[str, Any] = {
            "unit": self.unit,
            "min": 0,
            "custom": custom,
            "thresholds": {
                "mode": "absolute",
                "steps": [{"value": value, "color": color} for value, color in self.thresholds],
            },
        }
        if self.maximum is not None:
            defaults["max"] = self.maximum
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.text,
            "datasource": DATASOURCE,
            "gridPos": {"h": HEIGHT, "w": WIDTH, "x": x, "y": y},
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "targets": [
                {"refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend}
                for index, (expression, legend) in enumerate(self.expressions)
            ],
        }


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Is it working?",
        (
            Panel(
                "In sync",
                "The share of all managed allocations.",
                (
                    (
                        f"sum({series('allocations', IN_SYNC)}) / sum({series('allocations')})",
                        "in sync",
                    ),
                ),
                unit="percentunit",
                kind="stat",
                maximum=1,
                thresholds=((None, "red"), (0.99, "orange"), (1, "green")),
            ),
            Panel(
                "Not in sync, by condition",
                "Pending and OutcomeUnknown pass by themselves; the others need somebody.",
                ((f"sum by (condition) ({series('allocations', NOT_IN_SYNC)})", "{{condition}}"),),
                stacked=True,
            ),
            Panel(
                "Slowest allocation",
                "For how long it is not in sync though nobody need act. The alert fires after 15 minutes.",
                ((f"max({age('oldest_unconverged_timestamp_seconds')}) or vector(0)", "slowest"),),
                unit="s",
            ),
            Panel(
                "Time to be in sync",
                "After an edit, and after drift was found. The objective is 60 seconds.",
                (
                    (quantile(0.5, "convergence_duration_seconds", "cause"), "half, {{cause}}"),
                    (quantile(0.99, "convergence_duration_seconds", "cause"), "99 %, {{cause}}"),
                ),
                unit="s",
            ),
            Panel(
                "Held back",
                "Allocations that differ and may not be updated, by what forbids it.",
                ((f"sum by (cause) ({series('updates_held_back')})", "{{cause}}"),),
                stacked=True,
            ),
            Panel(
                "Files",
                "1: the last load succeeded. Entries with mistakes keep their last valid declaration.",
                (
                    (f"min({series('desired_last_load_successful')})", "load successful"),
                    (f"sum({series('desired_quarantined')})", "entries with mistakes"),
                    (f"sum({series('revision_awaiting_approval')})", "awaiting approval"),
                ),
            ),
        ),
    ),
    (
        "Does the API answer?",
        (
            Panel(
                "Reachable",
                "0 while no request succeeds.",
                ((f"min({series('api_reachable')})", "reachable"),),
                kind="stat",
                maximum=1,
                thresholds=((None, "red"), (1, "green")),
            ),
            Panel(
                "Last confirmation",
                "The age of the newest answer: how old everything is that is shown.",
                ((f"max({age('last_confirmed_timestamp_seconds')})", "age"),),
                unit="s",
            ),
            Panel(
                "Requests",
                "By operation and status; none: no usable answer.",
                ((rate("api_requests_total", "operation,code") + " > 0", "{{operation}} {{code}}"),),
                unit="reqps",
                stacked=True,
            ),
            Panel(
                "Time of a request",
                "99 % of the requests are faster.",
                ((quantile(0.99, "api_request_duration_seconds", "operation"), "{{operation}}"),),
                unit="s",
            ),
            Panel(
                "Circuit breakers",
                "1 while only probes are sent.",
                ((f"max by (operation) ({series('breaker_open')})", "{{operation}}"),),
                maximum=1,
            ),
        ),
    ),
    (
        "What became of the updates?",
        (
            Panel(
                "Updates",
                "By the outcome of the request.",
                ((rate("updates_total", "outcome"), "{{outcome}}"),),
                unit="ops",
                stacked=True,
            ),
            Panel(
                "Why they were sent",
                "An edit, drift, another try, or the first comparison after a start.",
                ((rate("updates_total", "cause", 'outcome!="not_sent"'), "{{cause}}"),),
                unit="ops",
                stacked=True,
            ),
            Panel(
                "What read-backs found",
                "Updates of unknown outcome: applied ones are not sent again.",
                ((rate("outcomes_settled_total", "outcome"), "{{outcome}}"),),
                unit="ops",
                stacked=True,
            ),
            Panel(
                "Open updates",
                "Their outcome is not known yet.",
                ((f"sum({series('open_intents')})", "open"),),
            ),
            Panel(
                "Settle time",
                "After so long a read may say that an update was not applied.",
                ((f"max({series('settle_seconds')})", "settle time"),),
                unit="s",
            ),
            Panel(
                "Another writer",
                "Allocations of which somebody keeps changing fields back, in the last hour.",
                ((f"sum(increase({series('another_writer_suspected_total')}[1h]))", "suspected"),),
            ),
        ),
    ),
    (
        "Does it keep up?",
        (
            Panel(
                "In flight and limit",
                "The limit shrinks when the API is slow or fails, and grows again.",
                (
                    (f"sum by (operation) ({series('in_flight')})", "in flight, {{operation}}"),
                    (f"sum by (operation) ({series('concurrency_limit')})", "limit, {{operation}}"),
                ),
            ),
            Panel(
                "Queue",
                "Allocations that are due and wait for a slot.",
                ((f"sum by (operation) ({series('queue_depth')})", "{{operation}}"),),
            ),
            Panel(
                "Age of the oldest read",
                "Every allocation has been read since then.",
                ((f"max({age('last_full_read_timestamp_seconds')})", "age"),),
                unit="s",
            ),
            Panel(
                "Memory",
                "Resident memory of the process.",
                ((f"process_resident_memory_bytes{{{TARGET}}}", "{{instance}}"),),
                unit="bytes",
            ),
            Panel(
                "Processor",
                "Cores in use.",
                ((f"rate(process_cpu_seconds_total{{{TARGET}}}[$__rate_interval])", "{{instance}}"),),
            ),
        ),
    ),
    (
        "Is the journal well?",
        (
            Panel(
                "Journal writable",
                "While it is 0, no updates are sent.",
                ((f"min({series('journal_writable')})", "writable"),),
                kind="stat",
                maximum=1,
                thresholds=((None, "red"), (1, "green")),
            ),
            Panel(
                "Stalled",
                "1 while the controller makes no progress.",
                ((f"max({series('stalled')})", "stalled"),),
                maximum=1,
            ),
            Panel(
                "Pauses",
                "Pauses in force, by scope.",
                ((f"sum by (scope) ({series('pauses')})", "{{scope}}"),),
            ),
        ),
    ),
)


def variable(name: str, query: str) -> dict[str, Any]:
    """A variable of the dashboard with the values of a label."""
    return {
        "name": name,
        "type": "query",
        "datasource": DATASOURCE,
        "query": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }


def panels() -> Iterable[dict[str, Any]]:
    """All panels, row by row."""
    number = y = 0
    for title, row in ROWS:
        number += 1
        place = {"h": 1, "w": 24, "x": 0, "y": y}
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "gridPos": place,
            "collapsed": False,
            "panels": [],
        }
        y += 1
        per_line = 24 // WIDTH
        for index, panel in enumerate(row):
            number += 1
            yield panel.model(number, WIDTH * (index % per_line), y + HEIGHT * (index // per_line))
        y += HEIGHT * -(-len(row) // per_line)


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "uid": "allocsync",
        "title": "allocsync",
        "tags": ["allocsync"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "utc",
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                variable("job", "label_values(allocsync_build_info, job)"),
                variable("instance", 'label_values(allocsync_build_info{job=~"$job"}, instance)'),
            ]
        },
        "panels": list(panels()),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n")
