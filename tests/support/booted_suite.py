"""A Debian suite booted with its own systemd as PID 1, in a container, for tests of the package.

The rules: the root file system is made once and never written to (`deploy/suite_root.sh` says where it is
kept); what a test changes is in memory and gone with the container. The container has a network of its own:
only loopback. It ends with the context, whatever happens.

Left out: what is installed in it and what is tested.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
MAKING_SECONDS = 600  # a root file system that is not there yet
BOOT_SECONDS = 60
PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"


def wait_until(probe: Callable[[], T], seconds: float = 30.0) -> T:
    """Call `probe` until its result is true, and return the result; TimeoutError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := probe()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{probe} is not true after {seconds} s")
        time.sleep(0.1)
    return found


@dataclass(frozen=True)
class BootedSuite:
    """The running container; `leader` is the process id of its systemd, seen from outside."""

    leader: int

    def run(
        self,
        *command: str,
        check: bool = True,
        user: str = "root",
        given: str | None = None,
        seconds: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside; `given` is its standard input. With `check`, it must succeed."""
        enter = ("nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", "--wdns=/")
        as_user = () if user == "root" else ("setpriv", f"--reuid={user}", "--clear-groups")
        line = (*enter, "env", "-i", PATH, "LC_ALL=C.UTF-8", *as_user, *command)
        done = subprocess.run(
            line, cwd="/", input=given, capture_output=True, text=True, timeout=seconds, check=False
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def write(self, path: str, text: str, *, mode: str = "644") -> None:
        """Replace a file by rename, as editors do."""
        script = 'mkdir -p "${1%/*}" && cat >"$1.new" && chmod "$2" "$1.new" && mv "$1.new" "$1"'
        self.run("sh", "-c", script, "-", path, mode, given=text)

    def read(self, path: str) -> str:
        """Return the text of a file."""
        return self.run("cat", path).stdout

    def exists(self, path: str) -> bool:
        """Return whether a path, or a link there, exists."""
        return self.run("sh", "-c", 'test -e "$1" || test -L "$1"', "-", path, check=False).returncode == 0

    def shows(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", unit, "-p", name, "--value").stdout.strip()

    def journal(self, *arguments: str) -> list[dict[str, Any]]:
        """Return entries of the journal."""
        lines = self.run("journalctl", "-o", "json", "--no-pager", *arguments).stdout.splitlines()
        return [json.loads(line) for line in lines]

    def http(self, path: str, *, port: int = 9847, method: str = "GET", body: str = "") -> tuple[int, str]:
        """Request a page inside; returns the status and the body. Status 0: nothing listens."""
        script = (
            "import http.client, sys\n"
            "method, port, path, body = sys.argv[1:]\n"
            "connection = http.client.HTTPConnection('127.0.0.1', int(port), timeout=30)\n"
            "try:\n"
            "    connection.request(method, path, body or None)\n"
            "    answer = connection.getresponse()\n"
            "    print(answer.status)\n"
            "    sys.stdout.write(answer.read().decode())\n"
            "except ConnectionRefusedError:\n"
            "    print(0)\n"
        )
        said = self.run("python3", "-I", "-c", script, method, str(port), path, body).stdout
        status, _, text = said.partition("\n")
        return int(status), text


def suite_root(suite: str) -> Path:
    """Return the root file system of a suite that boots; it is made if there is none."""
    made = subprocess.run(
        ["deploy/suite_root.sh", suite, "run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=MAKING_SECONDS,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return Path(made.stdout.strip())


@contextmanager
def boot(suite: str, packages: Path) -> Iterator[BootedSuite]:
    """Boot a suite, with the directory `packages` as /opt/packages, until the context ends."""
    options = (
        *("--quiet", "--volatile=overlay", "--register=no", "--keep-unit", "--private-network"),
        *("--link-journal=no", "--console=pipe", f"--bind-ro={packages}:/opt/packages"),
        *("-M", f"allocsync-{suite}-{os.getpid()}", "-D", str(suite_root(suite)), "--boot"),
    )
    container = subprocess.Popen(
        ["systemd-nspawn", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    leader = 0
    try:
        leader = wait_until(lambda: _systemd_below(container.pid), BOOT_SECONDS)
        machine = BootedSuite(leader)
        states = {"running", "degraded"}
        wait_until(
            lambda: machine.run("systemctl", "is-system-running", check=False).stdout.strip() in states,
            BOOT_SECONDS,
        )
        yield machine
    finally:
        with suppress(ProcessLookupError):
            if leader:
                os.kill(leader, signal.SIGKILL)
        container.kill()
        container.wait()


def _systemd_below(pid: int) -> int:
    """Return the process id of the container's systemd; 0 before it runs (systemd-nspawn forks twice)."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(OSError):  # it has ended
            if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                return int(child)
    return 0
