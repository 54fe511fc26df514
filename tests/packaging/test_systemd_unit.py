"""The unit, judged by systemd's own tools."""

from configparser import RawConfigParser
from pathlib import Path

import pytest

from allocsync import errors
from tests.packaging.conftest import RealPart, require

pytestmark = pytest.mark.real

UNIT = Path("systemd/allocsync.service")
START = "ExecStart=/usr/bin/allocsync "
EXPOSURE_TENTHS = 12  # 1.2; systemd-localed, the least exposed service of Debian's systemd, has 1.2


def _installed(unit: Path, folder: Path) -> Path:
    """Copy the unit with a program that exists here: `verify` looks for it, and ours is not installed."""
    require("/bin/kill")  # which ExecReload names, and minimal systems lack
    text = unit.read_text(encoding="utf-8")
    assert text.count(START) == 1
    copy = folder / unit.name
    copy.write_text(text.replace(START, "ExecStart=/bin/true "), encoding="utf-8")
    return copy


def _settings(root: Path) -> RawConfigParser:
    unit = RawConfigParser(strict=False, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # how configparser is told to keep case
    unit.read(root / UNIT, encoding="utf-8")
    return unit


def test_systemd_has_nothing_to_say_against_the_unit(real_part: RealPart, root: Path, tmp_path: Path) -> None:
    result = real_part("systemd-analyze", "verify", _installed(root / UNIT, tmp_path))
    # Exit code 0 is not enough: systemd 252 gives it for an unknown Type= too.
    assert (result.returncode, result.stderr) == (0, "")


def test_systemd_complains_about_a_spoilt_unit(real_part: RealPart, root: Path, tmp_path: Path) -> None:
    unit = _installed(root / UNIT, tmp_path)
    unit.write_text(
        unit.read_text(encoding="utf-8").replace("Type=notify", "Type=notifies"), encoding="utf-8"
    )
    assert "notifies" in real_part("systemd-analyze", "verify", unit).stderr


def test_the_unit_is_hardly_exposed(real_part: RealPart) -> None:
    result = real_part(
        "systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_TENTHS}", "--no-pager", UNIT
    )
    assert result.returncode == 0, result.stdout


def test_what_starting_again_would_not_mend_is_not_started_again(root: Path) -> None:
    prevented = _settings(root)["Service"]["RestartPreventExitStatus"].split()
    assert {int(code) for code in prevented} == {errors.EXIT_CONFIGURATION, errors.EXIT_USAGE}
