"""Who is in the storm bench, each as a real process: allocsync's daemon as it comes, and its peers.

The rule: each is given the URL and the directory of files and nothing else, and what it says is read only for
two things: the failures that it reports, and that it is done.
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
    """A contender at work."""

    def reports(self) -> list[Report]:
        """The failures that it has reported."""

    def done(self) -> bool:
        """Whether it says that all is in sync."""


@dataclass(frozen=True, slots=True)
class Ours:
    """The daemon, by its log."""

    daemon: Daemon

    def reports(self) -> list[Report]:
        """Each condition that says that something is wrong."""
        return [
            Report(datetime.fromisoformat(row["ts"]).timestamp(), row["allocation"], row["after"])
            for row in self.daemon.events("condition_changed")
            if row["after"] in FAILED
        ]

    def done(self) -> bool:
        """It says so when it becomes so."""
        return bool(self.daemon.events("all_in_sync"))


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer, by what it prints."""

    said: Path

    def reports(self) -> list[Report]:
        """Each allocation that it gave up."""
        return [
            Report(row["at"], row["id"], row["reason"]) for row in self._rows() if row["event"] == "failed"
        ]

    def done(self) -> bool:
        """It says so at its end."""
        return any(row["event"] == "in_sync" for row in self._rows())

    def _rows(self) -> list[dict[str, Any]]:
        lines = self.said.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


@asynccontextmanager
async def allocsync(url: str, desired: Path, home: Path) -> AsyncIterator[Running]:
    """`allocsync run` with the settings as they come."""
    async with daemon(url, desired, home / "daemon.jsonl") as running:
        yield Ours(running)


def peer(module: str, *flags: str) -> "Start":
    """One of the peers."""

    @asynccontextmanager
    async def start(url: str, desired: Path, home: Path) -> AsyncIterator[Running]:
        said = home / "said.jsonl"
        command = (sys.executable, "-m", f"tests.bench.peers.{module}", url, str(desired), *flags)
        with said.open("w") as stdout:
            process = await asyncio.create_subprocess_exec(*command, stdout=stdout)
        try:
            yield Peer(said)
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
