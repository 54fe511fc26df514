"""Metrics: the rules of the table, all series from the start, and what each event changes."""

import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from allocsync.model.condition import Condition
from allocsync.model.ids import AllocationId
from allocsync.model.times import WallTime
from allocsync.reconcile import events
from allocsync.reconcile.status.controller_status import ControllerStatus
from allocsync.telemetry.metric_definitions import CODES, METRICS
from allocsync.telemetry.metrics import Metrics
from tests.support.made_events import made

ID = AllocationId("7b0c4c5e")
STATUS = ControllerStatus(
    revision="9" * 64,
    observed_revision=None,
    active_revision="7f3a91c2" + "0" * 56,
    active_since=WallTime(1_700_000_000.5),
    conditions={Condition.IN_SYNC: 3, Condition.FAILING: 2},
    open_intents=1,
    settle_seconds=10.0,
    queued={"read": 4, "write": 5},
    in_flight={"read": 6, "write": 7},
    slow={"read": 1, "write": 2},
    limits={"read": 8, "write": 9},
    max_in_flight={"read": 64, "write": 32},
    breakers_open={"read": False, "write": True},
    last_full_read=WallTime(1_700_000_001.0),
    resync_seconds=60.0,
    first_answer_seen=True,
    stalled="the dispatcher has not turned",
    stopping=True,
)


@pytest.fixture(name="registry")
def _registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture(name="metrics")
def _metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry)


def read(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"allocsync_{name}", labels)


def changed(before: Mapping[str, float], registry: CollectorRegistry) -> dict[str, float]:
    """The series that changed, without buckets, and by how much."""
    return {key: value - before[key] for key, value in series(registry).items() if value != before[key]}


def series(registry: CollectorRegistry) -> dict[str, float]:
    return {
        f"{sample.name}{sorted(sample.labels.items()) or ''}": sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name.startswith("allocsync_") and not sample.name.endswith("_bucket")
    }


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_follows_the_naming_rules_of_prometheus(metric: object) -> None:
    # The rules of promlint, and those of Prometheus's guidelines that it does not check.
    row = next(row for row in METRICS if row is metric)

    assert re.fullmatch(r"allocsync(_[a-z]+)+", row.name)
    assert row.help.endswith(".")
    assert row.name.endswith("_total") is (row.kind == "counter")
    assert not re.search(r"_(bucket|count|sum|gauge|counter|histogram|summary|created)(_|$)", row.name)
    assert not re.search(r"_(s|ms|us|ns|sec|b|kb|mb|gb|tb|pb|m|h|d)(_|$)", row.name)
    assert not re.search(r"milliseconds|minutes|hours|days|kilobytes|percent|_age_", row.name)
    assert row.kind != "histogram" or row.name.endswith("_duration_seconds")
    assert ("timestamp" in row.name) is row.name.endswith("_timestamp_seconds")
    assert not set(row.labels) & {"job", "instance", "region", "zone", "cluster", "type", "le", "quantile"}
    assert not set(row.labels) & {"id", "allocation"}
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", label) for label in row.labels)
    assert "total" not in {value.lower() for values in row.values.values() for value in values}


def test_every_metric_has_a_name_of_its_own() -> None:
    assert len({row.name for row in METRICS}) == len(METRICS)


def test_every_series_exists_from_the_start(registry: CollectorRegistry, metrics: Metrics) -> None:
    before = set(series(registry))
    assert len(before) > 100

    for kind in events.KINDS:
        metrics(made(kind))
    for outcome in ("accepted", "rejected", "unknown", "not_sent"):
        metrics(made(events.UpdateFinished, outcome=outcome, status=504))
    metrics(made(events.ReadFinished, answer="failed", status=504))
    metrics.desired_loaded(at=WallTime(1.0), quarantined=0)
    metrics.desired_rejected()
    metrics.follow(lambda: dataclasses.replace(STATUS, active_revision=None))

    assert set(series(registry)) == before


def test_both_formats_can_be_parsed(registry: CollectorRegistry, metrics: Metrics) -> None:
    metrics.follow(lambda: STATUS)

    text = {family.name for family in parse(generate_latest(registry).decode())}
    body = generate_openmetrics(registry, version="1.0.0").decode()  # type: ignore[no-untyped-call]  # theirs
    openmetrics = {family.name for family in parse_openmetrics(body)}  # type: ignore[no-untyped-call]  # theirs

    for row in METRICS:
        name = row.name.removesuffix("_total") if row.kind == "counter" else row.name
        assert name in text
        assert name in openmetrics
    assert "process_cpu_seconds" in text
    assert "python_info" in text
    assert "python_gc_collections" in text
    assert not any(name.endswith("_created") for name in text)


@pytest.mark.real
def test_promtool_reports_no_problem(registry: CollectorRegistry, metrics: Metrics) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("apt-get install prometheus")
    metrics.follow(lambda: STATUS)

    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=generate_latest(registry),
        capture_output=True,
        check=False,
        timeout=60,
        env=dict(os.environ),
    )

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_a_read_that_finds_no_difference_is_one_reconcile_and_one_request(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    before = series(registry)

    metrics(made(events.ReadFinished, status=200, elapsed_seconds=0.25))

    assert changed(before, registry) == {
        "allocsync_reconcile_total": 1,
        "allocsync_reconcile_duration_seconds_count": 1,
        "allocsync_reconcile_duration_seconds_sum": 0.25,
        "allocsync_api_requests_total[('code', '200'), ('operation', 'snapshot')]": 1,
        "allocsync_api_request_duration_seconds_count[('operation', 'snapshot')]": 1,
        "allocsync_api_request_duration_seconds_sum[('operation', 'snapshot')]": 0.25,
    }


def test_settings_that_are_wrong_when_read_again_are_told_until_they_are_right(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    assert read(registry, "settings_last_reload_successful") == 1
    for successful in (False, True):
        metrics.settings_reread(successful=successful, journal_bytes=5)
        assert read(registry, "settings_last_reload_successful") == successful
        assert read(registry, "journal_size_bytes") == 5


def test_the_duration_of_a_reconcile_includes_its_update(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    metrics(made(events.ReadFinished, status=200, elapsed_seconds=0.25, differs=2))
    assert read(registry, "reconcile_duration_seconds_count") == 0

    metrics(made(events.UpdateFinished, outcome="accepted", status=200, elapsed_seconds=1.5))

    assert read(registry, "reconcile_total") == 1
    assert read(registry, "reconcile_duration_seconds_count") == 1
    assert read(registry, "reconcile_duration_seconds_sum") == 1.75
    assert read(registry, "updates_total", outcome="accepted", cause="edit") == 1


def test_a_read_that_fails_is_counted_as_an_error_and_by_its_status(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    for status in (503, None, 418, 599):
        metrics(made(events.ReadFinished, answer="failed", status=status, elapsed_seconds=1.0))

    assert read(registry, "reconcile_errors_total", reason="read_failed") == 4
    for code in ("503", "none", "4xx", "5xx"):
        assert read(registry, "api_requests_total", operation="snapshot", code=code) == 1


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [("rejected", 422, "422"), ("unknown", 504, "504"), ("unknown", None, "none")],
)
def test_an_update_that_is_not_accepted_is_counted_as_an_error(
    registry: CollectorRegistry, metrics: Metrics, outcome: str, status: int | None, code: str
) -> None:
    metrics(made(events.UpdateFinished, outcome=outcome, status=status, elapsed_seconds=2.0))

    assert read(registry, "updates_total", outcome=outcome, cause="edit") == 1
    assert read(registry, "reconcile_errors_total", reason=f"update_{outcome}") == 1
    assert read(registry, "api_requests_total", operation="update", code=code) == 1


def test_an_update_that_was_not_sent_is_not_counted_as_a_request(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    metrics(made(events.UpdateFinished, outcome="not_sent"))

    assert read(registry, "updates_total", outcome="not_sent", cause="edit") == 1
    assert (
        sum(read(registry, "api_requests_total", operation="update", code=code) or 0 for code in CODES) == 0
    )


@pytest.mark.parametrize(
    ("outcome", "avoided"),
    [("applied", 1), ("applied_partial", 0), ("not_applied", 0), ("late_applied", 0), ("void", 0)],
)
def test_an_update_of_unknown_outcome_that_was_applied_counts_as_a_duplicate_avoided(
    registry: CollectorRegistry, metrics: Metrics, outcome: str, avoided: int
) -> None:
    metrics(made(events.UpdateSettled, outcome=outcome, waited_seconds=10.0))

    assert read(registry, "outcomes_settled_total", outcome=outcome) == 1
    assert read(registry, "outcome_settle_duration_seconds_sum") == 10
    assert read(registry, "duplicate_writes_avoided_total") == avoided


def test_each_suspicion_of_another_writer_is_counted(registry: CollectorRegistry, metrics: Metrics) -> None:
    assert read(registry, "another_writer_suspected_total") == 0
    metrics(made(events.AnotherWriterSuspected))
    assert read(registry, "another_writer_suspected_total") == 1


def test_list_reads_are_counted_and_timed(registry: CollectorRegistry, metrics: Metrics) -> None:
    metrics(made(events.ResyncStarted))
    metrics(made(events.ResyncFinished, elapsed_seconds=3.0))
    metrics(made(events.ResyncStarted))
    for status, asked in ((None, True), (503, True), (None, False)):
        metrics(made(events.ListUnavailable, status=status, asked=asked))

    assert read(registry, "resync_total") == 2
    assert read(registry, "resync_duration_seconds_sum") == 3
    assert read(registry, "bulk_unavailable_total") == 3
    codes = ("200", "503", "none")
    assert [read(registry, "api_requests_total", operation="list", code=code) for code in codes] == [1, 1, 1]


def test_loads_of_the_desired_state_are_counted_and_timestamped(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    metrics.desired_loaded(at=WallTime(1_700_000_000.0), quarantined=2)
    metrics(made(events.RevisionActivated, revision="7f3a91c2"))
    assert read(registry, "desired_last_load_successful") == 1

    metrics.desired_rejected()

    assert read(registry, "desired_last_load_successful") == 0
    assert read(registry, "desired_last_load_success_timestamp_seconds") == 1_700_000_000
    assert read(registry, "desired_quarantined") == 2
    assert read(registry, "desired_rejected_total") == 1
    assert read(registry, "revisions_activated_total") == 1


def test_states_are_read_at_each_scrape(registry: CollectorRegistry, metrics: Metrics) -> None:
    statuses = [STATUS, dataclasses.replace(STATUS, active_revision="9", open_intents=0, stalled=None)]
    metrics.follow(lambda: statuses.pop(0) if len(statuses) > 1 else statuses[0])

    first = series(registry)

    assert first["allocsync_revision_info[('revision', '7f3a91c2')]"] == 1
    assert first["allocsync_revision_active_timestamp_seconds"] == 1_700_000_000.5
    assert first["allocsync_allocations[('condition', 'InSync')]"] == 3
    assert first["allocsync_allocations[('condition', 'Failing')]"] == 2
    assert first["allocsync_allocations[('condition', 'Blocked')]"] == 0
    assert first["allocsync_open_intents"] == 1
    assert first["allocsync_queue_depth[('operation', 'write')]"] == 5
    assert first["allocsync_in_flight[('operation', 'write')]"] == 7
    assert first["allocsync_concurrency_limit[('operation', 'read')]"] == 8
    assert first["allocsync_concurrency_limit[('operation', 'write')]"] == 9
    assert first["allocsync_slow_in_flight[('operation', 'write')]"] == 2
    assert first["allocsync_concurrency_max[('operation', 'write')]"] == 32
    assert first["allocsync_breaker_open[('operation', 'write')]"] == 1
    assert first["allocsync_last_full_read_timestamp_seconds"] == 1_700_000_001
    assert first["allocsync_stalled"] == 1
    assert first["allocsync_stopping"] == 1
    assert read(registry, "open_intents") == 0
    assert read(registry, "stalled") == 0
    assert read(registry, "revision_info", revision="7f3a91c2") is None


@given(
    kind=st.sampled_from(events.KINDS),
    status=st.none() | st.integers(),
    seconds=st.floats(min_value=0, allow_nan=False),
    answer=st.sampled_from(["live", "missing", "failed"]),
    differs=st.integers(min_value=0),
)
def test_no_event_fails_or_creates_a_new_series(
    kind: type[events.Event], status: int | None, seconds: float, answer: str, differs: int
) -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    before = set(series(registry))
    drawn = {
        "status": status,
        "elapsed_seconds": seconds,
        "waited_seconds": seconds,
        "answer": answer,
        "differs": differs,
    }

    metrics(made(kind, **{name: value for name, value in drawn.items() if name in kind.__slots__}))

    assert set(series(registry)) == before
