"""The shell scripts: `.ci/run`, and those of `make deb`."""

from pathlib import Path

import pytest

from tests.packaging.conftest import RunProgram


@pytest.mark.real
def test_shellcheck_reports_no_problem(run_program: RunProgram, root: Path) -> None:
    scripts = sorted((root / "deploy").glob("*.sh"))
    assert scripts
    result = run_program("shellcheck", "--enable=all", "--exclude=SC2312", ".ci/run", *scripts)
    assert (result.returncode, result.stdout) == (0, "")
