"""The daemon raises the threshold of Python's garbage collector."""

import asyncio
import gc
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from allocsync.cli.commands.run import GC_THRESHOLD
from allocsync.cli.root import allocsync


def test_the_daemon_runs_with_a_higher_threshold_of_the_garbage_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "desired.yaml").write_text("apiVersion: allocsync/v1\nallocations: {}\n")
    found = []

    def run(coroutine: Coroutine[Any, Any, None]) -> None:
        coroutine.close()
        found.append(gc.get_threshold()[0])

    monkeypatch.setattr(asyncio, "run", run)
    before = gc.get_threshold()
    try:
        arguments = ["run", "--desired", str(tmp_path / "desired.yaml"), "--api-url", "http://127.0.0.1:1"]
        result = CliRunner().invoke(allocsync, arguments, catch_exceptions=False)
    finally:
        gc.set_threshold(*before)
    assert (found, result.exit_code) == ([GC_THRESHOLD], 0)
