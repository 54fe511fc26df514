"""`make install`: everything is in its place, and nothing names the place where it was made."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT

pytestmark = [pytest.mark.real, pytest.mark.slow]

FILES = (
    "bin/allocsync",
    "lib/systemd/system/allocsync.service",
    "lib/systemd/system/allocsync@.service",
    "share/man/man1/allocsync.1",
    "share/bash-completion/completions/allocsync",
    "share/zsh/site-functions/_allocsync",
    "share/fish/vendor_completions.d/allocsync.fish",
    "share/doc/allocsync/examples/allocsync.yaml",
    "share/doc/allocsync/examples/notify-reload.conf",
)


@pytest.fixture(scope="module", name="installed")
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run `make install` for /opt/sync; returns DESTDIR/opt/sync."""
    destdir = tmp_path_factory.mktemp("destdir")
    python = Path(sys.executable).resolve()
    command = ["make", "install", f"DESTDIR={destdir}", "PREFIX=/opt/sync", f"PYTHON={python}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return destdir / "opt/sync"


def test_everything_is_in_its_place_and_readable_by_all(installed: Path) -> None:
    assert [name for name in FILES if not (installed / name).is_file()] == []
    files = [file for file in installed.rglob("*") if not file.is_symlink()]
    assert [file for file in files if file.stat().st_mode & 0o444 != 0o444] == []
    assert (installed / "bin/allocsync").stat().st_mode & 0o111 == 0o111


def test_no_file_names_the_place_where_it_was_made(installed: Path) -> None:
    destdir = installed.parents[1]
    files = [file for file in installed.rglob("*") if file.is_file() and not file.is_symlink()]
    assert any(file.suffix == ".pyc" for file in files)  # they would name it first
    for place in (str(destdir).encode(), str(ROOT).encode()):
        assert [file for file in files if place in file.read_bytes()] == []
    links = [file for file in installed.rglob("*") if file.is_symlink()]
    assert [link for link in links if str(destdir) in str(link.readlink())] == []


def test_the_record_of_each_package_lists_only_files_that_exist(installed: Path) -> None:
    packages = next(installed.glob("lib/allocsync/lib/python3.*/site-packages"))
    records = list(packages.glob("*.dist-info/RECORD"))
    assert any(record.parent.name.startswith("allocsync-") for record in records)
    for record in records:
        names = [line.split(",")[0].strip('"') for line in record.read_text(encoding="utf-8").splitlines()]
        assert [name for name in names if not (packages / name).exists()] == []


def test_the_launcher_and_the_units_start_the_program_under_its_prefix(installed: Path) -> None:
    assert (installed / "bin/allocsync").read_text().startswith("#!/opt/sync/lib/allocsync/bin/python3 -I\n")
    for unit in (installed / "lib/systemd/system").iterdir():
        assert "ExecStart=/opt/sync/bin/allocsync --config /etc/" in unit.read_text(encoding="utf-8")


def test_the_environment_runs_with_the_version_of_this_tree_and_without_pip(installed: Path) -> None:
    python = installed / "lib/allocsync/bin/python3"
    version = subprocess.run(
        [python, "-I", "-m", "allocsync", "--version"], capture_output=True, text=True, check=True
    )
    assert (
        version.stdout
        == subprocess.run(
            [sys.executable, "-m", "allocsync", "--version"], capture_output=True, text=True, check=True
        ).stdout
    )
    assert subprocess.run([python, "-I", "-m", "pip"], capture_output=True, check=False).returncode != 0
