"""Print what the current code finds in a golden journal, as the expected values of a new one.

    python -m tests.integration.golden_journals.show NAME …

The rule: nothing is written. Compare the printed values with the scenario before you commit them; they do not
change afterwards.

Left out: the comparison (`test_golden_journals`).
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.integration.golden_journals.reopened import found

WIDTH = 108


def lines(value: object, indent: str = "", begin: str = "") -> Iterator[str]:
    """Yield the lines of JSON; a value that fits into one line gets one. `begin` precedes the value."""
    whole = indent + begin + json.dumps(value, ensure_ascii=False)
    if len(whole) <= WIDTH or not isinstance(value, dict | list) or not value:
        yield whole
        return
    items = (
        [(f"{json.dumps(key, ensure_ascii=False)}: ", item) for key, item in value.items()]
        if isinstance(value, dict)
        else [("", item) for item in value]
    )
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    yield indent + begin + opening
    for number, (name, item) in enumerate(items, 1):
        *first, last = lines(item, indent + "  ", name)
        yield from first
        yield last + ("," if number < len(items) else "")
    yield indent + closing


def main(names: list[str]) -> int:
    """Print what is found in each journal. Returns the exit code."""
    for name in names:
        with tempfile.TemporaryDirectory() as directory:
            sys.stdout.write("\n".join(lines(found(name, Path(directory)))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
