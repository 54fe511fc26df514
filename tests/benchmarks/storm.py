"""Storms of 504s over real processes: allocsync and its peers, each alone with a server of its own.

Every allocation has drifted. For a minute, a share of all updates is answered with a 504, half of them
applied; then the faults are switched off. A run ends when the truth is as declared everywhere and the
contender reports that it is done. `verdict` judges it by the server's log.

The seed contains only numbers that Python's json can encode: a peer that reads 1e400 sends Infinity forever.

Left out: an outage of everything and a server that slows down under load (`virtual_storms`, in virtual time).
"""

import asyncio
import json
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from allocsync.api import json_codec
from allocsync.model.cloud import Cloud, NumberLiteral, field_value
from allocsync.reference_server.sample import sample_clouds
from tests.benchmarks.contenders import Running, Start
from tests.benchmarks.verdict import Case, Figures, figures
from tests.support import server_log_oracle
from tests.support.processes import seed, start

FILES, REGION = 20, "mars-north1"
GIVE_UP_SECONDS = 300.0


def failing_updates(percent: int, *, late: bool = False) -> Mapping[str, Any]:
    """Faults: `percent` of all updates end with a 504; half of these are applied, `late` up to 20 s later."""
    half = percent / 200
    applied = {"timeout_late": half, "late_seconds": [1, 20]} if late else {"timeout_after": half}
    return {"seed": percent, "update": {"timeout_before": half, **applied}}


STORMS: Mapping[str, Mapping[str, Any]] = {
    "20": failing_updates(20),
    "50": failing_updates(50),
    "90": failing_updates(90),
    "100": failing_updates(100),
    "50 late": failing_updates(50, late=True),
}


def drifted(number: int) -> tuple[list[Cloud], dict[str, dict[str, str]]]:
    """`number` clouds, and what is declared of them: another region, and the version that they have."""
    clouds: list[Cloud] = [
        {**cloud, "billing": {"plan": "pro", "quota": NumberLiteral("100"), "discount": NumberLiteral("0.1")}}
        for cloud in sample_clouds(number, 3)
    ]
    declared = {
        str(cloud["id"]): {"region": REGION, "version": str(field_value(cloud, "version"))}
        for cloud in clouds
    }
    return clouds, declared


def declare(directory: Path, declared: Mapping[str, Mapping[str, str]]) -> None:
    """Declare these fields in a few files."""
    directory.mkdir()
    rewrite(directory, declared, list(declared))


def rewrite(directory: Path, declared: Mapping[str, Mapping[str, str]], keys: Sequence[str]) -> None:
    """Rewrite the files that declare these allocations."""
    ids = sorted(declared)
    places = {key: place % FILES for place, key in enumerate(ids)}
    for number in sorted({places[key] for key in keys}):
        lines = ["apiVersion: allocsync/v1", "allocations:"]
        for key in ids[number::FILES]:
            lines += [f"  {key}:", *(f"    {name}: '{value}'" for name, value in declared[key].items())]
        beside = directory / f".{number:02}"
        beside.write_text("\n".join(lines) + "\n")
        beside.replace(directory / f"{number:02}.yaml")


@asynccontextmanager
async def reference_server(home: Path, clouds: list[Cloud], faults: Mapping[str, Any]) -> AsyncIterator[str]:
    """Run a reference server as a process that logs everything to log.jsonl, and yield its URL."""
    process = await start(
        *("serve", "--seed", str(seed(home / "seed.json", clouds))),
        *("--log", str(home / "log.jsonl"), "--log-all", "--faults", json.dumps(faults)),
        stdout=PIPE,
    )
    try:
        assert process.stdout is not None
        yield (await process.stdout.readline()).decode().split()[2]
    finally:
        process.terminate()
        await process.wait()


class LogTail:
    """The fields that still differ, by a log that is being written."""

    def __init__(self, log: Path, clouds: list[Cloud], declared: Mapping[str, Mapping[str, str]]) -> None:
        self._log = log
        self._read = 0
        self._declared = declared
        self.differing = {
            (str(cloud["id"]), name)
            for cloud in clouds
            for name, value in declared[str(cloud["id"])].items()
            if field_value(cloud, name) != value
        }

    def read(self) -> int:
        """Read the new lines. Return how many fields differ now."""
        with self._log.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text.rfind(b"\n") + 1
        self._read += whole
        for line in text[:whole].splitlines():
            if line.startswith(b'{"op":"update"') and b'"applied_at":null' not in line:
                record = json.loads(line)
                for name, (_, after) in record["changed"].items():
                    wanted = self._declared.get(record["id"], {}).get(name)
                    change = self.differing.discard if after == wanted else self.differing.add
                    if wanted is not None:
                        change((record["id"], name))
        return len(self.differing)


async def wait_until_done(running: Running, tail: LogTail, seconds: float) -> None:
    """Wait until the truth is as declared and the contender is done, or for `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and tail.read():
        await asyncio.sleep(0.25)
    while time.monotonic() < end and not running.done():
        await asyncio.sleep(0.5)


async def run_storm(
    contender: Start, faults: Mapping[str, Any], *, number: int = 5_000, seconds: float = 60.0
) -> Figures:
    """Run one contender in one storm."""
    clouds, declared = drifted(number)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        declare(home / "desired", declared)
        async with reference_server(home, clouds, faults) as url, aiohttp.ClientSession() as http:
            begun = time.time()
            async with contender(url, home / "desired", home) as running:
                await asyncio.sleep(begun + seconds - time.time())
                ended = time.time()
                await (await http.put(f"{url}/-/faults", json={})).read()
                await wait_until_done(running, LogTail(home / "log.jsonl", clouds, declared), GIVE_UP_SECONDS)
            over = time.time()
            reports = running.reports()
            async with http.get(f"{url}/allocations") as answer:
                live = {row["id"]: row for row in (await answer.json())["iterable"]}
        records = [row for row in server_log_oracle.read_log(home / "log.jsonl") if _arrived(row) <= over]
    truth = {str(cloud["id"]): json.loads(json_codec.dumps(cloud)) for cloud in clouds}
    return figures(Case(truth, declared, begun, ended), records, reports, live)


def _arrived(record: server_log_oracle.Record) -> float:
    return float(record["at"] if record["op"] == "fault" else record["received_at"])
