"""Real processes for end-to-end tests: started on ephemeral loopback ports, and ended in any case."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from allocsync.api import json_codec
from allocsync.model.cloud import Cloud

T = TypeVar("T")
PROGRAM = (sys.executable, "-m", "allocsync")
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("ALLOCSYNC_")}


async def eventually(probe: Callable[[], T], seconds: float = 20.0) -> T:
    """Call `probe` until its result is true, and return the result; TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not (found := probe()):
            await asyncio.sleep(0.02)
        return found


async def command(
    *arguments: str, environ: Mapping[str, str] | None = None, within: Sequence[str] = ()
) -> tuple[int, str, str]:
    """Run allocsync to its end; returns the exit code, standard output and standard error."""
    process = await start(*arguments, environ=environ, within=within, stdout=PIPE, stderr=PIPE)
    try:
        stdout, stderr = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, stdout.decode(), stderr.decode()


async def start(
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    within: Sequence[str] = (),
    program: Sequence[str] = PROGRAM,
    stdout: Any = None,  # noqa: ANN401 - whatever subprocesses accept
    stderr: Any = None,  # noqa: ANN401 - as stdout
) -> Process:
    """Start allocsync, with a state directory of its own unless the environment names one.

    `within` is a command line that runs another one; `program` replaces allocsync. There is no change
    limit, because most tests edit all allocations at once; a test sets ALLOCSYNC_MAX_CHANGES_PERCENT to ''
    for the default.
    """
    own = {
        "ALLOCSYNC_STATE_DIR": str(Path(tempfile.mkdtemp()) / "state"),
        "ALLOCSYNC_MAX_CHANGES_PERCENT": "100",
    }
    line = (*within, *program, *arguments)
    return await asyncio.create_subprocess_exec(
        *line, env={**CLEAN, **own, **(environ or {})}, stdout=stdout, stderr=stderr
    )


@dataclass
class Daemon:
    """A running daemon: its process, its log file and its URL."""

    process: Process
    log: Path
    url: str = ""

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log lines with this event."""
        lines = self.log.read_text().splitlines(keepends=True)
        # Only lines that contain the name are decoded: benchmarks call this often, and their logs are long.
        rows = [json.loads(line) for line in lines if line.endswith("\n") and f'"{name}"' in line]
        return [row for row in rows if row["event"] == name]

    async def get(self, path: str) -> tuple[int, str]:
        """Read one of its pages; returns the HTTP status and the text."""
        async with aiohttp.ClientSession() as http, http.get(self.url + path) as answer:
            return answer.status, await answer.text()

    async def post(self, path: str, token: str | None = None) -> tuple[int, str]:
        """Send it a command; returns the HTTP status and the text of the answer."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.post(self.url + path) as answer,
        ):
            return answer.status, await answer.text()

    async def in_sync(self, number: int, seconds: float = 30.0) -> None:
        """Wait until it reports so many allocations InSync."""
        async with asyncio.timeout(seconds):
            while json.loads((await self.get("/api/v1/status"))[1])["conditions"]["InSync"] != number:
                await asyncio.sleep(0.05)

    async def metric(self, name: str) -> float:
        """Return the value of one series of /metrics."""
        text = (await self.get("/metrics"))[1]
        line = next(line for line in text.splitlines() if line.startswith(name + " "))
        return float(line.rpartition(" ")[2])


@asynccontextmanager
async def daemon(
    api_url: str,
    desired: Path,
    log: Path,
    *more: str,
    environ: Mapping[str, str] | None = None,
    within: Sequence[str] = (),
    program: Sequence[str] = PROGRAM,
) -> AsyncIterator[Daemon]:
    """Run the daemon until the context ends."""
    settings = ("--api-url", api_url, "--desired", str(desired), "--listen", "127.0.0.1:0")
    with log.open("w") as stderr:
        process = await start(
            *("run", *settings, "--log-format", "json", *more),
            environ=environ,
            within=within,
            program=program,
            stderr=stderr,
        )
    running = Daemon(process, log)
    try:
        listening = (await eventually(lambda: running.events("listening")))[0]
        running.url = f"http://{listening['host']}:{listening['port']}"
        yield running
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 30)
            except TimeoutError:
                process.kill()
                await process.wait()


def declare(path: Path, clouds: list[Cloud], **fields: str) -> None:
    """Replace the file by one that declares these fields for all of the clouds."""
    rows = "".join(
        f"  {cloud['id']}:\n" + "".join(f"    {name}: {value}\n" for name, value in fields.items())
        for cloud in clouds
    )
    beside = path.with_name("." + path.name)
    beside.write_text(f"apiVersion: allocsync/v1\nallocations:\n{rows}")
    beside.replace(path)


def seed(path: Path, clouds: list[Cloud]) -> Path:
    """Write a seed file for `allocsync serve`."""
    path.write_bytes(json_codec.dumps({"iterable": clouds}))
    return path
