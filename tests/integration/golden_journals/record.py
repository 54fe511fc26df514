"""Record golden journals: one small file for each, and the time of the recording.

    python -m tests.integration.golden_journals.record DIRECTORY [NAME …]

The rule: a committed journal is never recorded again. Only a journal from an earlier version of the code
proves that the current version reads it. Record a journal for a new scenario, or for a new journal format in
addition to the old one.

Left out: what is recorded (`scenarios`), and what must be restored from it (`test_golden_journals`).
"""

import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

from allocsync.journal.database import NAME
from allocsync.model.times import WallTime
from tests.integration.golden_journals.process import World
from tests.integration.golden_journals.rules import rules_of
from tests.integration.golden_journals.scenarios import SCENARIOS
from tests.simulation.engine.virtual_time import run

RECORDED_AT = "recorded_at.json"  # the wall clock at the end of each recording


def record(name: str, to: Path) -> WallTime:
    """Record the journal with this name; returns the wall clock at its end."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory), rules_of(name))

        async def recorded() -> WallTime:
            await SCENARIOS[name](world)
            return world.wall()

        ended_at = run(recorded(), random.Random(1))
        # The last connection to close has merged the write-ahead log into the file.
        left = {part.name for part in Path(directory).glob(f"{NAME}-*")}
        if left:
            raise RuntimeError(f"{name}: {', '.join(sorted(left))} is left beside the journal")
        shutil.copyfile(Path(directory) / NAME, to / f"{name}.db")
    return ended_at


def main(arguments: list[str]) -> int:
    """Record the journals that the arguments name. Returns the exit code."""
    if not arguments:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    to, names = Path(arguments[0]), arguments[1:] or list(SCENARIOS)
    to.mkdir(parents=True, exist_ok=True)
    note = to / RECORDED_AT
    recorded_at: dict[str, float] = json.loads(note.read_text()) if note.exists() else {}
    for name in names:
        recorded_at[name] = float(record(name, to))
        sys.stdout.write(f"{name}.db, {(to / name).with_suffix('.db').stat().st_size:,} bytes\n")
    note.write_text(json.dumps(recorded_at, indent=2, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
