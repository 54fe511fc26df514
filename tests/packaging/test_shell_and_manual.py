"""The completion script in a real shell, and the manual page in groff."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from allocsync.cli.root import COMMANDS, allocsync
from tests.packaging.conftest import RunProgram

pytestmark = pytest.mark.real


def output_of(*arguments: str) -> str:
    result = CliRunner().invoke(allocsync, arguments, prog_name="allocsync")
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize(
    ("typed", "completions"),
    [
        (["pl"], {"plan"}),
        ([""], set(COMMANDS)),
        (["plan", "--det"], {"--detailed-exitcode"}),
        (["completion", ""], {"bash", "zsh", "fish"}),
    ],
)
def test_bash_completes_commands_options_and_arguments(
    run_program: RunProgram, tmp_path: Path, typed: list[str], completions: set[str]
) -> None:
    script = tmp_path / "completion.bash"
    words = " ".join(f"'{word}'" for word in ["allocsync", *typed])
    path = Path(sys.executable).parent
    script.write_text(
        f"PATH={path}:$PATH\n{output_of('completion', 'bash')}\n"
        f"COMP_WORDS=({words}); COMP_CWORD={len(typed)}\n_allocsync_completion allocsync\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    result = run_program("bash", script)
    assert (result.returncode, result.stderr) == (0, "")
    assert set(result.stdout.split()) == completions


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_zsh_and_fish_get_a_completion_script(shell: str) -> None:
    assert "_ALLOCSYNC_COMPLETE" in output_of("completion", shell)


def test_the_manual_is_valid_roff_and_lists_every_command(run_program: RunProgram, tmp_path: Path) -> None:
    page = tmp_path / "allocsync.1"
    page.write_text(output_of("manual"))
    result = run_program("groff", "-man", "-ww", "-z", page)
    assert (result.returncode, result.stderr) == (0, "")
    text = run_program("groff", "-man", "-Tascii", "-P-cbou", page).stdout
    assert all(f"\n   {name} " in text or f"\n   {name}\n" in text for name in COMMANDS)
    assert "allocsync - keep the allocations" in " ".join(text.split())
    assert "--detailed-exitcode" in text


def test_the_command_is_installed_under_its_name() -> None:
    result = subprocess.run(
        [Path(sys.executable).parent / "allocsync", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith("allocsync, version ")
