"""Measures no-op reconciles per second beside the ceiling: `make bench` or `python -m tests.benchmarks.run`.

Everything runs against one reference server in a process of its own, over loopback, in alternating rounds, so
that a machine whose speed changes affects all alike. The result is ratios of medians. It goes to
`tests/benchmarks/results.json` with the commit and the date; `tests/benchmarks/README.md` shows that file.

Left out: storms and outages (`storm_run`). No test asserts a time.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

import aiohttp
import yaml

from allocsync.api import json_codec
from allocsync.api.client import AllocationClient
from allocsync.desired.loader import load
from allocsync.model.cloud import Cloud, field_value
from allocsync.model.desired_state import Mode, Revision
from allocsync.reconcile import events
from allocsync.reference_server.sample import sample_clouds
from allocsync.runtime.clock import SystemClock
from allocsync.runtime.wiring import READS, build_controller, open_journal
from allocsync.settings.model import Settings
from tests.benchmarks.machine import stamp

RESULTS = Path(__file__).with_name("results.json")
NUMBER, ROUNDS = 5_000, 5
Seconds = float


async def reconcile(url: str, revision: Revision, bulk: Literal["on", "off"]) -> Seconds:
    """One pass of allocsync's controller over everything, until all is in sync."""
    done = asyncio.Event()

    def observe(event: events.Event) -> None:
        if isinstance(event, events.AllInSync):
            done.set()

    clock = SystemClock()
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(bulk=bulk, state_dir=Path(directory))
        async with (
            open_journal(settings, clock) as (journal, restored),
            AllocationClient.open(url) as api,
            asyncio.TaskGroup() as group,
        ):
            loop = build_controller(
                settings, api=api, clock=clock, observer=observe, journal=journal, restored=restored
            )
            begun = time.perf_counter()
            loop.activate(revision)
            running = group.create_task(loop.run())
            await asyncio.wait_for(done.wait(), 120)
            taken = time.perf_counter() - begun
            loop.stop()
            await running
    return taken


async def bare_reads(url: str, ids: list[str]) -> Seconds:
    """The ceiling of single reads: a bare aiohttp loop with the same concurrency that compares nothing."""
    waiting = iter(ids)

    async def reader(session: aiohttp.ClientSession) -> None:
        for key in waiting:
            async with session.get(f"{url}/allocation/{key}") as answer:
                json.loads(await answer.read())

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        begun = time.perf_counter()
        await asyncio.gather(*(reader(session) for _ in range(READS)))
        return time.perf_counter() - begun


async def bare_list(url: str) -> Seconds:
    """The ceiling of lists: one request and one `json.loads`, which blocks the event loop meanwhile."""
    async with aiohttp.ClientSession() as session:
        begun = time.perf_counter()
        async with session.get(f"{url}/allocations") as answer:
            json.loads(await answer.read())
        return time.perf_counter() - begun


def declare(directory: Path, clouds: list[Cloud]) -> None:
    """Declare all clouds as they are, in 20 files."""
    for number in range(20):
        rows = "".join(
            f"  {cloud['id']}:\n"
            f"    region: {field_value(cloud, 'region')}\n"
            f"    version: '{field_value(cloud, 'version')}'\n"
            for cloud in clouds[number::20]
        )
        allocations = f"\n{rows}" if rows else " {}\n"
        (directory / f"{number:02}.yaml").write_text(f"apiVersion: allocsync/v1\nallocations:{allocations}")


def timed(work: Callable[[], object]) -> Seconds:
    """The seconds that `work` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def library_load(directory: Path) -> None:
    """Load the same files with the YAML library's own loader: no positions, no schema."""
    for file in sorted(directory.glob("*.yaml")):
        yaml.load(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - safe loaders


async def measure(number: int, rounds: int) -> dict[str, list[Seconds]]:
    """Run so many rounds of each measurement, alternating."""
    clouds = sample_clouds(number, 1)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "desired"
        directory.mkdir()
        declare(directory, clouds)
        seed = Path(name) / "seed.json"
        seed.write_bytes(json_codec.dumps({"iterable": clouds}))
        command = (sys.executable, "-m", "allocsync", "serve", "--seed", str(seed))
        server = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        try:
            assert server.stdout is not None
            url = (await server.stdout.readline()).decode().split()[2]
            return await _rounds(url, directory, [str(cloud["id"]) for cloud in clouds], rounds)
        finally:
            server.terminate()
            await server.wait()


async def _rounds(url: str, directory: Path, ids: list[str], rounds: int) -> dict[str, list[Seconds]]:
    revision = load(directory, default_mode=Mode.ENFORCE).revision
    works: dict[str, Callable[[], Awaitable[Seconds]]] = {
        "one_by_one": lambda: reconcile(url, revision, "off"),
        "bare_reads": lambda: bare_reads(url, ids),
        "bulk": lambda: reconcile(url, revision, "on"),
        "bare_list": lambda: bare_list(url),
    }
    taken: dict[str, list[Seconds]] = {name: [] for name in (*works, "load", "library_load")}
    for number in range(rounds + 1):
        for name, work in works.items():
            seconds = await work()
            if number:  # the first round warms up
                taken[name].append(seconds)
        if number:
            taken["load"].append(timed(lambda: load(directory, default_mode=Mode.ENFORCE)))
            taken["library_load"].append(timed(lambda: library_load(directory)))
    return taken


def summary(taken: dict[str, list[Seconds]], number: int) -> dict[str, object]:
    """The figures of a run, with where and when it was made."""
    median = {name: statistics.median(seconds) for name, seconds in taken.items()}
    return {
        **stamp(),
        "allocations": number,
        "rounds": len(taken["bulk"]),
        "per_second": {name: round(number / seconds) for name, seconds in median.items()},
        "range_per_second": {
            name: [round(number / max(seconds)), round(number / min(seconds))]
            for name, seconds in taken.items()
        },
        "ratio_to_ceiling": {
            "one_by_one": round(median["bare_reads"] / median["one_by_one"], 2),
            "bulk": round(median["bare_list"] / median["bulk"], 2),
            "load": round(median["library_load"] / median["load"], 2),
        },
    }


def main() -> None:
    """Measure, store the results and print them."""
    result = summary(asyncio.run(measure(NUMBER, ROUNDS)), NUMBER)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))  # noqa: T201 - a command's output


if __name__ == "__main__":
    main()
