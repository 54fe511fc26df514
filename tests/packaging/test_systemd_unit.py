"""The systemd unit, checked by the tools of systemd."""

from configparser import RawConfigParser
from pathlib import Path

import pytest

from allocsync import errors
from tests.packaging.conftest import RunProgram, require

pytestmark = pytest.mark.real

UNIT = Path("systemd/allocsync.service")
TEMPLATE = Path("systemd/allocsync@.service")
START = "ExecStart=/usr/bin/allocsync "
EXPOSURE_TENTHS = 11  # 1.1; systemd-localed, the least exposed service of Debian's systemd, has 1.2


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


@pytest.mark.parametrize("unit", [UNIT, TEMPLATE], ids=str)
def test_systemd_reports_no_problem_in_the_unit(
    run_program: RunProgram, root: Path, tmp_path: Path, unit: Path
) -> None:
    copy = _installed(root / unit, tmp_path)
    copy = copy.rename(copy.with_name(copy.name.replace("@.", "@one.")))
    result = run_program("systemd-analyze", "verify", copy)
    # Exit code 0 is not enough: systemd 252 also returns it for an unknown Type=.
    assert (result.returncode, result.stderr) == (0, "")


def test_systemd_reports_a_broken_unit(run_program: RunProgram, root: Path, tmp_path: Path) -> None:
    unit = _installed(root / UNIT, tmp_path)
    unit.write_text(
        unit.read_text(encoding="utf-8").replace("Type=notify", "Type=notifies"), encoding="utf-8"
    )
    assert "notifies" in run_program("systemd-analyze", "verify", unit).stderr


@pytest.mark.parametrize("unit", [UNIT, TEMPLATE], ids=str)
def test_the_exposure_level_of_the_unit_is_low(run_program: RunProgram, unit: Path) -> None:
    result = run_program(
        "systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_TENTHS}", "--no-pager", unit
    )
    assert result.returncode == 0, result.stdout


def test_systemd_does_not_restart_after_a_mistake_in_settings_or_command_line(root: Path) -> None:
    prevented = _settings(root)["Service"]["RestartPreventExitStatus"].split()
    assert {int(code) for code in prevented} == {errors.EXIT_CONFIGURATION, errors.EXIT_USAGE}


def test_the_template_differs_from_the_unit_only_in_its_instance(root: Path) -> None:
    texts = [(root / unit).read_text(encoding="utf-8").splitlines() for unit in (UNIT, TEMPLATE)]
    unit, template = ([line for line in text if line and not line.startswith("# ")] for text in texts)
    added = "Environment=ALLOCSYNC_DESIRED=/etc/allocsync/%i/allocations ALLOCSYNC_STATE_DIR=%S/allocsync-%i"
    template.remove(added)
    undone = [
        line.replace(" (%i)", "").replace("/etc/allocsync/%i/", "/etc/allocsync/").replace("-%i", "")
        for line in template
    ]
    assert undone == unit
