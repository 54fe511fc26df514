"""How much memory the daemon needs: `python -m tests.benchmarks.memory 5000 20000` for so many allocations.

A real daemon and a real reference server, which has a list. The figures are the largest resident set of the
process (VmHWM, MiB) after each of three steps: everything in sync, everything updated by an edit, and
everything shown by `allocsync status`.

Left out: what the reference server needs, and a desired state with more than three fields.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from allocsync.model.cloud import Cloud, field_value
from allocsync.reference_server.sample import sample_clouds
from tests.support.processes import Daemon, command, daemon
from tests.support.reference_process import serving

DEADLINE_SECONDS = 1800.0
FIELDS = ("version", "region", "project")


def _write(path: Path, clouds: list[Cloud], **changed: str) -> None:
    lines = ["apiVersion: allocsync/v1", "allocations:"]
    for cloud in clouds:
        lines.append(f"  {cloud['id']}:")
        lines += [f"    {name}: {changed.get(name, field_value(cloud, name))}" for name in FIELDS]
    beside = path.with_name("." + path.name)
    beside.write_text("\n".join(lines) + "\n", encoding="utf-8")
    beside.replace(path)


def _largest_mib(running: Daemon) -> float:
    text = Path(f"/proc/{running.process.pid}/status").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


async def _until(running: Daemon, series: str, number: int) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await running.metric(series) < number:  # not by its status, which is large and would count
            await asyncio.sleep(0.5)


async def measure(number: int) -> tuple[float, float, float]:
    """Return the largest resident set in MiB after each step, for this number of allocations."""
    clouds = sample_clouds(number, 1)
    with tempfile.TemporaryDirectory() as folder:
        desired = Path(folder) / "allocations.yaml"
        _write(desired, clouds)
        async with (
            serving(Path(folder), clouds, {}) as server,
            daemon(server.url, desired, Path(folder) / "log") as running,
        ):
            await _until(running, 'allocsync_allocations{condition="InSync"}', number)
            first = _largest_mib(running)
            _write(desired, clouds, version="9.9")
            await _until(running, 'allocsync_updates_total{outcome="accepted"}', number)
            second = _largest_mib(running)
            code, output, _ = await command("status", "--json", "--url", running.url)
            assert code == 0
            assert len(json.loads(output)["allocations"]) == number
            return first, second, _largest_mib(running)


def main() -> None:
    """Measure each number of allocations on the command line and print a table."""
    print("| allocations | in sync, MiB | all updated, MiB | all shown, MiB |\n| --- | --- | --- | --- |")  # noqa: T201
    for number in map(int, sys.argv[1:]):
        figures = " | ".join(f"{each:.0f}" for each in asyncio.run(measure(number)))
        print(f"| {number:,} | {figures} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
