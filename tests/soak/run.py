"""`make soak-processes MINUTES=n`: the real daemon and the real reference server, with faults of every kind.

From one seed, which is printed: faults come and go, the file is edited and broken, the server is killed and
comes back, and the daemon is told to reload. At the end the faults stop. Then everything must be in sync, and
the server's logs must show no two requests for one allocation at once, no update without a read since the one
before, and no changed field that is not declared. The figures go to results.jsonl.

Left out: crashes of the daemon, and a failing disk (the simulation).
"""

import argparse
import asyncio
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from allocsync.model.cloud import Cloud, field_value
from allocsync.reference_server.sample import sample_clouds
from tests.support import server_log_oracle
from tests.support.processes import Daemon, daemon, declare, seed, start

NUMBER, SETTLE_SECONDS, RESYNC_SECONDS = 200, 5.0, 10.0
LEAVES = ("region", "version")
IN_SYNC_SECONDS = 120.0
RESULTS = Path(__file__).with_name("results.jsonl")


class World:
    """The server, the file, and what was done to them."""

    def __init__(self, home: Path, rng: random.Random) -> None:
        self.home = home
        self.rng = rng
        self.done: Counter[str] = Counter()
        self.logs: list[Path] = []
        self.url = ""
        self.wanted = {"region": "us-central1", "version": "1.10"}
        self.clouds: list[Cloud] = sample_clouds(NUMBER, rng.randrange(10**6))
        self._server: Process | None = None

    @property
    def desired(self) -> Path:
        """The declaration file that the daemon watches."""
        return self.home / "allocations.yaml"

    async def serve(self) -> None:
        """Start the server, at its former address."""
        self.logs.append(self.home / f"server-{len(self.logs)}.jsonl")
        self._server = await start(
            *("serve", "--seed", str(seed(self.home / "seed.json", self.clouds))),
            *("--state", str(self.home / "state.json"), "--log", str(self.logs[-1]), "--log-all"),
            *("--listen", self.url.removeprefix("http://") or "127.0.0.1:0"),
            stdout=PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._server.stdout is not None
        self.url = (await self._server.stdout.readline()).decode().split()[2]

    async def end(self, how: signal.Signals) -> None:
        """End the server with this signal."""
        assert self._server is not None
        self._server.send_signal(how)
        await self._server.wait()

    async def set_faults(self, faults: Mapping[str, Any]) -> None:
        """Set the server's faults."""
        async with aiohttp.ClientSession() as http:
            await (await http.put(f"{self.url}/-/faults", json=faults)).read()

    async def differences_at_end(self) -> list[str]:
        """What still differs from the declaration at the end, after it has had its time."""
        end = asyncio.get_running_loop().time() + IN_SYNC_SECONDS
        while True:
            async with aiohttp.ClientSession() as http, http.get(f"{self.url}/allocations") as answer:
                live = (await answer.json())["iterable"]
            differences = [
                f"{cloud['id']}: {name} is {field_value(cloud, name)}"
                for cloud in live
                for name, value in self.wanted.items()
                if field_value(cloud, name) != value
            ]
            if not differences or asyncio.get_running_loop().time() > end:
                return differences
            await asyncio.sleep(0.5)

    # Actions.

    async def faults(self, _running: Daemon) -> None:
        """Set other shares of other faults."""
        shares = [self.rng.uniform(0, 0.15) for _ in range(5)]
        kinds = ("timeout_before", "timeout_after", "timeout_late", "reset_before", "reset_after")
        reads = {"timeout": self.rng.uniform(0, 0.2), "reset": self.rng.uniform(0, 0.2)}
        update = dict(zip(kinds, shares, strict=True))
        slow = {"latency_seconds": [0, self.rng.uniform(0, 0.3)]}
        await self.set_faults(
            {
                "seed": self.rng.randrange(10**6),
                "update": {**update, **slow, "late_seconds": 2, "timeout_seconds": 0.2},
                "snapshot": {**reads, **slow},
                "list": reads,
            }
        )

    async def edit(self, _running: Daemon) -> None:
        """Declare another value for one field of every allocation."""
        name = self.rng.choice(LEAVES)
        self.wanted[name] = f"soak-{self.done['edit']}"
        declare(self.desired, self.clouds, **self.wanted)

    async def break_file(self, _running: Daemon) -> None:
        """Write a file that does not load: nothing may change."""
        self.desired.write_text("apiVersion: allocsync/v1\nallocations: [\n")

    async def reload(self, running: Daemon) -> None:
        """Send SIGHUP to the daemon."""
        running.process.send_signal(signal.SIGHUP)

    async def kill_server(self, _running: Daemon) -> None:
        """Kill the server with SIGKILL, and start it again with what it had stored."""
        await self.end(signal.SIGKILL)
        await asyncio.sleep(self.rng.uniform(0, 3))
        await self.serve()


async def soak(minutes: float, number: int, home: Path) -> dict[str, Any]:
    """Run for so many minutes, and return the figures; what is wrong is under `violations`."""
    rng = random.Random(number)
    world = World(home, rng)
    declare(world.desired, world.clouds, **world.wanted)
    await world.serve()
    settings: tuple[str, ...] = ("--state-dir", str(home / "state"))
    settings += ("--settle-seconds", str(SETTLE_SECONDS), "--resync-seconds", str(RESYNC_SECONDS))
    violations: list[str] = []
    try:
        async with daemon(world.url, world.desired, home / "daemon.jsonl", *settings) as running:
            end = asyncio.get_running_loop().time() + minutes * 60
            actions = [world.faults, world.edit, world.break_file, world.reload, world.kill_server]
            memory = [_resident_mib(running)]
            while asyncio.get_running_loop().time() < end:
                action = rng.choice(actions)
                await action(running)
                world.done[action.__name__] += 1
                await asyncio.sleep(rng.uniform(1, 8))
                memory.append(_resident_mib(running))
            await world.set_faults({})
            world.wanted["region"] = "the-end"
            declare(world.desired, world.clouds, **world.wanted)
            violations += await world.differences_at_end()
            with suppress(TimeoutError):  # the number of open intents shows it
                await running.in_sync(NUMBER, IN_SYNC_SECONDS)
            violations += [f"logged: {line}" for line in running.events("library_message")]
            open_intents = await running.metric("allocsync_open_intents")
        violations += [f"{open_intents:g} open intents"] if open_intents else []
        violations += (
            [f"the daemon ended with {running.process.returncode}"] if running.process.returncode else []
        )
    finally:
        await world.end(signal.SIGTERM)
    finding, foreign = _judge_logs(world)
    violations += [] if finding.faults and finding.posts else ["there were no faults or no updates"]
    violations += [*finding.at_once, *finding.blind, *foreign]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "seed": number,
        "minutes": minutes,
        "updates": finding.posts,
        "reads": finding.reads,
        "faults": sum(finding.faults.values()),
        "done": dict(world.done),
        "resident_mib": [memory[len(memory) // 5], max(memory)],
        "violations": violations,
    }


def _judge_logs(world: World) -> tuple[server_log_oracle.Finding, list[str]]:
    """Judge all logs as one. Return the finding, and the changed fields that are not declared."""
    records: list[dict[str, Any]] = []
    for index, log in enumerate(world.logs):
        for record in server_log_oracle.read_log(log):
            offset = {"n": record["n"] + index * 10**6} if record.get("n") is not None else {}
            records.append({**record, **offset})
    declared = {str(cloud["id"]): dict(world.wanted) for cloud in world.clouds}
    truth = {str(cloud["id"]): cloud for cloud in world.clouds}
    foreign = [
        f"{record['id']}: {name} was changed"
        for record in records
        if record["op"] == "update"
        for name in record["changed"]
        if name not in LEAVES
    ]
    return server_log_oracle.judge(records, truth, declared, settle_seconds=SETTLE_SECONDS), foreign


def _resident_mib(running: Daemon) -> float:
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return round(int(line.split()[1]) / 1024, 1)


def _commit() -> str:
    git = shutil.which("git")
    command = [git or "git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def say(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(text + "\n")


def main() -> int:
    """Run the soak test, and print and store its figures."""
    parser = argparse.ArgumentParser(description="Run the daemon under faults of every kind.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    given = parser.parse_args()
    say(f"seed {given.seed}, {given.minutes:g} minutes")
    home = Path(tempfile.mkdtemp(prefix="allocsync-soak-"))
    figures = asyncio.run(soak(given.minutes, given.seed, home))
    say(json.dumps(figures, indent=2))
    if figures["violations"]:
        say(f"broken: {len(figures['violations'])} violations; the logs are in {home}")
        return 1
    shutil.rmtree(home)
    with RESULTS.open("a") as file:
        file.write(json.dumps(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
