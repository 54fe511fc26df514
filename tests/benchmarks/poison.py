"""Measures how long edits of healthy allocations take beside poison ones, whose updates hang for 30 s.

Two daemons run one after the other, each from a cold start with a server of its own. All allocations have
drifted; for the second daemon, every fiftieth is poison. `cold` is the time from the start of the process
until the server has applied each healthy update, by its log. `later` is the same from an edit of some healthy
ones, every three seconds. The result is the ratio of the 99th percentiles.

Left out: poison reads, and poison updates that are applied (`storm`).
"""

import asyncio
import math
import random
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from allocsync.model.cloud import Cloud
from tests.benchmarks.storm import REGION, LogTail, declare, drifted, rewrite
from tests.support import server_log_oracle
from tests.support.processes import CLEAN, daemon, seed

EVERY, HANGS_SECONDS = 50, 30.0
EDITS, EDITED, BETWEEN_SECONDS = 20, 12, 3.0
GIVE_UP_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Latencies:
    """Sorted seconds of healthy updates, the number of hanging updates, and of missing healthy ones.

    For a missing update the time waited counts.
    """

    cold: Sequence[float]
    later: Sequence[float]
    strikes: int
    unfinished: int = 0


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of sorted values; `share` is between 0 and 1."""
    return values[max(0, math.ceil(share * len(values)) - 1)]


@asynccontextmanager
async def poisoned_server(
    home: Path, clouds: list[Cloud], poison: Sequence[str], hangs_seconds: float
) -> AsyncIterator[str]:
    """Run `poisoned` as a process, and yield its URL."""
    (home / "poison").write_text("\n".join(poison))
    command = (sys.executable, "-m", "tests.benchmarks.poisoned", str(seed(home / "seed.json", clouds)))
    process = await asyncio.create_subprocess_exec(
        *(*command, str(home / "log.jsonl"), str(home / "poison"), str(hangs_seconds)),
        env=CLEAN,
        stdout=PIPE,
    )
    try:
        assert process.stdout is not None
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.terminate()
        await process.wait()


async def latencies(
    number: int, *, poison: bool, edits: int = EDITS, hangs_seconds: float = HANGS_SECONDS
) -> Latencies:
    """Measure one daemon from its start."""
    clouds, declared = drifted(number)
    bad = sorted(declared)[::EVERY] if poison else []
    healthy = {key: fields for key, fields in declared.items() if key not in bad}
    edited: dict[tuple[str, str], float] = {}
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        declare(home / "desired", declared)
        tail = LogTail(
            home / "log.jsonl", [cloud for cloud in clouds if str(cloud["id"]) in healthy], healthy
        )
        async with poisoned_server(home, clouds, bad, hangs_seconds) as url:
            begun = time.time()
            async with daemon(url, home / "desired", home / "daemon.jsonl"):
                await _healthy_applied(tail)
                rng = random.Random(3)
                for number_of_edit in range(edits):
                    keys = rng.sample(sorted(healthy), min(EDITED, len(healthy)))
                    for key in keys:
                        declared[key]["region"] = f"edit{number_of_edit}"
                        tail.differing.add((key, "region"))
                    edited |= {(key, f"edit{number_of_edit}"): time.time() for key in keys}
                    rewrite(home / "desired", declared, keys)
                    await asyncio.sleep(BETWEEN_SECONDS)
                await _healthy_applied(tail)
            over = time.time()
        records = server_log_oracle.read_log(home / "log.jsonl")
    applied = _applied(records)
    return Latencies(
        sorted(applied.get((key, REGION), over) - begun for key in healthy),
        sorted(applied.get(each, over) - at for each, at in edited.items()),
        sum(record["op"] == "fault" for record in records),
        len(tail.differing),
    )


def _applied(records: Sequence[server_log_oracle.Record]) -> dict[tuple[str, str], float]:
    """When each region was first applied, by allocation and region."""
    first: dict[tuple[str, str], float] = {}
    for record in records:
        if record["op"] == "update" and record["applied_at"] and "region" in record["changed"]:
            first.setdefault((record["id"], record["changed"]["region"][1]), record["applied_at"])
    return first


async def _healthy_applied(tail: LogTail) -> None:
    end = time.monotonic() + GIVE_UP_SECONDS
    while tail.read() and time.monotonic() < end:
        await asyncio.sleep(0.1)


def summary(clean: Latencies, beside: Latencies) -> dict[str, object]:
    """The figures of both daemons."""
    found: dict[str, object] = {"strikes": beside.strikes, "unfinished": beside.unfinished}
    for what, without, with_poison in (
        ("cold", clean.cold, beside.cold),
        ("later", clean.later, beside.later),
    ):
        ends = [percentile(values, 0.99) for values in (without, with_poison)]
        found[what] = {
            "p99_seconds": [round(end, 3) for end in ends],
            "median_seconds": [round(percentile(values, 0.5), 3) for values in (without, with_poison)],
            "ratio": round(ends[1] / ends[0], 2),
        }
    return found


async def measure(number: int = 1_000, edits: int = EDITS) -> dict[str, object]:
    """Measure without poison, then with it."""
    clean = await latencies(number, poison=False, edits=edits)
    beside = await latencies(number, poison=True, edits=edits)
    return {"allocations": number, "poison": len(range(0, number, EVERY)), **summary(clean, beside)}
