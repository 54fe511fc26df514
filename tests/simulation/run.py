"""Runs the simulation from the command line.

python -m tests.simulation.run soak --minutes 10     schedules on all cores; the figures go to results.jsonl
python -m tests.simulation.run replay SEED           one schedule as a timeline; --shrink makes it smaller
python -m tests.simulation.run bugs                  how soon each mutant is found; goes to bugs.jsonl
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.drawn_schedule import draw_schedule
from tests.simulation.engine.world import simulate
from tests.simulation.mutants.mutant import Mutant
from tests.simulation.mutants.mutants import MUTANTS
from tests.simulation.report.figures import Figures, run_on_all_cores
from tests.simulation.report.shrink import shrink
from tests.simulation.report.timeline import timeline

RESULTS = Path(__file__).with_name("results.jsonl")
MUTANT_RESULTS = Path(__file__).with_name("bugs.jsonl")
SEEDS_PER_MUTANT = 500
SEEDS = 2**40


def soak(minutes: float, first: int) -> int:
    """Run schedules for so many minutes, or until Ctrl-C or SIGTERM. Print and store the figures."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    say(f"seeds from {first} on, for {minutes:g} minutes")
    stamped, figures, begun, reported_at = stamp(), Figures(), time.monotonic(), 0.0
    with closing(run_on_all_cores(range(first, first + SEEDS))) as chunks, suppress(KeyboardInterrupt):
        for chunk in chunks:
            figures.join(chunk)
            for seed, promise, what in chunk.breaches:
                say(f"seed {seed}: {promise}: {what}")
            passed = time.monotonic() - begun
            if passed > reported_at + 60:
                reported_at = passed
                say(
                    f"{passed / 60:5.1f} min: {figures.schedules:,} schedules, {len(figures.breaches)} broken"
                )
            if passed > minutes * 60:
                break
    row = {
        **stamped,
        "first_seed": first,
        "minutes": round((time.monotonic() - begun) / 60, 1),
        **{
            each.name: getattr(figures, each.name)
            for each in fields(figures)
            if each.name not in ("breaches", "virtual_seconds", "fired")
        },
        "virtual_hours": round(figures.virtual_seconds / 3600),
        "violations": len(figures.breaches),
    }
    say(json.dumps(row, indent=2))
    say(json.dumps(dict(figures.fired.most_common()), indent=2))
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")
    if figures.breaches:
        say("python -m tests.simulation.run replay SEED shows one")
    return 1 if figures.breaches else 0


def replay(seed: int, *, shrunk: bool) -> int:
    """Print the timeline of this seed's schedule."""
    with SqliteShim() as shim:
        schedule = draw_schedule(seed)
        if shrunk:
            schedule = shrink(schedule, shim)
        outcome = simulate(schedule, shim)
    sys.stdout.write(timeline(schedule, outcome, most=10**6) + "\n")
    return 1 if outcome.breaches else 0


def schedules_until_found(
    mutant: Mutant, shim: SqliteShim, seeds: Iterable[int] = range(SEEDS_PER_MUTANT)
) -> tuple[int, str | None]:
    """How many schedules it takes until the mutant breaks a promise, and which; None if it is not found."""
    number = 0
    for number, seed in enumerate(seeds, 1):
        with mutant.planted():
            outcome = simulate(draw_schedule(seed), shim)
        if outcome.breaches:
            return number, outcome.breaches[0][0]
    return number, None


def find_mutants() -> int:
    """Plant each mutant and store how soon it was found."""
    rows = []
    with SqliteShim() as shim:
        for mutant in MUTANTS:
            number, promise = schedules_until_found(mutant, shim)
            rows.append({"bug": mutant.name, "schedules": number, "breaks": promise})
            say(json.dumps(rows[-1]))
    MUTANT_RESULTS.write_text("".join(json.dumps({**stamp(), **row}) + "\n" for row in rows))
    return 1 if any(row["breaks"] is None for row in rows) else 0


def stamp() -> dict[str, Any]:
    """The date and the commit; `+` marks uncommitted changes."""
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
    changed = [line for line in dirty.stdout.splitlines() if not line.endswith(".jsonl")]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit.stdout.strip() + "+" * bool(changed),
    }


def say(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(text + "\n")


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Run simulated schedules.")
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
        return replay(given.seed, shrunk=given.shrink)
    return find_mutants()


if __name__ == "__main__":
    sys.exit(main())
