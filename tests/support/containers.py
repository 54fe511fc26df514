"""The image of allocsync, built by `make image`, and podman to run it.

The rules: images and containers are in a storage of their own, below the user's cache folder, with the base
images and the wheels that a build needs; a lock keeps two tests from using it at a time. Nothing has a
network but loopback.

Left out: base images from a registry. The base is made from Debian packages by
deploy/container/debian_base.sh, for the Debian suite whose Python this is.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import allocsync
from tests.support.documents import ROOT

PROGRAMS = ("buildah", "podman", "/usr/lib/podman/netavark", "runc", "mmdebstrap", "make")
SUITES = {"3.11": "bookworm", "3.13": "trixie"}
IMAGE = f"localhost/allocsync:{allocsync.__version__}"
RUN_BASE, BUILD_BASE = "localhost/base-run", "localhost/base-build"
# What an image is made of, beside Python files of the package.
INPUTS = (
    "Makefile",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "requirements.lock",
    "allocsync",
    "deploy/sbom.py",
    "deploy/container",
)


def cache() -> Path:
    """Return the folder for what is expensive to make: $XDG_CACHE_HOME/allocsync."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "allocsync"


@dataclass(frozen=True)
class Engine:
    """buildah and podman, with a storage of their own."""

    folder: Path
    environment: Mapping[str, str]

    def run(
        self, *command: str | Path, text: str = "", cwd: Path | None = None, seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a program with this storage to its end."""
        return subprocess.run(
            command,
            input=text,
            cwd=cwd or self.folder,  # podman leaves files there
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def podman(self, *arguments: str | Path, text: str = "") -> str:
        """Run podman and return its output; an error fails the test."""
        result = self.run("podman", *arguments, text=text)
        assert result.returncode == 0, (arguments, result.stdout, result.stderr)
        return result.stdout

    def inspect(self, kind: str, name: str) -> Any:  # noqa: ANN401 - JSON of any shape
        """Return what podman says of an image, a container or a volume."""
        return json.loads(self.podman(kind, "inspect", name))[0]

    def build(self, source: Path, name: str, *options: str, revision: str = "") -> None:
        """Build the image from a copy of this repository, at a time of its own."""
        offline = "--network none --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/wheels"
        result = self.run(
            *("make", "image", f"VENV={sys.prefix}", f"IMAGE={name}", "CONTAINER_BUILDER=buildah"),
            *(f"BASE={RUN_BASE}", f"BUILD_BASE={BUILD_BASE}", f"REVISION={revision}"),
            "IMAGE_OPTIONS=" + " ".join((f"{offline} --volume {self._wheels()}:/wheels:ro", *options)),
            cwd=source,
            seconds=240,
        )
        assert result.returncode == 0, result.stdout + result.stderr

    def provide(self) -> None:
        """Make the base images and the image, if they are not those of this source."""
        self._provide_base(_suite())
        digest = hashlib.sha256()
        for each in sorted(path for name in INPUTS for path in _files(ROOT / name)):
            digest.update(str(each).encode() + each.read_bytes())
        mark = self.folder / "image.sha256"
        if not mark.exists() or mark.read_text(encoding="utf-8") != digest.hexdigest():
            self.build(copy_of_source(self.folder / "source"), IMAGE)
            mark.write_text(digest.hexdigest(), encoding="utf-8")

    def _provide_base(self, suite: str) -> None:
        script = ROOT / "deploy/container/debian_base.sh"
        version = hashlib.sha256(suite.encode() + script.read_bytes()).hexdigest()
        mark = self.folder / "base.sha256"
        if mark.exists() and mark.read_text(encoding="utf-8") == version:
            return
        tars = {RUN_BASE: self.folder / "run.tar", BUILD_BASE: self.folder / "build.tar"}
        for each in tars.values():
            each.unlink(missing_ok=True)
        made = self.run(script, suite, *tars.values(), seconds=240)
        assert made.returncode == 0, made.stderr
        for name, tar in tars.items():
            self.podman("import", "--quiet", tar, name)
            tar.unlink()
        mark.write_text(version, encoding="utf-8")

    def _wheels(self) -> Path:
        lock = ROOT / "requirements.lock"
        folder = self.folder / f"wheels-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
        if not folder.exists():
            new = folder.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            loaded = self.run(
                *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"),
                *("--only-binary", ":all:", "--require-hashes", "--requirement", lock, "--dest", new),
                seconds=240,
            )
            assert loaded.returncode == 0, loaded.stderr
            new.rename(folder)
        return folder


def _suite() -> str:
    """Return the Debian suite with this Python, whose wheels are at hand, or skip the test."""
    python = ".".join(map(str, sys.version_info[:2]))
    if os.geteuid() != 0:
        pytest.skip("base images are made and containers are run as root: sudo make test-all")
    if python not in SUITES:
        pytest.skip(f"no Debian suite has Python {python}: make PYTHON=python3.11 test-all")
    return SUITES[python]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [each for each in path.rglob("*") if each.is_file() and "__pycache__" not in each.parts]


def copy_of_source(folder: Path) -> Path:
    """Replace the folder by a copy of what an image is made of, and return it; all its times are new."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for each in INPUTS:
        source, target = ROOT / each, folder / each
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, target, ignore=ignored, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(source, target)
    return folder


@contextmanager
def engine() -> Iterator[Engine]:
    """Wait for the storage, and yield it with the image of this source; afterwards remove all containers."""
    folder = cache() / "containers"
    folder.mkdir(parents=True, exist_ok=True)
    runtime = Path("/run/allocsync-tests")
    (folder / "containers.conf").write_text(
        # runc and cgroupfs work with and without systemd. The limits are some that every user may set.
        '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n'
        '[engine]\ncgroup_manager = "cgroupfs"\nruntime = "runc"\nevents_logger = "file"\n'
        f'tmp_dir = "{runtime}/libpod"\n',
        encoding="utf-8",
    )
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/storage"\nrunroot = "{runtime}/storage"\n',
        encoding="utf-8",
    )
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = Engine(
            folder,
            {
                **os.environ,
                "CONTAINERS_CONF": str(folder / "containers.conf"),
                "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
                "BUILDAH_ISOLATION": "chroot",
                "SOURCE_DATE_EPOCH": "1700000000",
            },
        )
        found.provide()
        try:
            yield found
        finally:
            found.run("podman", "pod", "rm", "--force", "--all", "--time=0")
            found.run("podman", "rm", "--force", "--all", "--time=0")
            found.run("podman", "volume", "prune", "--force")
            found.run("podman", "secret", "rm", "--all")
            found.run("podman", "image", "prune", "--force")
