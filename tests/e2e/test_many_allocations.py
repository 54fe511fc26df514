"""A thousand allocations against a server that answers 30 % of all updates with 504, half of them applied.

With --tier=all also five thousand. Two real processes and real files, checked against the log of the server.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from allocsync.api import json_codec
from allocsync.model.cloud import Cloud, field_value
from allocsync.reference_server.sample import sample_clouds
from tests.support import server_log_oracle

FILES, SETTLE_SECONDS = 20, 5.0
DEADLINE_SECONDS = 240.0
FAULTS = {
    "seed": 11,
    "update": {"timeout_before": 0.15, "timeout_after": 0.12, "timeout_late": 0.03, "late_seconds": 2},
}
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("ALLOCSYNC_")}


@contextmanager
def running(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:  # noqa: ANN401 - Popen's own
    """A real allocsync process, ended by SIGTERM."""
    command = [sys.executable, "-m", "allocsync", *arguments]
    with subprocess.Popen(command, env=CLEAN, text=True, **options) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def get(url: str) -> Any:  # noqa: ANN401 - JSON of any shape
    """Return the JSON of a page."""
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - a URL of this test's own
        return json.load(answer)


def first_line(process: subprocess.Popen[str]) -> str:
    """Return the first line that a process prints."""
    assert process.stdout is not None
    return process.stdout.readline()


def declare(directory: Path, clouds: list[Cloud]) -> dict[str, dict[str, str]]:
    """Write a desired state in several files, a third of it different; returns the declared fields by id."""
    directory.mkdir()
    declared: dict[str, dict[str, str]] = {}
    for index, cloud in enumerate(clouds):
        region = "mars-north1" if index % 3 == 0 else str(field_value(cloud, "region"))
        declared[str(cloud["id"])] = {"region": region, "version": str(field_value(cloud, "version"))}
    ids = sorted(declared)
    for number in range(FILES):
        lines = ["apiVersion: allocsync/v1", "allocations:"]
        for key in ids[number::FILES]:
            lines += [f"  {key}:", *(f"    {name}: {value}" for name, value in declared[key].items())]
        (directory / f"{number:02}.yaml").write_text("\n".join(lines) + "\n")
    return declared


def unmanaged_hash(cloud: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that allocsync must not change."""
    return {name: value for name, value in cloud.items() if name not in ("region", "updated")}


@pytest.mark.parametrize("number", [1_000, pytest.param(5_000, marks=pytest.mark.slow)])
def test_thousands_of_allocations_become_in_sync_without_a_needless_update(
    tmp_path: Path, number: int
) -> None:
    clouds = sample_clouds(number, 3)
    seed = tmp_path / "seed.json"
    seed.write_bytes(json_codec.dumps({"iterable": clouds}))
    declared = declare(tmp_path / "desired", clouds)
    log = tmp_path / "log.jsonl"
    server_options = ["serve", "--seed", str(seed), "--log", str(log), "--log-all"]
    server_options += ["--faults", json.dumps(FAULTS)]
    with running(*server_options, stdout=subprocess.PIPE) as server:
        url = first_line(server).split()[2]
        settings = ["--api-url", url, "--desired", str(tmp_path / "desired"), "--listen", "127.0.0.1:0"]
        settings += ["--state-dir", str(tmp_path / "state")]
        settings += [
            "--settle-seconds",
            str(SETTLE_SECONDS),
            "--resync-seconds",
            "15",
            "--log-format",
            "json",
        ]
        said = tmp_path / "daemon.log"
        with said.open("w") as stderr, running("run", *settings, stderr=stderr):
            listening = wait_for(lambda: find_event(said, "listening"))
            address = f"http://{listening['host']}:{listening['port']}"
            status = wait_for_all_in_sync(f"{address}/api/v1/status", number)
        assert status["conditions"]["InSync"] == number
        live = {row["id"]: row for row in get(f"{url}/allocations")["iterable"]}
    records = server_log_oracle.read_log(log)
    truth = {str(cloud["id"]): json.loads(json_codec.dumps(cloud)) for cloud in clouds}
    finding = server_log_oracle.judge(records, truth, declared, settle_seconds=SETTLE_SECONDS)
    drifted = sum(fields["region"] == "mars-north1" for fields in declared.values())
    assert all(live[key]["region"] == fields["region"] for key, fields in declared.items())
    assert all(unmanaged_hash(live[key]) == unmanaged_hash(truth[key]) for key in declared)
    assert finding.posts >= drifted
    assert set(finding.faults) == {"update.timeout_before", "update.timeout_after", "update.timeout_late"}
    assert sum(finding.faults.values()) > drifted / 5
    assert finding.avoidable_needless == []
    assert finding.avoidable_duplicates == []
    assert finding.blind == []
    assert finding.at_once == []


def find_event(log: Path, event: str) -> Any:  # noqa: ANN401 - JSON of any shape
    """Return the first log line with this event, or None."""
    lines = (json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n"))
    return next((line for line in lines if line["event"] == event), None)


def wait_for(probe: Callable[[], Any], seconds: float = 20.0) -> Any:  # noqa: ANN401 - whatever is waited for
    """Call `probe` until its result is true, and return the result."""
    end = time.monotonic() + seconds
    while not (found := probe()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)  # until the deadline above
    return found


def wait_for_all_in_sync(url: str, number: int) -> Any:  # noqa: ANN401 - JSON of any shape
    """Return the first status with all `number` in sync, or the last one before the deadline."""
    end = time.monotonic() + DEADLINE_SECONDS
    while True:
        status = get(url)
        if status["conditions"]["InSync"] == number or time.monotonic() > end:
            return status
        time.sleep(0.5)  # until the deadline above
