"""What the documents show of `storm_results.json`: tables of figures, and requests per second as charts.

The rule: the tables show what the file says, with its own numbers of allocations and seconds. The scale of a
chart is logarithmic and the same for all its lines, since peers differ by orders of magnitude.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("storm_results.json")
COLUMNS = 60
BARS = " ▁▂▃▄▅▆▇█"
Row = Mapping[str, Any]


def _part(name: str) -> Row:
    found: Row = json.loads(RESULTS.read_text(encoding="utf-8"))[name]
    return found


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _when(part: Row) -> str:
    return f"{part['date']}, commit {part['commit']}, Python {part['python']}, {part['cores']} cores"


def storms() -> str:
    """The table of each storm over each contender."""
    part = _part("storms")
    head = (
        *("504s", "", "needless, avoidable (all)", "duplicates, avoidable (all)", "sent ÷ needed"),
        *("÷ clairvoyant", "false failure reports (all)", "fields lost", "in sync after"),
        "requests in the next second (most)",
    )
    rows = (
        (
            _storm(row["storm"]),
            row["contender"],
            f"{row['avoidable_needless']:,} ({row['needless']:,})",
            f"{row['avoidable_duplicates']:,} ({row['duplicates']:,})",
            f"{row['sent'] / row['needed']:.2f}",
            f"{row['sent'] / row['clairvoyant']:.2f}",
            f"{row['false_failures']:,} ({row['failures']:,})",
            f"{row['fields_lost']:,}",
            _seconds(row["recovery_seconds"]),
            f"{row['second_after']:,} ({row['most_after']:,})",
        )
        for row in part["rows"]
    )
    what = f"{part['allocations']:,} drifted, {part['seconds']:g} s of 504s"
    return f"{_table(head, rows)}\n\n{what}, settle time {part['settle_seconds']} s: {_when(part)}."


def _storm(name: str) -> str:
    percent, _, late = name.partition(" ")
    return f"{percent} %, applied late" if late else f"{percent} %"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    if seconds == 0:
        return "before its end"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def scenes() -> str:
    """The table of the runs in virtual time."""
    part = _part("virtual")
    head = (
        *("", "", "requests until it ended", "in all", "false failure reports (all)", "in sync after"),
        "requests in the next second (most)",
    )
    rows = (
        (
            f"{_scene(row['scene'])}, {row['allocations']:,}",
            row["loop"],
            f"{row['sent_during']:,}",
            f"{row['sent']:,}",
            f"{row['false_failures']:,} ({row['failures']:,})",
            f"{row['never_in_sync']:,} never" if row["never_in_sync"] else _seconds(row["recovery_seconds"]),
            f"{row['second_after']:,} ({row['most_after']:,})",
        )
        for row in part["rows"]
    )
    return f"{_table(head, rows)}\n\n{part['date']}, commit {part['commit']}; the time is virtual."


def _scene(name: str) -> str:
    return {"overloaded": "overloaded for 30 s"}.get(name, "10 minutes of 502")


def _unfinished(row: Row) -> str:
    return f" and more: {row['unfinished']:,} were not applied yet" if row["unfinished"] else ""


def _median(values: Sequence[float]) -> float:
    return values[len(values) // 2]


_HOW = {"on": "by list", "off": "one by one"}


def edges() -> str:
    """The table of poison allocations, and of a fresh edit during a resync."""
    poison, edit = _part("poison"), _part("edit")
    rows = [
        (
            f"p99 of healthy updates {what}, {row['poison']} of {row['allocations']:,} poison",
            f"{row[name]['p99_seconds'][1]:.2f} s{_unfinished(row)}",
            f"{row[name]['p99_seconds'][0]:.2f} s without poison",
            f"{row[name]['ratio']:.2f} times that",
            "1.5 times",
        )
        for row in poison["rows"]
        for name, what in (("cold", "from a cold start"), ("later", "after an edit"))
    ]
    rows += [
        (
            f"fresh edit to its update among {row['allocations']:,}, resync {_HOW[row['bulk']]}",
            f"{_median(seconds):.1f} s",
            f"{row['load_seconds']:.1f} s to load the files alone",
            f"{_median(row['from_activation_seconds']):.2f} s once loaded; at most {seconds[-1]:.1f} s",
            "1 s",
        )
        for row in edit["rows"]
        for seconds in [row["to_the_wire_seconds"]]
    ]
    return f"{_table(('', 'measured', 'compared with', 'result', 'target'), rows)}\n\n{_when(edit)}."


def charts() -> str:
    """Requests per second in a storm in which all updates fail, and in an outage."""
    storms_, virtual = _part("storms"), _part("virtual")
    worst = max(storms_["rows"], key=lambda row: float(row["storm"].split()[0]))["storm"]
    lines = [
        chart(
            f"{_storm(worst)} of all updates end with a 504 until │",
            {row["contender"]: row["per_second"] for row in storms_["rows"] if row["storm"] == worst},
            storms_["seconds"],
        ),
        chart(
            "everything ends with a 502 until │ (virtual time)",
            {row["loop"]: row["per_second"] for row in virtual["rows"] if row["scene"] == "outage, for both"},
            next(row["ends"] for row in virtual["rows"] if row["scene"] == "outage, for both"),
        ),
    ]
    return "```text\n" + "\n\n".join(lines) + "\n```"


def chart(title: str, series: Mapping[str, Sequence[int]], ends: float) -> str:
    """A line of bars for each series; a bar is the most requests in one second of its span."""
    longest = max(map(len, series.values()))
    least = max(1, math.ceil(longest / COLUMNS))
    width = next((width for width in range(least, 4 * least) if ends % width == 0), least)
    most = max((max(each, default=0) for each in series.values()), default=0)
    mark = math.ceil(ends / width)
    names = max(map(len, series))
    lines = [f"{title}; a column: {width} s; the scale is logarithmic, up to {most:,} a second"]
    for name, each in series.items():
        spans = [max(each[start : start + width]) for start in range(0, len(each), width)]
        bars = "".join(bar(span, most) for span in spans).ljust(math.ceil(longest / width))
        lines.append(f"{name.ljust(names)}  {bars[:mark]}│{bars[mark:].rstrip()}  most {max(each):,}")
    return "\n".join(lines)


def bar(count: int, most: int) -> str:
    """One bar, on a logarithmic scale on which a single request is visible."""
    if count == 0:
        return BARS[0]
    return BARS[1 + round((len(BARS) - 2) * math.log(count) / math.log(max(2, most)))]
