"""A machine of its own for a test, with a real systemd as its PID 1 that runs the shipped unit.

It is a systemd-nspawn container whose root is an overlay of this machine's root, so that nothing is installed
and nothing outside is changed: what is written there is kept in memory and goes with the machine. It has a
network of its own with nothing but loopback. There is one at a time: machines of two test processes would
have the same control groups.
"""

import fcntl
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, require

PROGRAMS = ("mount", "nsenter", "systemd-analyze", "systemd-nspawn", "unshare")
BOOT_SECONDS = 60.0
# The last argument goes to systemd: no login, no network, no services of this machine.
BOOT = """
set -e
mount -t tmpfs -o mode=755 tmpfs "$0"
mkdir "$0/upper" "$0/work" "$0/root"
mount -t overlay -o "lowerdir=/,upperdir=$0/upper,workdir=$0/work" overlay "$0/root"
exec systemd-nspawn --quiet --directory="$0/root" --machine="allocsync-test-$$" --register=no --keep-unit \
  --private-network --link-journal=no --console=pipe --boot "$@" -- systemd.unit=basic.target
"""
PYTHON_ENVIRONMENT = {
    "PYTHONPATH": "/opt/allocsync:/opt/packages",
    "PYTHONDONTWRITEBYTECODE": "1",
    "LD_LIBRARY_PATH": "/opt/python/lib",  # a Python that is built with a shared library names its old place
}
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAM = f"/opt/python/bin/python{sys.version_info.major}.{sys.version_info.minor} -m allocsync"
DROP_IN = f"""[Service]
Environment={" ".join(f"{name}={value}" for name, value in PYTHON_ENVIRONMENT.items())}
ExecStart=
ExecStart={PROGRAM} --config /etc/allocsync/allocsync.yaml run
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A running machine; `pid` is its systemd as this machine sees it."""

    pid: int

    def run(self, *line: str) -> subprocess.CompletedProcess[str]:
        """Run a program on the machine to its end."""
        within = ("nsenter", f"--target={self.pid}", "--all", "--wdns=/")
        return subprocess.run(
            [*within, *line], env={"PATH": PATH}, capture_output=True, text=True, timeout=60, check=False
        )

    def systemctl(self, *arguments: str) -> str:
        """Run systemctl, which must succeed, and return what it prints."""
        result = self.run("systemctl", *arguments)
        assert result.returncode == 0, f"{arguments}: {result.stderr}{self.journal()}"
        return result.stdout.strip()

    def journal(self) -> str:
        """Return the last lines of the journal."""
        return self.run("journalctl", "--no-pager", "--lines=30").stdout

    def status_text(self) -> str:
        """Return what `systemctl status allocsync` shows as its status."""
        return self.systemctl("show", "allocsync", "--property=StatusText", "--value")

    def write(self, path: str, text: str) -> None:
        """Write a file of the machine, as an editor does: beside it, and then in its place."""
        file = Path(f"/proc/{self.pid}/root{path}")
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(f".{file.name}.new")
        beside.write_text(text, encoding="utf-8")
        beside.replace(file)


def wait_until(probe: Callable[[], object], seconds: float) -> None:
    """Wait until this is true; fails with its last value after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := probe()):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


@contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other test process has a machine."""
    with Path(tempfile.gettempdir(), "allocsync-test-machine.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def booted(directory: Path) -> Iterator[Machine]:
    """Boot a machine with the shipped unit installed, and power it off; skips the test where that fails."""
    for program in PROGRAMS:
        require(program)
    if os.geteuid() != 0:
        pytest.skip("only root can boot systemd in a container; to have it: run the tests as root")
    shared = {
        ROOT: "/opt/allocsync",
        sysconfig.get_paths()["purelib"]: "/opt/packages",
        sys.base_prefix: "/opt/python",
    }
    binds = [f"--bind-ro={outside}:{inside}" for outside, inside in shared.items()]
    line = ["unshare", "--mount", "--propagation=private", "sh", "-c", BOOT, str(directory), *binds]
    log = directory.with_suffix(".log")
    with _alone(), log.open("w") as output:
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            machine = _wait_for_boot(process, log)
            unit = (ROOT / "systemd/allocsync.service").read_text(encoding="utf-8")
            machine.write("/etc/systemd/system/allocsync.service", unit)
            machine.write("/etc/systemd/system/allocsync.service.d/test.conf", DROP_IN)
            machine.systemctl("daemon-reload")
            yield machine
            os.kill(machine.pid, signal.SIGRTMIN + 4)  # power off
            process.wait(30)
        finally:
            process.kill()
            process.wait()


def _wait_for_boot(process: subprocess.Popen[bytes], log: Path) -> Machine:
    deadline = time.monotonic() + BOOT_SECONDS
    state = ""
    while time.monotonic() < deadline and process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii")
        for pid in map(int, children.split()):
            state = Machine(pid).run("systemctl", "is-system-running").stdout.strip()
            if state in {"running", "degraded"}:
                return Machine(pid)
        time.sleep(0.1)
    pytest.skip(
        f"systemd cannot be booted in a container here ({state} {log.read_text(encoding='utf-8').strip()}); "
        "to have it: run the tests as root where file systems can be mounted"
    )
