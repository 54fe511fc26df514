"""A copy of the source tree that a test may break."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_SOURCE = shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "demo", "dist")


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of the source tree."""

    root: Path

    def append(self, file: str, text: str) -> None:
        """Append text to a file; creates it if necessary."""
        with (self.root / file).open("a", encoding="utf-8") as end:
            end.write(text)

    def prepend_import(self, file: str, line: str) -> None:
        """Insert an import before the first one of the file."""
        path = self.root / file
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        first = next(n for n, each in enumerate(lines) if each.startswith(("import ", "from ")))
        path.write_text("".join([*lines[:first], f"{line}\n", *lines[first:]]), encoding="utf-8")

    def make(self, *targets: str) -> subprocess.CompletedProcess[str]:
        """Run make targets with the Python environment of this test."""
        return subprocess.run(
            ["make", "--no-print-directory", f"VENV={sys.prefix}", *targets],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": "", "MYPYPATH": ""},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


@pytest.fixture(name="root")
def _root() -> Path:
    return ROOT


@pytest.fixture(name="copy")
def _copy(tmp_path: Path) -> Copy:
    return Copy(Path(shutil.copytree(ROOT, tmp_path / "copy", ignore=NOT_SOURCE)))
