"""A short storm over a few allocations, with real processes: allocsync keeps its promises."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.contenders import CONTENDERS
from tests.benchmarks.storm import STORMS, run_storm
from tests.benchmarks.storm_run import RESULTS, main


async def test_allocsync_sends_nothing_avoidable_in_a_short_storm() -> None:
    found = await run_storm(CONTENDERS["allocsync"], STORMS["50"], number=60, seconds=3.0)
    assert min(found.faults[f"update.timeout_{when}"] for when in ("before", "after")) > 5
    assert found.recovery_seconds is not None
    assert found.posts >= 60
    assert sum(found.per_second) == found.sent == found.reads + found.posts + found.lists
    assert (found.avoidable_needless, found.avoidable_duplicates, found.blind) == (0, 0, 0)
    assert (found.fields_lost, found.false_failures) == (0, 0)


def test_the_figures_of_a_peer_go_to_the_named_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = RESULTS.read_bytes()
    size = ["--number", "60", "--seconds", "3", "--storms", "50", "--contenders", "script"]
    main(["storms", *size, "--results", str(tmp_path / "results.json")])
    part = json.loads((tmp_path / "results.json").read_text())["storms"]
    assert (part["allocations"], part["seconds"], len(part["rows"])) == (60, 3.0, 1)
    (row,) = part["rows"]
    assert min(row["faults"][f"update.timeout_{when}"] for when in ("before", "after")) > 5
    assert row["needless"] > 0
    assert row["avoidable_duplicates"] > 0
    assert row["fields_lost"] == 0
    assert RESULTS.read_bytes() == before
    assert capsys.readouterr().out == ""
