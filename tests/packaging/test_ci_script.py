"""The script that CI runs."""

import pytest

from tests.packaging.conftest import RealPart


@pytest.mark.real
def test_shellcheck_has_nothing_to_say(real_part: RealPart) -> None:
    result = real_part("shellcheck", "--enable=all", "--exclude=SC2312", ".ci/run")
    assert (result.returncode, result.stdout) == (0, "")
