"""Each alert fires when it should, after its real duration, resolves, and is silent on a good day.

The rule: the shipped rules are judged by promtool with series of an invented daemon, minute by minute. Every
series that a rule names is one of the daemon's metrics, with values that its labels have.

Left out: a real daemon behind the series.
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import yaml

from allocsync.cli.root import allocsync
from allocsync.telemetry.metric_definitions import METRICS
from tests.packaging.conftest import ROOT, RunProgram

RUNBOOK = ROOT / "deploy" / "RUNBOOK.md"
RULES = Path("deploy/prometheus/rules.yml")
LABELS = 'instance="host:9847",job="allocsync"'
MINUTES = 400  # of each series: longer than the longest window
DAY = {  # a good day: 200 allocations, of which one drifts each minute and is repaired within five seconds
    "up": "1x400",
    "allocsync_api_reachable": "1x400",
    "allocsync_stalled": "0x400",
    "allocsync_journal_writable": "1x400",
    "allocsync_desired_last_load_successful": "1x400",
    "allocsync_settings_last_reload_successful": "1x400",
    "allocsync_desired_quarantined": "0x400",
    "allocsync_revision_awaiting_approval": "0x400",
    'allocsync_allocations{condition="InSync"}': "200x400",
    'allocsync_allocations{condition="Missing"}': "0x400",
    'allocsync_allocations{condition="Ignored"}': "0x400",
    'allocsync_allocations{condition="Conflict"}': "0x400",
    'allocsync_allocations{condition="Suspended"}': "3x400",
    'allocsync_allocations{condition="Failing"}': "0x400",
    "allocsync_oldest_unconverged_timestamp_seconds": "0x400",
    'allocsync_pause_end_timestamp_seconds{scope="all"}': "0x400",
    'allocsync_updates_total{outcome="accepted",cause="drift"}': "0+1x400",
    'allocsync_updates_total{outcome="unknown",cause="drift"}': "0x400",
    'allocsync_outcomes_settled_total{outcome="stale_overwrite"}': "0x400",
    "allocsync_another_writer_suspected_total": "0x400",
    'allocsync_convergence_duration_seconds_bucket{cause="drift",le="60.0"}': "0+1x400",
    'allocsync_convergence_duration_seconds_count{cause="drift"}': "0+1x400",
}


@dataclass(frozen=True)
class Case:
    """How `series` differ from a good day from minute 60 on, and when (minutes) the alert fires."""

    alert: str
    series: dict[str, str]
    fires: tuple[int, ...]
    silent: tuple[int, ...]


def spell(calm: int, changed: str, *, minutes: int) -> str:
    """60 minutes calm, then `changed` for so many minutes, then as before."""
    return f"{calm}x59 {changed}x{minutes - 1} {calm}x{MINUTES - 60 - minutes}"


CASES = (
    Case("AllocsyncDown", {"up": spell(1, "0", minutes=30)}, (66, 85), (59, 64, 95)),
    Case("AllocsyncStalled", {"allocsync_stalled": spell(0, "1", minutes=10)}, (62, 69), (60, 72)),
    Case(
        "AllocsyncJournalUnwritable",
        {"allocsync_journal_writable": spell(1, "0", minutes=10)},
        (62, 69),
        (60, 72),
    ),
    Case(
        "AllocsyncApiUnreachable", {"allocsync_api_reachable": spell(1, "0", minutes=30)}, (66, 85), (64, 92)
    ),
    Case(
        "AllocsyncOutcomesUnknown",
        {'allocsync_updates_total{outcome="unknown",cause="drift"}': "0x59 0+2x30 60x310"},
        (80,),
        (65, 110),
    ),
    Case(
        "AllocsyncStaleOverwrite",
        {'allocsync_outcomes_settled_total{outcome="stale_overwrite"}': "0x59 1x340"},
        (62, 110),
        (58, 125),
    ),
    Case(
        "AllocsyncNotConverging",
        # Since minute 60, until minute 100.
        {"allocsync_oldest_unconverged_timestamp_seconds": spell(0, "3600", minutes=40)},
        (78, 99),
        (60, 74, 102),
    ),
    Case(
        "AllocsyncInSyncBudgetBurns",
        {'allocsync_allocations{condition="InSync"}': spell(200, "100", minutes=60)}
        | {'allocsync_allocations{condition="Failing"}': spell(0, "100", minutes=60)},
        (90,),
        (61, 399),
    ),
    Case(
        "AllocsyncConvergenceBudgetBurns",
        {
            'allocsync_convergence_duration_seconds_bucket{cause="drift",le="60.0"}': "0+1x59 60x60 60+1x280",
        },
        (90,),
        (59, 399),
    ),
    *(
        Case(
            f"Allocsync{condition}",
            {f'allocsync_allocations{{condition="{condition}"}}': spell(0, "2", minutes=60)},
            (77, 118),
            (59, 73, 122),
        )
        for condition in ("Missing", "Ignored", "Conflict")
    ),
    Case(
        "AllocsyncTwoWriters",
        {"allocsync_another_writer_suspected_total": "0x59 3x340"},
        (62, 110),
        (58, 125),
    ),
    Case(
        "AllocsyncAwaitingApproval",
        {"allocsync_revision_awaiting_approval": spell(0, "1", minutes=30)},
        (72, 88),
        (68, 92),
    ),
    Case(
        "AllocsyncPauseEnds",
        {'allocsync_pause_end_timestamp_seconds{scope="all"}': spell(0, "6000", minutes=41)},  # minute 100
        (86, 99),
        (61, 84, 102),
    ),
    Case(
        "AllocsyncFilesRejected",
        {"allocsync_desired_last_load_successful": spell(1, "0", minutes=30)},
        (66, 88),
        (64, 92),
    ),
    Case(
        "AllocsyncSettingsRejected",
        {"allocsync_settings_last_reload_successful": spell(1, "0", minutes=30)},
        (66, 88),
        (64, 92),
    ),
    Case(
        "AllocsyncEntriesQuarantined",
        {"allocsync_desired_quarantined": spell(0, "1", minutes=30)},
        (77, 88),
        (73, 92),
    ),
)


def rules(root: Path = ROOT) -> list[dict[str, object]]:
    groups = yaml.safe_load((root / RULES).read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {str(rule["alert"]): rule for rule in rules() if "alert" in rule}


def series(values: dict[str, str]) -> list[dict[str, str]]:
    """The series in promtool's form, with the labels of a target."""
    found = []
    for name, points in values.items():
        metric, _, labels = name.rstrip("}").partition("{")
        found.append({"series": f"{metric}{{{', '.join(filter(None, (labels, LABELS)))}}}", "values": points})
    return found


def judge(run_program: RunProgram, tmp_path: Path, case: Case | None) -> str:
    """Have promtool judge one day; returns what it says is wrong, empty if nothing is."""
    expected = []
    for alert in ALERTS:
        is_tested = case is not None and alert == case.alert
        silent = case.silent if case is not None and is_tested else () if case else range(0, MINUTES, 20)
        expected += [{"eval_time": f"{at}m", "alertname": alert, "exp_alerts": []} for at in silent]
    input_series = series(DAY | (case.series if case is not None else {}))
    test = {"interval": "1m", "input_series": input_series, "alert_rule_test": expected}
    file = tmp_path / "test.yml"
    text = yaml.safe_dump({"rule_files": [str(ROOT / RULES)], "evaluation_interval": "1m", "tests": [test]})
    file.write_text(text, encoding="utf-8")
    result = run_program("promtool", "test", "rules", file)
    return "" if result.returncode == 0 else result.stdout + result.stderr


def fired_at(run_program: RunProgram, tmp_path: Path, case: Case, minute: int) -> bool:
    """Whether the alert fires at that minute: promtool finds it although none is expected."""
    text = judge(run_program, tmp_path, Case(case.alert, case.series, (), (minute,)))
    return f'Labels:{{alertname="{case.alert}"' in text


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_an_alert_fires_in_time_and_resolves(case: Case, run_program: RunProgram, tmp_path: Path) -> None:
    assert judge(run_program, tmp_path, case) == ""
    for minute in case.fires:
        assert fired_at(run_program, tmp_path, case, minute), minute


@pytest.mark.real
def test_a_good_day_is_silent(run_program: RunProgram, tmp_path: Path) -> None:
    assert judge(run_program, tmp_path, None) == ""


@pytest.mark.real
def test_a_daemon_that_is_not_scraped_at_all_is_down(run_program: RunProgram, tmp_path: Path) -> None:
    case = Case("AllocsyncDown", {"up": "_x400"}, (), ())
    assert fired_at(run_program, tmp_path, case, 10)


def test_the_rules_for_the_prometheus_operator_are_the_same(root: Path) -> None:
    command = [sys.executable, "deploy/prometheus/operator_rules.py"]
    made = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert (root / "deploy/prometheus/prometheusrule.yaml").read_text(encoding="utf-8") == made
    shipped = yaml.safe_load(made)
    assert (shipped["apiVersion"], shipped["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert shipped["spec"] == yaml.safe_load((root / RULES).read_text(encoding="utf-8"))


def test_every_alert_is_tested_and_says_what_where_and_what_to_do() -> None:
    assert {case.alert for case in CASES} == ALERTS.keys()
    for name, rule in ALERTS.items():
        annotations = rule["annotations"]
        assert isinstance(annotations, dict)
        assert "$labels.instance" in annotations["summary"]
        assert annotations["description"].endswith(".")
        assert annotations["runbook_url"] == f"RUNBOOK.md#{name.lower()}"


def test_the_runbook_has_a_section_for_each_alert_and_names_commands_and_metrics_that_exist() -> None:
    text = RUNBOOK.read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == list(ALERTS)
    metrics = {metric.name for metric in METRICS}
    assert set(re.findall(r"`(allocsync_\w+)`", text)) <= metrics
    commands = re.findall(r"`allocsync ([^`]*)`", text)
    assert len(commands) > 20
    for words in map(str.split, commands):
        command = allocsync.get_command(click.Context(allocsync), words[0])
        assert command is not None, words
        command.make_context(words[0], words[1:])  # raises UsageError for what it does not know


def test_every_series_of_a_rule_is_a_metric_of_the_daemon_with_labels_that_it_has() -> None:
    known = {metric.name: metric for metric in METRICS}
    used = set()
    for rule in rules():
        for name, labels in re.findall(r"\b(allocsync_\w+)(\{[^}]*\})?", str(rule["expr"])):
            base = re.sub(r"_(bucket|count|sum)$", "", name) if name not in known else name
            assert base in known, name
            used.add(base)
            for label, values in re.findall(r'(\w+)(?:=|!=|=~|!~)"([^"]*)"', labels):
                if label != "le":
                    assert set(values.split("|")) <= set(known[base].values[label]), (name, label)
    assert len(used) > 10
