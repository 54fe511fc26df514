"""The scrape configuration, checked by promtool."""

from pathlib import Path

import pytest
import yaml

from allocsync.settings.model import Settings
from tests.packaging.conftest import RunProgram

pytestmark = pytest.mark.real

CONFIG = Path("deploy/prometheus/prometheus.yml")


def test_promtool_accepts_the_scrape_configuration(run_program: RunProgram) -> None:
    result = run_program("promtool", "check", "config", CONFIG)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "SUCCESS" in result.stdout


def test_promtool_rejects_a_broken_configuration(run_program: RunProgram, root: Path, tmp_path: Path) -> None:
    broken = tmp_path / "prometheus.yml"
    broken.write_text(
        (root / CONFIG).read_text(encoding="utf-8").replace("targets:", "target:"), encoding="utf-8"
    )
    assert run_program("promtool", "check", "config", broken).returncode != 0


def test_the_target_is_the_default_address_of_the_daemon(root: Path) -> None:
    config = yaml.safe_load((root / CONFIG).read_text(encoding="utf-8"))
    targets = [each["targets"] for job in config["scrape_configs"] for each in job["static_configs"]]
    assert targets == [[Settings.model_fields["listen"].default]]
