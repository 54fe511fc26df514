"""The script `.ci/run`."""

import pytest

from tests.packaging.conftest import RunProgram


@pytest.mark.real
def test_shellcheck_reports_no_problem(run_program: RunProgram) -> None:
    result = run_program("shellcheck", "--enable=all", "--exclude=SC2312", ".ci/run")
    assert (result.returncode, result.stdout) == (0, "")
