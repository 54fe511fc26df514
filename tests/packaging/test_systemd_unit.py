"""The systemd unit, checked by the tools of systemd."""

from configparser import RawConfigParser
from pathlib import Path

import pytest

from allocsync import errors
from tests.packaging.conftest import RunProgram, require

pytestmark = pytest.mark.real

UNIT = Path("systemd/allocsync.service")
START = "ExecStart=/usr/bin/allocsync "
EXPOSURE_TENTHS = 12  # 1.2; systemd-localed, the least exposed service of Debian's systemd, has 1.2


def _installed(unit: Path, folder: Path) -> Path:
    """Copy the unit with /bin/true as its program, because `verify` requires that the program exists."""
    require("/bin/kill")  # in ExecReload; minimal systems lack it
    text = unit.read_text(encoding="utf-8")
    assert text.count(START) == 1
    copy = folder / unit.name
    copy.write_text(text.replace(START, "ExecStart=/bin/true "), encoding="utf-8")
    return copy


def _settings(root: Path) -> RawConfigParser:
    unit = RawConfigParser(strict=False, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # keeps the case of keys
    unit.read(root / UNIT, encoding="utf-8")
    return unit


def test_systemd_reports_no_problem_in_the_unit(run_program: RunProgram, root: Path, tmp_path: Path) -> None:
    result = run_program("systemd-analyze", "verify", _installed(root / UNIT, tmp_path))
    # Exit code 0 is not enough: systemd 252 also returns it for an unknown Type=.
    assert (result.returncode, result.stderr) == (0, "")


def test_systemd_reports_a_broken_unit(run_program: RunProgram, root: Path, tmp_path: Path) -> None:
    unit = _installed(root / UNIT, tmp_path)
    unit.write_text(
        unit.read_text(encoding="utf-8").replace("Type=notify", "Type=notifies"), encoding="utf-8"
    )
    assert "notifies" in run_program("systemd-analyze", "verify", unit).stderr


def test_the_exposure_level_of_the_unit_is_low(run_program: RunProgram) -> None:
    result = run_program(
        "systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_TENTHS}", "--no-pager", UNIT
    )
    assert result.returncode == 0, result.stdout


def test_systemd_does_not_restart_after_a_mistake_in_settings_or_command_line(root: Path) -> None:
    prevented = _settings(root)["Service"]["RestartPreventExitStatus"].split()
    assert {int(code) for code in prevented} == {errors.EXIT_CONFIGURATION, errors.EXIT_USAGE}
