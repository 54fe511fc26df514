"""The reference server as a process of its own, and another client that writes to it."""

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp

from allocsync.api import json_codec
from allocsync.model.cloud import Cloud
from tests.support import server_log_oracle
from tests.support.processes import seed, start


@dataclass
class Serving:
    """A running `allocsync serve`, with its URL and its log of requests."""

    process: Process
    url: str
    log: Path
    foreign: set[str] = field(default_factory=set)  # SHA-256 of the bodies that the other client has sent

    def records(self, op: str) -> list[server_log_oracle.Record]:
        """Return the log records of one kind so far."""
        lines = self.log.read_text().splitlines(keepends=True)
        rows = [json.loads(line) for line in lines if line.endswith("\n")]  # the last line may be incomplete
        return [row for row in rows if row["op"] == op]

    def updates(self) -> list[server_log_oracle.Record]:
        """Return the updates of the daemon that the server has finished, in the order of their arrival."""
        rows = [row for row in self.records("update") if row["body_sha256"] not in self.foreign]
        return sorted(rows, key=lambda row: int(row["n"]))

    async def set_faults(self, faults: Mapping[str, Any]) -> None:
        """Replace all faults by these."""
        async with aiohttp.ClientSession() as http, http.put(self.url + "/-/faults", json=faults) as answer:
            assert answer.status == 200, await answer.text()

    async def fault_count(self, name: str) -> int:
        """Return how often a fault has occurred."""
        async with aiohttp.ClientSession() as http, http.get(self.url + "/-/faults") as answer:
            return int((await answer.json())["fired"].get(name, 0))

    async def wait_for_fault(self, name: str, seconds: float = 20.0) -> None:
        """Wait until a fault has occurred."""
        async with asyncio.timeout(seconds):
            while not await self.fault_count(name):
                await asyncio.sleep(0.02)

    async def cloud(self, key: object) -> Cloud:
        """Return one cloud as the server has it."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/allocation/{key}") as answer:
            found = json_codec.loads(await answer.read())
        assert isinstance(found, dict)
        return found

    async def change(self, key: object, **fields: str) -> None:
        """Change fields of one allocation as another client does: read it, and send it as a whole."""
        body = json_codec.dumps({**await self.cloud(key), **fields})
        self.foreign.add(sha256(body).hexdigest())
        async with (
            aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as http,
            http.post(self.url + "/allocation/update", data=body) as answer,
        ):
            assert answer.status == 200, await answer.text()

    async def wait_for_lists(self, times: int, since: int | None = None) -> None:
        """Wait until the log has `times` more reads of the list than `since`, or than it has now."""
        before = len(self.records("list")) if since is None else since
        async with asyncio.timeout(30):
            while len(self.records("list")) < before + times:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def serving(directory: Path, clouds: list[Cloud], faults: Mapping[str, Any]) -> AsyncIterator[Serving]:
    """Run the reference server until the context ends, with every request in its log."""
    log = directory / "server.jsonl"
    options = ("--listen", "127.0.0.1:0", "--seed", str(seed(directory / "seed.json", clouds)))
    process = await start(
        *("serve", *options, "--log", str(log), "--log-all", "--faults", json.dumps(faults)), stdout=PIPE
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        yield Serving(process, line.decode().split()[2], log)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
