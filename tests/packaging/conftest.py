"""The real programs that check what is shipped: skipped where missing, with the command that brings them."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = Path(__file__).with_name("parts.txt")

RealPart: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]


def packages() -> dict[str, str]:
    """The Debian package of each program, from the list that .ci/run installs from."""
    lines = PARTS.read_text(encoding="utf-8").splitlines()
    pairs = (line.split() for line in lines if line and not line.startswith("#"))
    return {program: package for program, package in pairs}  # noqa: C416 - dict() of lists is no dict[str, str]


def require(program: str) -> None:
    """Skip the test where the program is missing, with the command that brings it."""
    package = packages()[program]  # looked up first: CI installs what is listed and nothing else
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not here; to have it: apt-get install {package}")


@pytest.fixture(name="root")
def _root() -> Path:
    return ROOT


@pytest.fixture(name="real_part")
def _real_part() -> RealPart:
    """Run a program with arguments and give what it said, or skip the test where it is missing."""

    def real_part(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        require(program)
        return subprocess.run(
            [program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )

    return real_part
