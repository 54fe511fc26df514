"""What the documents show of `outage_results.json`: how soon each fault of the API is told, and work goes on.

The rule: one row for each case. The log has a column of its own, because it tells a fault of single
allocations only when requests have ended. Left out: the measuring (`outages`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("outage_results.json")
Row = Mapping[str, Any]
HEAD = (
    *("fault", "told as", "by every output after", "by the log", "`status --wait`"),
    *("work meanwhile", "after its end, work goes on", "and it is told"),
)
_TOLD = {
    "outage": "outage",
    "gone": "`Missing`",
    "one": "delayed allocations",
    "calm": "nothing, rightly",
    "start": "nothing, rightly",
}


def outages() -> str:
    """The table of all cases."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    lines = [HEAD, ("---",) * len(HEAD), *(_cells(row) for row in found["rows"])]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    what = f"{found['allocations']} allocations, default settings"
    when = f"{found['date']}, commit {found['commit']}, Python {found['python']}, {found['cores']} cores"
    return f"{table}\n\n{what}: {when}."


def _cells(row: Row) -> tuple[str, ...]:
    told = {name: seconds for name, seconds in row["told"].items() if seconds is not None and name != "all"}
    log, wait = told.pop("log", None), row.get("wait")
    return (
        row["case"],
        _TOLD[row["kind"]],
        _seconds(max(told.values(), default=None)),
        _seconds(log),
        f"exits with {wait['code']} after {_seconds(wait['seconds'])}" if wait else "",
        _meanwhile(row),
        _seconds(row.get("resumed_seconds")),
        _seconds(row.get("reachable_again_seconds")),
    )


def _meanwhile(row: Row) -> str:
    begins = "first read " if row["kind"] == "start" else "first repair "
    parts = {"an edit ": "edit_seconds", begins: "still_seconds", "the last ": "drift_seconds"}
    return ", ".join(f"{name}{_seconds(row[key])}" for name, key in parts.items() if row.get(key) is not None)


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
