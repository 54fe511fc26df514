"""Each panel of the dashboard shows data of a real daemon, by a real Prometheus with the shipped rules."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.packaging.conftest import ROOT, require
from tests.support.processes import daemon, declare
from tests.support.prometheus import Prometheus, prometheus

DASHBOARD = ROOT / "deploy" / "grafana" / "allocsync.json"
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
CLOUDS = sample_clouds(12, 5)
# Half of the updates are answered 504, some of them after they were applied.
FAULTS = {"update": {"timeout_after": 0.3, "timeout_before": 0.2}}
VARIABLES = {"$job": "allocsync", "$instance": ".*", "$__rate_interval": "10s"}


def panels() -> Iterator[dict[str, Any]]:
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        if panel["type"] != "row":
            yield panel


def expressions() -> Iterator[tuple[str, str]]:
    """The title of each panel with each of its expressions, without variables."""
    for panel in panels():
        for target in panel["targets"]:
            text = target["expr"]
            for name, value in VARIABLES.items():
                text = text.replace(name, value)
            yield panel["title"], text


def test_the_dashboard_is_the_one_that_the_code_makes() -> None:
    command = [sys.executable, "deploy/grafana/dashboard.py"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert DASHBOARD.read_text(encoding="utf-8") == made


def test_no_two_panels_overlap_and_each_says_what_it_shows() -> None:
    taken = set()
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, panel["title"]
                taken.add((x, y))
    assert all(panel["description"].endswith(".") for panel in panels())


async def rule_health(asked: Prometheus) -> list[str]:
    groups = (await asked.ask("rules"))["groups"]
    return [str(rule["health"]) for group in groups for rule in group["rules"]]


@pytest.mark.slow
@pytest.mark.real
async def test_every_panel_and_rule_has_data_of_a_real_daemon(tmp_path: Path) -> None:
    require("prometheus")
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="mars")
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ReferenceServer.start(CLOUDS, faults=FAULTS))
        running = await stack.enter_async_context(daemon(server.url, file, tmp_path / "log"))
        target = running.url.removeprefix("http://")
        asked = await stack.enter_async_context(prometheus(tmp_path, [target], RULES))
        missing = set(expressions())
        assert len(missing) > 25
        for number in range(30):
            declare(file, CLOUDS, region=f"mars-{number}")  # so that there is always something to show
            await asyncio.sleep(2)
            for title, expression in sorted(missing):
                data = await asked.ask("query", query=expression)
                if any(row["value"][1] != "NaN" for row in data["result"]):
                    missing.remove((title, expression))
            if not missing:
                break
        assert not missing
        assert {record.get("answer") for record in server.records} & {504}, "some updates were answered 504"
        async with asyncio.timeout(90):  # a group is evaluated every 30 seconds
            while "unknown" in (health := await rule_health(asked)):
                await asyncio.sleep(1)
        assert set(health) == {"ok"}
        assert len(health) > 25
        ratio = await asked.ask("query", query="allocsync:in_sync:ratio")
        assert ratio["result"]
