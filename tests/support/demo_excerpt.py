"""Writes the excerpt of the demo in README.md from a run of the demo: `python -m tests.support.demo_excerpt`.

The rule: one run of 25 seconds printed every line of the excerpt. Of the lines between the first updates and
the end, the excerpt shows the first few read-backs; `…` is in the place of lines that are left out.
"""

import re
import subprocess
import sys
import tempfile

from tests.support.documents import ROOT

README = ROOT / "README.md"
COMMAND = "DEMO_SECONDS=25 make demo"
SECONDS = 25
BEGINNING, READ_BACKS = 9, 3  # lines
END = re.compile(r"  in sync  |  the faults stop|  stopping  |  server state: ")
PLACE = re.compile(r"(<!-- demo excerpt -->\n(?:<!-- .* -->\n)*```console\n).*?(```)", re.DOTALL)


def excerpt(printed: str) -> str:
    """Return the part of the demo's output that README.md shows."""
    lines = printed.splitlines()
    middle = [number for number, line in enumerate(lines) if number >= BEGINNING and "read back: " in line]
    shown = [*range(BEGINNING), *middle[:READ_BACKS]]
    shown += [number for number, line in enumerate(lines) if number > shown[-1] and END.search(line)]
    found = [f"$ {COMMAND}"]
    for before, number in zip([-1, *shown], shown, strict=False):
        found += ["…"] * (number > before + 1) + [lines[number]]
    return "".join(f"{line.rstrip()}\n" for line in found)


def main() -> int:
    """Run the demo and write the excerpt."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "allocsync", "demo", "--seconds", str(SECONDS)]
        printed = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True).stdout
    text, places = PLACE.subn(
        lambda place: place[1] + excerpt(printed) + place[2], README.read_text(encoding="utf-8")
    )
    if places != 1:
        sys.stderr.write(f"{README}: {places} places for the excerpt; one is needed\n")
        return 1
    README.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
