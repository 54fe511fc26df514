"""The shell scripts: `.ci/run`, and those that make base images and the programs of Kubernetes."""

import pytest

from tests.packaging.conftest import RunProgram

SCRIPTS = (".ci/run", "deploy/container/debian_base.sh", "tests/packaging/kubernetes_assets.sh")


@pytest.mark.real
@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_reports_no_problem(run_program: RunProgram, script: str) -> None:
    result = run_program("shellcheck", "--enable=all", "--exclude=SC2312", script)
    assert (result.returncode, result.stdout) == (0, "")
