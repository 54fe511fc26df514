"""Generates the tables of all documents from the code: commands, settings, metrics, speed and others.

    python -m tests.architecture.tables       writes them into every document

Each table is between `<!-- table: NAME -->` and `<!-- end -->`, in the document that has this marker. The
rules: a table is made from the values that the program itself uses, so a setting without a description, a
metric without a help text or an exit code without a meaning is an error. Each table is in exactly one
document, and each marker names a table. A test compares the documents with the result.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import click
import yaml

from allocsync import errors
from allocsync.api.responses import NoResponse, Response, interpret_update
from allocsync.cli.root import allocsync
from allocsync.model.api_answers import Accepted, OutcomeUnknown, Rejected, RejectionClass
from allocsync.model.ids import AllocationId
from allocsync.reference_server.fault_config import EXAMPLES, decode_fault_config, parse_phases
from allocsync.reference_server.faults import FAULTS, Body, Effect, Fault
from allocsync.settings.model import Settings, is_secret
from allocsync.settings.sources import flag_name, variable_name
from allocsync.telemetry.metric_definitions import METRICS
from tests.architecture import package_picture
from tests.benchmarks import outage_tables, storm_tables
from tests.support.documents import ROOT, documents

RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
TESTS = ROOT / "tests"
RESULTS = TESTS / "benchmarks" / "results.json"
SOAKS = TESTS / "soak" / "results.jsonl"
KILLS = TESTS / "soak" / "kills.jsonl"
SIMULATED = TESTS / "simulation" / "results.jsonl"
PLANTED = TESTS / "simulation" / "bugs.jsonl"
SIMULATED_COLUMNS = (
    *("schedules", "virtual_hours", "updates", "faults", "crashes", "disk_faults", "violations"),
)

MEANINGS: Mapping[str, str] = {
    "EXIT_FINE": "success",
    "EXIT_ERROR": "error: the command failed, or only a part of it succeeded",
    "EXIT_CHANGES": "with `--detailed-exitcode`: success, and there are changes",
    "EXIT_USAGE": "the command line is wrong",
    "EXIT_CONFIGURATION": "the settings are wrong",
    "EXIT_INTERRUPTED": "interrupted (Ctrl-C), as a shell reports it; `apply` reports and exits with 1",
}


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def commands() -> str:
    """The commands, with the first line of their help."""
    context = click.Context(allocsync, info_name="allocsync")
    rows = []
    for name in allocsync.list_commands(context):
        command = allocsync.get_command(context, name)
        if command is None or not command.help:
            raise ValueError(f"the command {name} has no help text")
        rows.append((f"`{_usage(command, name, context)}`", command.get_short_help_str(limit=200)))
    return _table(("command", "does"), rows)


def _usage(command: click.Command, name: str, context: click.Context) -> str:
    pieces = command.collect_usage_pieces(click.Context(command, info_name=name, parent=context))
    return " ".join([name, *(piece for piece in pieces if piece != "[OPTIONS]")])


def exit_codes() -> str:
    """The exit codes, by number."""
    codes = {name: getattr(errors, name) for name in dir(errors) if name.startswith("EXIT_")}
    if codes.keys() != MEANINGS.keys():
        raise ValueError(f"exit codes without a meaning, or the reverse: {codes.keys() ^ MEANINGS.keys()}")
    rows = sorted((code, MEANINGS[name]) for name, code in codes.items())
    return _table(("exit code", "means"), ((str(code), meaning) for code, meaning in rows))


def setting_table() -> str:
    """The settings, with their names in the file, in the environment and as a flag."""
    rows = []
    for name, field in Settings.model_fields.items():
        if not field.description:
            raise ValueError(f"the setting {name} has no description")
        flag = "no" if is_secret(name) else f"`{flag_name(name)}`"
        default = "" if field.default is None else f"`{field.default}`"
        rows.append((f"`{name}`", f"`{variable_name(name)}`", flag, default, field.description))
    return _table(("setting", "environment", "flag", "default", "what it is"), rows)


def metrics() -> str:
    """The metrics, with their labels."""
    rows = (
        (f"`{row.name}`", row.kind, ", ".join(f"`{label}`" for label in row.labels), row.help)
        for row in METRICS
    )
    return _table(("metric", "kind", "labels", "what it is"), rows)


def alerts() -> str:
    """The alerts, with the sections of the runbook."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    rows = (
        (
            f"[{rule['alert']}](#{rule['alert'].lower()})",
            rule["labels"]["severity"],
            rule.get("for", "at once"),
            rule["annotations"]["description"],
        )
        for group in groups
        for rule in group["rules"]
        if "alert" in rule
    )
    return _table(("alert", "severity", "fires after", "what it means"), rows)


def speed() -> str:
    """The results of the latest `make bench`."""
    run = json.loads(RESULTS.read_text(encoding="utf-8"))
    rates, ranges, ratios = run["per_second"], run["range_per_second"], run["ratio_to_ceiling"]
    rows = (
        (
            what,
            f"{rates[ours]:,} ({_range(ranges[ours])})",
            f"{rates[peer]:,} ({_range(ranges[peer])})",
            beside,
            f"{ratios[ours]:.2f}",
        )
        for what, ours, peer, beside in (
            ("no-op reconciles, one by one", "one_by_one", "bare_reads", "a bare aiohttp loop, 64 at a time"),
            ("no-op reconciles, in bulk", "bulk", "bare_list", "one bare request and one `json.loads`"),
            ("allocations loaded from YAML", "load", "library_load", "PyYAML's own C loader, no checks"),
        )
    )
    table = _table(("per second", "allocsync", "the ceiling", "which is", "ratio"), rows)
    when = f"{run['date']}, commit {run['commit']}, Python {run['python']}, {run['cores']} cores"
    what = f"Median (range) of {run['rounds']} rounds over {run['allocations']:,} allocations"
    return f"{table}\n\n{what}: {when}."


def _range(ends: tuple[int, int]) -> str:
    return f"{ends[0]:,} to {ends[1]:,}"


def soaks() -> str:
    """The latest runs of `make soak-processes`, newest first."""
    runs = _lines(SOAKS)
    rows = (
        (
            f"{run['date']}, commit {run['commit']}, seed {run['seed']}",
            f"{run['minutes']:g}",
            f"{run['reads']:,}",
            f"{run['updates']:,}",
            f"{run['faults']:,}",
            ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in sorted(run["done"].items())),
            f"{run['resident_mib'][0]:g} → {run['resident_mib'][1]:g}",
            str(len(run["violations"])),
        )
        for run in runs[:-4:-1]
    )
    head = (
        "run",
        "minutes",
        "reads",
        "updates",
        "faults",
        "what was done",
        "MiB, early → most",
        "broken promises",
    )
    return _table(head, rows)


def kills() -> str:
    """The runs of `tests.soak.kills`: those of one commit together, newest first."""
    by_commit: dict[str, list[dict[str, Any]]] = {}
    for run in _lines(KILLS):
        by_commit.setdefault(f"{run['date']}, commit {run['commit']}", []).append(run)
    head = (
        *("run", "runs", "kills", "updates open then", "504s", "applied late", "changed by others"),
        *("in sync after at most (allowed)", "needless or duplicate, avoidable (all)", "Ignored at the end"),
        "broken promises",
    )
    return _table(head, ((name, *_killed(runs)) for name, runs in reversed(by_commit.items())))


def _killed(runs: list[dict[str, Any]]) -> Iterator[str]:
    """The columns of these runs of `tests.soak.kills`."""
    yield str(len(runs))
    yield str(sum(run["kills"] for run in runs))
    yield f"{sum(sum(run['open_at_kill']) for run in runs):,}"
    faults, updates = sum(sum(run["faults"].values()) for run in runs), sum(run["updates"] for run in runs)
    yield f"{faults:,} of {updates:,}"
    yield f"{sum(run['applied_late'] for run in runs):,}"
    yield f"{sum(run['struck'] for run in runs):,}"
    longest, allowed = (f"{each:.0f} s" for each in _slowest(runs))
    yield f"{longest} ({allowed})"
    avoidable = sum(run["needless"][1] + run["duplicates"][1] for run in runs)
    yield f"{avoidable} ({sum(run['needless'][0] + run['duplicates'][0] for run in runs)})"
    yield str(sum(run["reported"].get("Ignored", 0) for run in runs))
    yield str(sum(len(run["violations"]) for run in runs))


def _slowest(runs: list[dict[str, Any]]) -> tuple[float, float]:
    """Return how long the slowest of the runs took until everything was in sync, and the least allowed."""
    return max(run["in_sync_after_seconds"] for run in runs), min(run["allowed_seconds"] for run in runs)


def simulated() -> str:
    """The runs of `make soak`: each of the newest commit, and the sum of those before."""
    runs = _lines(SIMULATED)
    newest = runs[-1]["commit"] if runs else ""
    rows = [
        (f"{run['date']}, commit {run['commit']}", *(f"{run[name]:,}" for name in SIMULATED_COLUMNS))
        for run in [run for run in runs if run["commit"] == newest]
    ]
    if len(runs) > len(rows):
        before = [run for run in runs if run["commit"] != newest]
        sums = (sum(run[name] for run in before) for name in SIMULATED_COLUMNS)
        rows.append((f"{len(before)} runs of earlier commits", *(f"{number:,}" for number in sums)))
    return _table(("run", *(name.replace("_", " ") for name in SIMULATED_COLUMNS)), rows)


def planted() -> str:
    """How many schedules it took to find each planted bug."""
    found = _lines(PLANTED)
    rows = ((run["bug"], f"{run['schedules']:,}", run["breaks"] or "not found") for run in found)
    table = _table(("planted bug", "schedules until found", "breaks"), rows)
    measured = dict.fromkeys(f"{run['date']}, commit {run['commit']}" for run in found)
    return f"{table}\n\n{'; '.join(measured)}."


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def faults() -> str:
    """The faults of the reference server, and the outcome that allocsync sees."""
    rows = (
        (
            f"`{fault.name}`",
            ", ".join(fault.operations),
            fault.description + _PERHAPS[fault.effect],
            _made_of(fault),
        )
        for fault in FAULTS
    )
    return _table(("fault", "of", "what the server does", "what allocsync makes of it"), rows)


_PERHAPS = dict.fromkeys(Effect, "") | {Effect.PERHAPS: "; an update is applied, or not: `applied`"}
_OUTCOMES: Mapping[type, str] = {
    OutcomeUnknown: "unknown: read back before anything is sent again",
    Accepted: "accepted: read until it shows; what does not show in its time is sent once more",
}


_REJECTIONS: Mapping[RejectionClass, str] = {
    RejectionClass.NOT_NOW: "rejected, nothing was changed: sent again after a backoff, or after Retry-After",
    RejectionClass.BODY: "rejected, nothing was changed: sent again after an edit, a live change or an hour",
    RejectionClass.OTHER: "rejected, nothing was changed: sent again after a backoff of up to an hour",
}


def _made_of(fault: Fault) -> str:
    """Return the outcome, as the client classifies the answer."""
    if "update" not in fault.operations:
        return "no information: read again after a backoff"
    usable = fault.body is Body.CLOUD
    answer = Response(fault.status, chunks=(b'{"id":"a"}',) if usable else None, problem="unusable")
    gone = NoResponse("reset", sent=True)
    outcome = interpret_update(gone if fault.body is Body.RESET else answer, AllocationId("a"))
    return _REJECTIONS[outcome.kind] if isinstance(outcome, Rejected) else _OUTCOMES[type(outcome)]


def knobs() -> str:
    """The other options of the fault configuration, each with a valid example."""
    for text, _ in EXAMPLES:
        parse_phases(decode_fault_config(text))
    return _table(("example", "what it does"), ((f"`{text}`", says) for text, says in EXAMPLES))


TABLES: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "exit codes": exit_codes,
    "settings": setting_table,
    "metrics": metrics,
    "alerts": alerts,
    "speed": speed,
    "storms": storm_tables.storms,
    "storm charts": storm_tables.charts,
    "virtual storms": storm_tables.scenes,
    "edges": storm_tables.edges,
    "outages": outage_tables.outages,
    "simulation": simulated,
    "planted bugs": planted,
    "soaks": soaks,
    "kills": kills,
    "faults": faults,
    "knobs": knobs,
    "packages": package_picture.packages,
    "reconcile packages": package_picture.reconcile_packages,
}


MARKER = re.compile(r"^<!-- table: (.*?) -->$", re.MULTILINE)
PLACE = re.compile(
    r"^(<!-- table: (\S[^\n]*?) -->)\n(?:(?!<!-- table: ).)*?^(<!-- end -->)$", re.DOTALL | re.MULTILINE
)

Texts: TypeAlias = Mapping[Path, str]


def read_documents() -> Texts:
    """Return the text of every document, by its path relative to the root."""
    return {path: (ROOT / path).read_text(encoding="utf-8") for path in documents()}


def with_tables(texts: Texts) -> dict[Path, str]:
    """Return the texts with each table in its place.

    Raises:
        ValueError: a marker names no table or has no end, or a table is in no place or in several.
    """
    problems = list(_problems(texts))
    if problems:
        raise ValueError("\n".join(problems))
    return {
        path: PLACE.sub(lambda place: f"{place[1]}\n{TABLES[place[2]]()}\n{place[3]}", text)
        for path, text in texts.items()
    }


def _problems(texts: Texts) -> Iterator[str]:
    places: dict[str, list[Path]] = {name: [] for name in TABLES}
    for path, text in texts.items():
        for name in MARKER.findall(text):
            if name in places:
                places[name].append(path)
            else:
                yield f"{path}: no table is named {name}; the tables are {', '.join(TABLES)}"
        if len(MARKER.findall(text)) != len(PLACE.findall(text)):
            yield f"{path}: a table has no <!-- end -->"
    for name, found in places.items():
        if len(found) != 1:
            where = ", ".join(map(str, found)) or "no document"
            yield f"the table {name} must be in one place; it is in {where}"


def main() -> int:
    """Write the tables into the documents."""
    before = read_documents()
    for path, text in with_tables(before).items():
        if text != before[path]:
            (ROOT / path).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
