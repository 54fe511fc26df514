"""Runs all measurements under faults: `make bench`, or `python -m tests.benchmarks.storm_run [PART...]`.

The parts are storms, poison, edit and virtual; a part that is not named keeps its figures. They go to
`storm_results.json`, each with commit, date and machine; `tests/benchmarks/README.md` shows that file.
A run smaller than the usual one (`STORMS=50`, `--number 300`) is printed and not stored, unless `--results`
names a file.

The measurements run one after the other: contender and server have the machine to themselves.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks import fresh_edit, poison, virtual_outage
from tests.benchmarks.contenders import CONTENDERS
from tests.benchmarks.machine import stamp
from tests.benchmarks.storm import STORMS, run_storm

RESULTS = Path(__file__).with_name("storm_results.json")
SIZES = ("storms", "contenders", "number", "seconds", "among", "poison")


def storms(names: Sequence[str], contenders: Sequence[str], number: int, seconds: float) -> dict[str, object]:
    """Run each storm over each contender."""
    rows = []
    for name in names:
        for contender in contenders:
            _log(f"storm {name}: {contender}")
            found = asyncio.run(
                run_storm(CONTENDERS[contender], STORMS[name], number=number, seconds=seconds)
            )
            rows.append({"storm": name, "contender": contender, **asdict(found)})
    return {"allocations": number, "seconds": seconds, "settle_seconds": 10, "rows": rows}


def scenes() -> dict[str, object]:
    """Run the scenes in virtual time, for allocsync's controller and for the script's loop."""
    rows = []
    for name, scene in virtual_outage.SCENES.items():
        for loop in scene.loops:
            _log(f"{name}, virtual: {loop}")
            rows.append({"scene": name, "loop": loop, **virtual_outage.run_scene(scene, loop)})
    return {"rows": rows}


def edits(numbers: Sequence[int]) -> dict[str, object]:
    """Measure a fresh edit during a full resync, by single reads and by list."""
    rows = []
    for number in numbers:
        for bulk in ("off", "on"):
            _log(f"fresh edit among {number:,}, bulk {bulk}")
            rows.append(asyncio.run(fresh_edit.measure(number, bulk)))
    return {"rows": rows}


def poisoned(numbers: Sequence[int]) -> dict[str, object]:
    """Measure healthy allocations beside poison ones."""
    rows = []
    for number in numbers:
        _log(f"poison among {number:,}")
        rows.append(asyncio.run(poison.measure(number)))
    return {"rows": rows}


def _log(what: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S}  {what}\n")


def _some(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the named parts, and store the results after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="*", help="storms, poison, edit or virtual; default: all")
    parser.add_argument("--storms", type=_some, default=[*STORMS], help=", ".join(STORMS))
    parser.add_argument("--contenders", type=_some, default=[*CONTENDERS], help=", ".join(CONTENDERS))
    parser.add_argument("--number", type=int, default=5_000, help="allocations in a storm")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long a storm lasts")
    parser.add_argument("--among", type=int, nargs="+", default=[100_000], help="allocations around an edit")
    parser.add_argument(
        "--poison", type=int, nargs="+", default=[1_000, 5_000], help="allocations with poison"
    )
    parser.add_argument(
        "--results",
        type=Path,
        help="the file for the results; default: storm_results.json, for a run of the usual size",
    )
    given = parser.parse_args(arguments)
    measures: Mapping[str, Callable[[], dict[str, object]]] = {
        "storms": lambda: storms(given.storms, given.contenders, given.number, given.seconds),
        "poison": lambda: poisoned(given.poison),
        "edit": lambda: edits(given.among),
        "virtual": scenes,
    }
    usual = all(getattr(given, name) == parser.get_default(name) for name in SIZES)
    file = given.results or (RESULTS if usual else None)
    results = json.loads(file.read_text(encoding="utf-8")) if file is not None and file.exists() else {}
    for part in given.parts or measures:
        results[part] = {**stamp(), **measures[part]()}
        if file is None:
            sys.stdout.write(_text({part: results[part]}))
        else:
            file.write_text(_text(results), encoding="utf-8")


def _text(results: Mapping[str, object]) -> str:
    """One line per row of figures, since the series would fill pages otherwise."""
    lines = []
    for part, found in sorted(results.items()):
        assert isinstance(found, dict)
        head = json.dumps({name: value for name, value in found.items() if name != "rows"})[1:-1]
        rows = ",\n".join(f"  {json.dumps(row)}" for row in found["rows"])
        lines.append(f'{json.dumps(part)}: {{{head}, "rows": [\n{rows}\n]}}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    main()
