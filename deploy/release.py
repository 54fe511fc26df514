"""Builds what is published of one version, from the committed files alone, into dist/.

    python deploy/release.py

The rule: the same commit always gives the same bytes. Everything is built twice, in two folders, and
compared. Times in the archives are the commit's. Nothing is built from a tree with uncommitted changes, or
for a version without a dated section in CHANGELOG.md.

Left out: Debian packages and images, which need a root file system, and publishing.
"""

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
VERSION = re.compile(r'^__version__ = "([0-9]+\.[0-9]+\.[0-9]+)"$', re.MULTILINE)


class ReleaseError(Exception):
    """Why nothing can be released, and what to do; shown without a traceback."""


def git(*arguments: str) -> bytes:
    """The output of a git command in this repository.

    Raises:
        ReleaseError: git is missing or failed, for example because this is no repository.
    """
    try:
        return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise ReleaseError("git is not installed") from None
    except subprocess.CalledProcessError as error:
        raise ReleaseError(f"git {arguments[0]}: {error.stderr.decode().strip()}") from None


def checked_version() -> str:
    """The version of the committed files, if they may be released.

    Raises:
        ReleaseError: there are uncommitted changes, or CHANGELOG.md has no dated section for the version.
    """
    if changed := git("status", "--porcelain").decode().splitlines():
        raise ReleaseError(
            f"{len(changed)} files are not committed: commit or remove them, {changed[0]} first"
        )
    found = VERSION.search((ROOT / "allocsync" / "__init__.py").read_text(encoding="utf-8"))
    if found is None:
        raise ReleaseError("allocsync/__init__.py has no __version__ of the form 1.2.3")
    version = found.group(1)
    heading = re.compile(rf"^## {re.escape(version)} \([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}\)$", re.MULTILINE)
    if heading.search((ROOT / "CHANGELOG.md").read_text(encoding="utf-8")) is None:
        raise ReleaseError(f"CHANGELOG.md has no section `## {version} (YYYY-MM-DD)`")
    return version


def build(folder: Path, version: str) -> dict[str, bytes]:
    """Build wheel, sdist and bill of materials from the committed files, unpacked in this new folder.

    Returns their content by file name.

    Raises:
        ReleaseError: the build failed.
    """
    with tarfile.open(fileobj=io.BytesIO(git("archive", "HEAD"))) as archive:
        archive.extractall(folder, filter="data")
    run_python(folder, "-m", "hatchling", "build", "--directory", "dist")
    materials = run_python(folder, "deploy/sbom.py", "requirements.lock")
    built = {path.name: path.read_bytes() for path in sorted((folder / "dist").iterdir())}
    return {f"allocsync-{version}.cdx.json": materials, **built}


def run_python(folder: Path, *arguments: str) -> bytes:
    """The output of a Python program that is run in this folder, with the time of the commit.

    Raises:
        ReleaseError: it failed.
    """
    environ = {**os.environ, "SOURCE_DATE_EPOCH": git("log", "-1", "--format=%ct").decode().strip()}
    command = [sys.executable, *arguments]
    result = subprocess.run(command, cwd=folder, env=environ, capture_output=True, check=False)
    if result.returncode:
        raise ReleaseError(f"{' '.join(arguments)} failed: {result.stderr.decode().strip()}")
    return result.stdout


def release() -> list[str]:
    """Build everything twice, compare it, and replace dist/. Returns a line for each file.

    Raises:
        ReleaseError: see `checked_version` and `build`; or the two builds differ.
    """
    version, builds = checked_version(), []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            builds.append(build(Path(folder), version))
    first, second = builds
    if different := sorted(
        name for name in first.keys() | second.keys() if first.get(name) != second.get(name)
    ):
        raise ReleaseError(f"two builds of the same commit differ in {', '.join(different)}")
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    lines = []
    for name, content in first.items():
        (DIST / name).write_bytes(content)
        lines.append(f"{hashlib.sha256(content).hexdigest()}  {name}")
    (DIST / "SHA256SUMS").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return lines


def main() -> int:
    """Run the command."""
    try:
        for line in release():
            sys.stdout.write(f"{line}\n")
    except ReleaseError as error:
        sys.stderr.write(f"nothing is released: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
