"""The contenders of the storm benchmark, each a real process: allocsync's daemon as it comes, and its peers.

The rule: each gets the URL and the directory of declaration files and nothing else. Its output is read for
two things only: the failures that it reports, and that it is done.

Left out: the storms (`storm`), and judging a run (`verdict`).
"""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from tests.benchmarks.verdict import Report
from tests.support.processes import Daemon, daemon

FAILED = ("Failing", "Ignored", "Conflict", "Missing")


class Running(Protocol):
    """A contender that runs."""

    def reports(self) -> list[Report]:
        """The failures that it has reported."""

    def done(self) -> bool:
        """Whether it reports that everything is in sync."""


@dataclass(frozen=True, slots=True)
class Ours:
    """The daemon, read by its log."""

    daemon: Daemon

    def reports(self) -> list[Report]:
        """Each reported condition that is a failure."""
        return [
            Report(datetime.fromisoformat(row["ts"]).timestamp(), row["allocation"], row["after"])
            for row in self.daemon.events("condition_changed")
            if row["after"] in FAILED
        ]

    def done(self) -> bool:
        """Whether the daemon has reported that everything is in sync."""
        return bool(self.daemon.events("all_in_sync"))


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer, read by its standard output."""

    output: Path

    def reports(self) -> list[Report]:
        """Each allocation that it gave up."""
        return [
            Report(row["at"], row["id"], row["reason"]) for row in self._rows() if row["event"] == "failed"
        ]

    def done(self) -> bool:
        """Whether it has reported its end."""
        return any(row["event"] == "in_sync" for row in self._rows())

    def _rows(self) -> list[dict[str, Any]]:
        lines = self.output.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


@asynccontextmanager
async def allocsync(url: str, desired: Path, home: Path) -> AsyncIterator[Running]:
    """`allocsync run` with default settings."""
    async with daemon(url, desired, home / "daemon.jsonl") as running:
        yield Ours(running)


def peer(module: str, *flags: str) -> "Start":
    """A function that starts the peer in this module with these flags."""

    @asynccontextmanager
    async def start(url: str, desired: Path, home: Path) -> AsyncIterator[Running]:
        output = home / "output.jsonl"
        command = (sys.executable, "-m", f"tests.benchmarks.peers.{module}", url, str(desired), *flags)
        with output.open("w") as stdout:
            process = await asyncio.create_subprocess_exec(*command, stdout=stdout)
        try:
            yield Peer(output)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.wait()

    return start


Start = Callable[[str, Path, Path], AbstractAsyncContextManager[Running]]
CONTENDERS: Mapping[str, Start] = {
    "allocsync": allocsync,
    "script": peer("script"),
    "script, reads again": peer("script", "--read-again"),
    "SDK loop": peer("sdk_loop"),
}
