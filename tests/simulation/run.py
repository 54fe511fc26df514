"""Runs the simulation from a shell.

python -m tests.simulation.run soak --minutes 10     schedules on all cores; the figures go to results.jsonl
python -m tests.simulation.run replay SEED           one schedule, as a timeline; --shrink makes it smaller
python -m tests.simulation.run bugs                  what each planted bug took to be found, to bugs.jsonl
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.schedule import drawn
from tests.simulation.engine.world import simulate
from tests.simulation.mutants.mutant import Mutant
from tests.simulation.mutants.mutants import MUTANTS
from tests.simulation.report.figures import Figures, run_everywhere
from tests.simulation.report.shrink import shrunk
from tests.simulation.report.timeline import timeline

RESULTS = Path(__file__).with_name("results.jsonl")
FOUND = Path(__file__).with_name("bugs.jsonl")
SEEDS_PER_MUTANT = 500
SEEDS = 2**40


def soak(minutes: float, first: int) -> int:
    """Run schedules for so long, or until Ctrl-C or SIGTERM; print the figures and keep them."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    say(f"seeds from {first} on, for {minutes:g} minutes")
    stamped, figures, begun, told = stamp(), Figures(), time.monotonic(), 0.0
    with closing(run_everywhere(range(first, first + SEEDS))) as chunks, suppress(KeyboardInterrupt):
        for chunk in chunks:
            figures.join(chunk)
            for seed, promise, what in chunk.broken:
                say(f"seed {seed}: {promise}: {what}")
            passed = time.monotonic() - begun
            if passed > told + 60:
                told = passed
                say(f"{passed / 60:5.1f} min: {figures.schedules:,} schedules, {len(figures.broken)} broken")
            if passed > minutes * 60:
                break
    row = {
        **stamped,
        "first_seed": first,
        "minutes": round((time.monotonic() - begun) / 60, 1),
        **{
            name: value
            for name, value in asdict(figures).items()
            if name not in ("broken", "virtual_seconds")
        },
        "virtual_hours": round(figures.virtual_seconds / 3600),
        "violations": len(figures.broken),
    }
    say(json.dumps(row, indent=2))
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")
    if figures.broken:
        say("python -m tests.simulation.run replay SEED shows one")
    return 1 if figures.broken else 0


def replay(seed: int, *, smaller: bool) -> int:
    """Show what happens with this seed."""
    with SqliteShim() as shim:
        schedule = drawn(seed)
        if smaller:
            schedule = shrunk(schedule, shim)
        outcome = simulate(schedule, shim)
    sys.stdout.write(timeline(schedule, outcome, most=10**6) + "\n")
    return 1 if outcome.broken else 0


def schedules_until_found(mutant: Mutant, shim: SqliteShim) -> tuple[int, str | None]:
    """How many schedules it takes until the bug breaks a promise, and which; None: it was not found."""
    for seed in range(SEEDS_PER_MUTANT):
        with mutant.planted():
            outcome = simulate(drawn(seed), shim)
        if outcome.broken:
            return seed + 1, outcome.broken[0][0]
    return SEEDS_PER_MUTANT, None


def bugs() -> int:
    """Plant each bug, and keep what it took to find it."""
    rows = []
    with SqliteShim() as shim:
        for mutant in MUTANTS:
            number, promise = schedules_until_found(mutant, shim)
            rows.append({"bug": mutant.name, "schedules": number, "breaks": promise})
            say(json.dumps(rows[-1]))
    FOUND.write_text("".join(json.dumps({**stamp(), **row}) + "\n" for row in rows))
    return 1 if any(row["breaks"] is None for row in rows) else 0


def stamp() -> dict[str, Any]:
    """When, and of which commit; a `+` says that there was more than is committed."""
    git = ("git", "-C", str(RESULTS.parent))
    commit = subprocess.run(
        [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    dirty = subprocess.run(
        [*git, "status", "--porcelain", "--", "../../allocsync", "."],
        capture_output=True,
        text=True,
        check=True,
    )
    more = [line for line in dirty.stdout.splitlines() if not line.endswith(".jsonl")]
    return {"date": datetime.now(UTC).date().isoformat(), "commit": commit.stdout.strip() + "+" * bool(more)}


def say(text: str) -> None:
    """Write to standard error, at once."""
    sys.stderr.write(text + "\n")


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Run the simulation.")
    commands = parser.add_subparsers(dest="command", required=True)
    soaks = commands.add_parser("soak")
    soaks.add_argument("--minutes", type=float, default=10.0)
    soaks.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6, 10**12))
    replays = commands.add_parser("replay")
    replays.add_argument("seed", type=int)
    replays.add_argument("--shrink", action="store_true")
    commands.add_parser("bugs")
    given = parser.parse_args()
    if given.command == "soak":
        return soak(given.minutes, given.seed)
    if given.command == "replay":
        return replay(given.seed, smaller=given.shrink)
    return bugs()


if __name__ == "__main__":
    sys.exit(main())
