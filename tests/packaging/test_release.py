"""What is published: complete, the same from the same commit, and never from uncommitted files."""

import hashlib
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from allocsync import __version__
from tests.packaging.conftest import ROOT

COMMITTER = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.invalid")


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *COMMITTER, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(name="clone")
def _clone(tmp_path: Path) -> Path:
    """A clone of this repository with the files of this tree, whose version has a dated section."""
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(ROOT), str(clone))
    for name in git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        target = clone / name
        target.unlink(missing_ok=True)
        if (ROOT / name).exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    changelog = clone / "CHANGELOG.md"
    text = changelog.read_text(encoding="utf-8")
    if f"## {__version__} (" not in text:
        changelog.write_text(text + f"\n## {__version__} (2026-01-31)\n", encoding="utf-8")
    commit(clone)
    return clone


def commit(clone: Path) -> None:
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--allow-empty", "--message", "release")


def release(clone: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "deploy/release.py"], cwd=clone, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_release_is_complete_and_typed_and_installs_from_its_sdist(clone: Path, tmp_path: Path) -> None:
    result = release(clone)
    assert (result.returncode, result.stderr) == (0, "")
    dist = clone / "dist"
    materials = f"allocsync-{__version__}.cdx.json"
    wheel, sdist = f"allocsync-{__version__}-py3-none-any.whl", f"allocsync-{__version__}.tar.gz"
    sums = (dist / "SHA256SUMS").read_text(encoding="utf-8")
    assert sums == result.stdout
    assert sums.splitlines() == [
        f"{hashlib.sha256((dist / name).read_bytes()).hexdigest()}  {name}"
        for name in (materials, wheel, sdist)
    ]
    named = {each["name"] for each in json.loads((dist / materials).read_bytes())["components"]}
    assert {"aiohttp", "pydantic-settings"} <= named
    with tarfile.open(dist / sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        times = {member.mtime for member in archive.getmembers()}
    assert times == {int(git(clone, "log", "-1", "--format=%ct"))}
    assert names - {"PKG-INFO"} == set(git(clone, "ls-files").splitlines())
    with zipfile.ZipFile(dist / wheel) as packed:
        assert "allocsync/py.typed" in packed.namelist()
        metadata = packed.read(f"allocsync-{__version__}.dist-info/METADATA").decode()
    assert "Classifier: Typing :: Typed" in metadata
    target = tmp_path / "installed"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    subprocess.run([*install, "--target", str(target), str(dist / sdist)], check=True, capture_output=True)
    shown = subprocess.run(
        [sys.executable, "-m", "allocsync", "--version"],
        cwd=target,
        capture_output=True,
        text=True,
        check=True,
    )
    assert __version__ in shown.stdout


@pytest.mark.slow
def test_two_releases_of_one_commit_have_the_same_bytes(clone: Path) -> None:
    first = release(clone).stdout
    assert first
    assert release(clone).stdout == first


def test_nothing_is_released_with_uncommitted_changes_or_without_a_dated_section(clone: Path) -> None:
    (clone / "left").write_text("", encoding="utf-8")
    result = release(clone)
    assert (result.returncode, result.stdout) == (1, "")
    assert "1 files are not committed" in result.stderr
    assert "left" in result.stderr
    (clone / "left").unlink()
    changelog = clone / "CHANGELOG.md"
    text = changelog.read_text(encoding="utf-8")
    changelog.write_text(
        re.sub(rf"^## {re.escape(__version__)} .*$", "", text, flags=re.MULTILINE), encoding="utf-8"
    )
    commit(clone)
    result = release(clone)
    assert (result.returncode, result.stdout) == (1, "")
    assert f"CHANGELOG.md has no section `## {__version__} (YYYY-MM-DD)`" in result.stderr
    assert not (clone / "dist").exists()
