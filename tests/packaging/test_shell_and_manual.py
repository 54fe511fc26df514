"""What a shell and a manual reader make of what allocsync prints for them."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from allocsync.cli.root import COMMANDS, allocsync
from tests.packaging.conftest import RealPart

pytestmark = pytest.mark.real


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(allocsync, arguments, prog_name="allocsync")
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["pl"], {"plan"}),
        ([""], set(COMMANDS)),
        (["plan", "--det"], {"--detailed-exitcode"}),
        (["completion", ""], {"bash", "zsh", "fish"}),
    ],
)
def test_bash_completes_what_was_typed(
    real_part: RealPart, tmp_path: Path, typed: list[str], offered: set[str]
) -> None:
    script = tmp_path / "completion.bash"
    words = " ".join(f"'{word}'" for word in ["allocsync", *typed])
    path = Path(sys.executable).parent
    script.write_text(
        f"PATH={path}:$PATH\n{printed('completion', 'bash')}\n"
        f"COMP_WORDS=({words}); COMP_CWORD={len(typed)}\n_allocsync_completion allocsync\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    result = real_part("bash", script)
    assert (result.returncode, result.stderr) == (0, "")
    assert set(result.stdout.split()) == offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_of_theirs(shell: str) -> None:
    assert "_ALLOCSYNC_COMPLETE" in printed("completion", shell)


def test_the_manual_is_flawless_roff_and_has_every_command(real_part: RealPart, tmp_path: Path) -> None:
    page = tmp_path / "allocsync.1"
    page.write_text(printed("manual"))
    result = real_part("groff", "-man", "-ww", "-z", page)
    assert (result.returncode, result.stderr) == (0, "")
    shown = real_part("groff", "-man", "-Tascii", "-P-cbou", page).stdout
    assert all(f"\n   {name} " in shown or f"\n   {name}\n" in shown for name in COMMANDS)
    assert "allocsync - keep the allocations" in " ".join(shown.split())
    assert "--detailed-exitcode" in shown


def test_the_command_is_installed_under_its_name() -> None:
    result = subprocess.run(
        [Path(sys.executable).parent / "allocsync", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith("allocsync, version ")
