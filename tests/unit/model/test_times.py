"""The two types of time: what they are at run time, and what mypy reports."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.model.times import (
    LONG_AGO,
    NEVER,
    Monotonic,
    WallTime,
    clock_offset_seconds,
    to_monotonic,
    to_wall_time,
)
from tests.support.documents import ROOT

BEGINNING = """
from allocsync.model.times import Monotonic, WallTime

now, later, wall = Monotonic(1.0), Monotonic(2.0), WallTime(3.0)
"""
ALLOWED = """
seconds: float = later - now
due_at: Monotonic = now + 5.0
begun: Monotonic = now - 5.0
ends_at: WallTime = wall + (later - now)
first: Monotonic = min(now, later)
stored: float = float(wall)
now < later, now == later
"""
MISTAKES = (
    "now - wall",
    "now < wall",
    "wall >= now",
    "now == wall",
    "now + later",
    "now + wall",
    "now < 5.0",
    "now == 5.0",
    "5.0 - now",
    "sorted([now, wall])",
    "first: Monotonic = min(now, wall)",
    "at: WallTime = now",
    "at: Monotonic = 5.0",
    "seconds: float = now",
    "delay_seconds: float = now + 5.0",
)

seconds = st.floats(0, 2e9)


@given(seconds, seconds, st.floats(-1e6, 1e6))
def test_a_time_moved_to_the_other_clock_is_as_far_from_its_now(wall: float, now: float, away: float) -> None:
    offset_seconds = clock_offset_seconds(WallTime(wall), Monotonic(now))
    moved = to_wall_time(Monotonic(now + away), offset_seconds)
    assert moved - WallTime(wall) == pytest.approx(away, abs=1e-5)
    assert to_monotonic(moved, offset_seconds) - Monotonic(now) == pytest.approx(away, abs=1e-5)


@given(seconds)
def test_every_time_is_between_long_ago_and_never(at: float) -> None:
    assert LONG_AGO < Monotonic(at) < NEVER


def test_a_time_is_a_plain_float_at_run_time() -> None:
    assert {type(at).__name__ for at in (Monotonic(1.5), WallTime(1.5), NEVER, LONG_AGO)} == {"float"}


@pytest.mark.slow
def test_mypy_accepts_sums_and_differences_of_one_clock_and_reports_every_mix_up(tmp_path: Path) -> None:
    begins_at = len((BEGINNING + ALLOWED).splitlines()) + 1
    # Each in a function of its own, so that one mistake does not hide the next.
    code = BEGINNING + ALLOWED + "".join(f"def f{n}() -> None: {line}\n" for n, line in enumerate(MISTAKES))
    (tmp_path / "mistakes.py").write_text(code)
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-pretty", "--no-error-summary", tmp_path / "mistakes.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    errors = [line for line in result.stdout.splitlines() if ": error: " in line]
    found = {int(line.partition("mistakes.py:")[2].partition(":")[0]) for line in errors}
    assert found == set(range(begins_at, begins_at + len(MISTAKES))), result.stdout
