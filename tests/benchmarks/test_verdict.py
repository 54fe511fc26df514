"""What the verdict counts, on logs written by hand or drawn."""

from math import inf
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.verdict import Case, Figures, Report, figures, lost, per_second, reads_due
from tests.support.server_log_oracle import Record, Truth

BEFORE = {"id": "a", "region": "old", "billing": {"plan": "pro"}, "flags": [1], "updated": {"value": "x"}}
CASE = Case({"a": BEFORE}, {"a": {"region": "new"}}, begun=100.0, ended=110.0)
LEAVES = {"region": "new"}


def read(at: float) -> Record:
    return {"op": "snapshot", "id": "a", "received_at": at, "answered_at": at + 0.01, "answer": 200}


def post(number: int, at: float, answer: int, *, applied: bool, before: str = "old") -> Record:
    return {
        "op": "update",
        "n": number,
        "id": "a",
        "received_at": at,
        "answered_at": at + 0.02,
        "applied_at": at + 0.01 if applied else None,
        "changed": {"region": [before, "new"]} if applied and before != "new" else {},
        "answer": answer,
        "body": {**BEFORE, "region": "new"},
    }


def figures_of(
    *records: Record, reports: tuple[Report, ...] = (), live: dict[str, Any] | None = None
) -> Figures:
    now = {**BEFORE, "region": "new"} if live is None else live
    return figures(CASE, records, reports, {"a": now})


def test_an_update_with_a_read_before_and_after_is_all_needed() -> None:
    found = figures_of(read(100.1), read(100.2), post(1, 100.3, 200, applied=True), read(101.5))
    assert (found.sent, found.needed, found.clairvoyant) == (4, 1 + 3, 1 + 2)
    assert (found.needless, found.duplicates, found.recovery_seconds) == (0, 0, 0.0)


def test_an_applied_update_resent_without_a_read_is_an_avoidable_duplicate() -> None:
    found = figures_of(
        read(100.1), post(1, 100.3, 504, applied=True), post(2, 101.0, 200, applied=True, before="new")
    )
    assert (found.needless, found.duplicates, found.avoidable_duplicates, found.blind) == (1, 1, 1, 1)
    assert found.needed == 1 + 3


def test_an_update_resent_after_a_read_showed_it_is_avoidably_needless() -> None:
    again = post(2, 112.0, 200, applied=True, before="new")
    found = figures_of(read(100.1), post(1, 100.3, 504, applied=True), read(111.0), again)
    assert (found.needless, found.avoidable_needless) == (1, 1)


def test_resending_an_update_that_was_not_applied_is_needed() -> None:
    found = figures_of(
        read(100.1),
        post(1, 100.3, 504, applied=False),
        read(110.5),
        post(2, 110.6, 200, applied=True),
        read(112.0),
    )
    assert (found.needless, found.duplicates, found.blind) == (0, 0, 0)
    assert found.needed == 1 + 3 + 3
    assert found.recovery_seconds is not None
    assert abs(found.recovery_seconds - 0.61) < 1e-6
    assert found.second_after == 2


def test_a_failure_report_is_false_if_the_truth_is_as_declared_at_that_time() -> None:
    reports = (Report(100.2, "a", "gave up"), Report(100.4, "a", "gave up"))
    found = figures_of(read(100.1), post(1, 100.3, 504, applied=True), reports=reports)
    assert (found.failures, found.false_failures) == (2, 1)


def test_without_convergence_there_is_no_recovery_time() -> None:
    assert figures_of(read(100.1), post(1, 100.3, 504, applied=False)).recovery_seconds is None


def test_a_lost_field_counts_once_and_declared_fields_and_updated_do_not() -> None:
    live: dict[str, Any] = {"id": "a", "region": "new", "updated": {"value": "y"}, "flags": [1]}
    assert figures_of(read(100.1), live=live).fields_lost == 1
    assert lost(BEFORE, {**live, "billing": {"plan": "free"}}, LEAVES) == {"billing"}


def test_a_list_is_due_every_minute_or_a_read_of_each_every_five() -> None:
    assert reads_due(50, lists=9, seconds=130.0) == 3
    assert reads_due(50, lists=1, seconds=130.0) == 1
    assert reads_due(50, lists=0, seconds=130.0) == 50
    assert reads_due(50, lists=0, seconds=301.0) == 100


@given(st.lists(st.floats(100.0, 160.0)), st.just(100.0))
def test_each_request_is_in_one_second_of_the_series(arrivals: list[float], begun: float) -> None:
    series = per_second(sorted(arrivals), begun)
    assert sum(series) == len(arrivals)
    assert not series or series[-1] > 0


@given(st.lists(st.sampled_from(["new", "old"]), max_size=6), st.sampled_from(["new", "old"]))
def test_an_allocation_is_in_sync_for_good_once_it_never_differs_again(values: list[str], first: str) -> None:
    rows: list[Record] = []
    for at, value in enumerate(values):
        rows.append({"applied_at": float(at), "changed": {"region": [None, value]}})
    truth = Truth({"region": first}, rows)
    moments = [-inf, *(float(at) for at in range(len(values)))]
    good = [
        at
        for index, at in enumerate(moments)
        if all(truth.equals(LEAVES, later) for later in moments[index:])
    ]
    assert truth.equal_from(LEAVES) == (min(good) if good else None)
