"""What `systemctl status` shows of the daemon, by a real systemd that runs the shipped unit."""

import re
from collections.abc import Iterator

import pytest

from allocsync.api import json_codec
from allocsync.reference_server.sample import sample_clouds
from tests.support.systemd_machine import PROGRAM, PYTHON_ENVIRONMENT, Machine, booted, wait_until

pytestmark = [pytest.mark.real, pytest.mark.slow]

API = "127.0.0.1:1000"
CLOUDS = sample_clouds(12, 31)
FILE = "/etc/allocsync/allocations/all.yaml"
SETTINGS = f"""
api_url: http://{API}
desired: /etc/allocsync/allocations
listen: 127.0.0.1:0
"""


@pytest.fixture(name="running", scope="module")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with booted(tmp_path_factory.mktemp("machine")) as machine:
        machine.write("/etc/allocsync/allocsync.yaml", SETTINGS)
        yield machine


@pytest.fixture(name="machine")
def _machine(running: Machine) -> Iterator[Machine]:
    """The machine, on which neither the API nor the daemon runs, and the daemon has no state."""
    yield running
    running.run("systemctl", "stop", "allocsync", "api")
    running.run("rm", "-r", "/var/lib/private/allocsync")


@pytest.fixture(name="started")
def _started(machine: Machine) -> Machine:
    """The machine, with the API and the daemon running, and everything in sync."""
    machine.write(FILE, declared("mars"))
    start_api(machine)
    machine.systemctl("start", "allocsync")
    wait_for_status(machine, r"12 of 12 in sync")
    return machine


def declared(region: str) -> str:
    rows = "".join(f"  {key}: {{region: {region}}}\n" for key in (cloud["id"] for cloud in CLOUDS))
    return f"apiVersion: allocsync/v1\nallocations:\n{rows}"


def start_api(machine: Machine) -> None:
    seed = "/etc/allocsync/seed.json"
    machine.write(seed, json_codec.dumps({"iterable": CLOUDS}).decode())
    serve = (*PROGRAM.split(), "serve", "--listen", API, "--seed", seed)
    environ = [f"--setenv={name}={value}" for name, value in PYTHON_ENVIRONMENT.items()]
    result = machine.run("systemd-run", "--unit=api", "--collect", *environ, *serve)
    assert result.returncode == 0, result.stderr


def wait_for_status(machine: Machine, pattern: str, seconds: float = 20.0) -> None:
    """Wait until the whole status text matches."""
    found = ""

    def matches() -> bool:
        nonlocal found
        found = machine.status_text()
        return re.fullmatch(pattern, found) is not None

    try:
        wait_until(matches, seconds)
    except AssertionError:
        pytest.fail(f"{found!r} does not become {pattern!r}")


def test_an_api_that_is_killed_is_told_and_that_it_is_back(started: Machine) -> None:
    started.systemctl("kill", "--signal=KILL", "api")
    since = r"API unreachable since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    wait_for_status(started, rf"{since}; 12 of 12 in sync when last confirmed", seconds=35.0)
    assert started.systemctl("is-active", "allocsync") == "active"
    assert 'Status: "API unreachable since ' in started.systemctl("status", "--no-pager", "allocsync")
    start_api(started)
    wait_for_status(started, r"\d+ of 12 in sync.*", seconds=20.0)


def test_a_revision_that_awaits_approval_is_told(started: Machine) -> None:
    started.write(FILE, declared("jupiter"))
    wait_for_status(started, r"revision [0-9a-f]{8} awaits approval; 0 of 12 in sync \(12 AwaitingApproval\)")


def test_a_file_with_errors_is_told_while_the_last_revision_stays_active(started: Machine) -> None:
    started.write(FILE, declared("mars") + "\t")
    wait_for_status(started, r"files rejected; 12 of 12 in sync")
    started.write(FILE, declared("mars"))
    wait_for_status(started, r"12 of 12 in sync")


def test_a_file_with_errors_at_the_start_is_told_and_not_as_nothing_declared(machine: Machine) -> None:
    machine.write(FILE, declared("mars") + "\t")
    start_api(machine)
    machine.systemctl("start", "--no-block", "allocsync")
    wait_for_status(machine, r"files rejected")
    machine.write(FILE, declared("mars"))
    wait_for_status(machine, r"12 of 12 in sync")
