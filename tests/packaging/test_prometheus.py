"""The scrape configuration, judged by promtool."""

from pathlib import Path

import pytest
import yaml

from allocsync.settings.model import Settings
from tests.packaging.conftest import RealPart

pytestmark = pytest.mark.real

CONFIG = Path("deploy/prometheus/prometheus.yml")


def test_promtool_takes_the_scrape_configuration(real_part: RealPart) -> None:
    result = real_part("promtool", "check", "config", CONFIG)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "SUCCESS" in result.stdout


def test_promtool_refuses_a_spoilt_one(real_part: RealPart, root: Path, tmp_path: Path) -> None:
    spoilt = tmp_path / "prometheus.yml"
    spoilt.write_text(
        (root / CONFIG).read_text(encoding="utf-8").replace("targets:", "target:"), encoding="utf-8"
    )
    assert real_part("promtool", "check", "config", spoilt).returncode != 0


def test_it_scrapes_where_the_daemon_listens_by_default(root: Path) -> None:
    config = yaml.safe_load((root / CONFIG).read_text(encoding="utf-8"))
    targets = [each["targets"] for job in config["scrape_configs"] for each in job["static_configs"]]
    assert targets == [[Settings.model_fields["listen"].default]]
