"""The shell scripts: `.ci/run`, those of packages and images, and the one for the programs of Kubernetes."""

from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, RunProgram

SCRIPTS = (
    ROOT / ".ci" / "run",
    ROOT / "tests" / "packaging" / "kubernetes_assets.sh",
    *sorted((ROOT / "deploy").rglob("*.sh")),
)


@pytest.mark.real
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shellcheck_reports_no_problem(run_program: RunProgram, script: Path) -> None:
    result = run_program("shellcheck", "--enable=all", "--exclude=SC2312", script)
    assert (result.returncode, result.stdout) == (0, "")
