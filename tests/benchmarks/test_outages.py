"""The measurement of outages still runs, finds what is missed, and is shown. No test asserts a time."""

import json
from pathlib import Path

import pytest

from tests.benchmarks import outage_tables, outages
from tests.benchmarks.outages import CASES, OUTPUTS, Row, Turns, measure, missed, store


async def test_a_short_case_is_measured_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("NUMBER", 10), ("FAULT_SECONDS", 6.0), ("ASKED_SECONDS", 1)):
        monkeypatch.setattr(outages, name, value)
    row = await measure(CASES["GETs of one allocation fail"], Turns(1))
    assert row["lapses"] == []
    assert row["struck"] >= 3
    assert set(row["told"]) == set(OUTPUTS)
    assert row["wait"]["code"] == 1
    assert row["edit_seconds"] is not None
    store([row], tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == [row]
    monkeypatch.setattr(outage_tables, "RESULTS", tmp_path / "results.json")
    assert "| GETs of one allocation fail | delayed allocations |" in outage_tables.outages()


async def test_a_case_that_breaks_off_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "daemon", None)
    row = await measure(CASES["killed"], Turns(1))
    assert row["missed"][0].startswith("the case broke off: TypeError")


TOLD = dict.fromkeys(OUTPUTS, 29.9)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"struck": 0}, "the fault never struck"),
        ({"told": {**TOLD, "explain": 30.1}}, "explain tells it after 30.1 s"),
        ({"told": {**TOLD, "log": None}}, "log tells it after never"),
        ({"lapses": ["status --wait succeeds"]}, "status --wait succeeds"),
        ({"resumed_seconds": None}, "resumed_seconds: never"),
        ({"still_seconds": 15.1}, "work stands still for 15.1 s"),
    ],
)
def test_each_missed_target_is_named(changed: Row, text: str) -> None:
    row = {"kind": "outage", "struck": 1, "told": TOLD, "lapses": [], "resumed_seconds": 1.0}
    assert missed(row) == []
    assert missed({**row, **changed}) == [text]


def test_the_log_has_no_target_for_a_fault_of_single_allocations() -> None:
    told = {**TOLD, "log": 75.0}
    assert missed({"kind": "one", "struck": 1, "told": told, "lapses": [], "edit_seconds": None}) == []
