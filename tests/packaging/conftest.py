"""The programs that check the shipped files; if one is missing, its tests are skipped."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = tuple(Path(__file__).with_name(name) for name in ("parts.txt", "distribution_parts.txt"))

RunProgram: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]


def packages() -> dict[str, str]:
    """Return the Debian package of each program, from the lists that .ci/run installs from."""
    lines = [line for parts in PARTS for line in parts.read_text(encoding="utf-8").splitlines()]
    pairs = (line.split() for line in lines if line and not line.startswith("#"))
    return {program: package for program, package in pairs}  # noqa: C416 - mypy does not accept dict() of lists


def require(program: str) -> None:
    """Skip the test if the program is missing; the message names the command that installs it."""
    package = packages()[program]  # fails for a program that is not in the list: .ci/run would not install it
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed: apt-get install {package}")


@pytest.fixture(name="root")
def _root() -> Path:
    return ROOT


@pytest.fixture(name="run_program")
def _run_program() -> RunProgram:
    """Return a function that runs a program with arguments, or skips the test if the program is missing."""

    def run_program(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        require(program)
        return subprocess.run(
            [program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )

    return run_program
