"""Makes the environment that allocsync is installed in: a wheel of this tree with the locked packages.

`make install` runs it as `python3 deploy/bundle.py --destdir DIR --prefix /usr`. It creates
PREFIX/lib/allocsync, a virtual environment of the Python that runs it, and PREFIX/bin/allocsync, which starts
that environment.

The rules: every package is installed from a lock file by its hash. No file below DESTDIR names DESTDIR, this
tree or a temporary directory, so that the result can be moved to PREFIX, or packed. Output of pip is shown
only if it fails, and without the names of hosts.

Left out: units, manual, completions and documents (`Makefile`); where pip finds packages (its configuration).
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Collection, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD_PACKAGES = ("hatchling", "packaging", "pathspec", "pluggy", "tomlkit", "trove-classifiers")
LAUNCHER = """\
#!{environment}/bin/python3 -I
from allocsync.__main__ import main

main()
"""


def locked(lock: str, names: Collection[str]) -> str:
    """Return the entries of a lock file for these packages, with their hashes."""
    entries = re.findall(r"^(?:\S.*\\\n(?:    .*\n)+)", lock, re.MULTILINE)
    return "".join(entry for entry in entries if entry.partition("==")[0] in names)


def build_wheel(directory: Path) -> None:
    """Build the wheel of this tree into `directory`, with the locked build tools."""
    tools = directory / "tools"
    venv.create(tools, with_pip=True, symlinks=True)
    lock = directory / "build.lock"
    lock.write_text(locked((ROOT / "requirements-dev.lock").read_text(encoding="utf-8"), BUILD_PACKAGES))
    pip(directory, "install", "--require-hashes", "-r", lock)
    pip(
        directory, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", directory / "wheel", ROOT
    )


def create_environment(directory: Path, environment: Path) -> None:
    """Install the locked packages and the wheel in `directory` into a new environment without pip."""
    shutil.rmtree(environment, ignore_errors=True)
    venv.create(environment, with_pip=False, symlinks=True)
    into = ("--python", environment / "bin/python3")
    pip(directory, *into, "install", "--no-compile", "--require-hashes", "-r", ROOT / "requirements.lock")
    # By name, not by path: pip would record the path in direct_url.json.
    wheel = ("--no-deps", "--no-index", "--find-links", directory / "wheel", "allocsync")
    pip(directory, *into, "install", "--no-compile", *wheel)


def pip(directory: Path, *arguments: str | Path) -> None:
    """Run the pip of the build tools."""
    command: list[str | Path] = [
        directory / "tools/bin/python3",
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "-q",
    ]
    done = subprocess.run(
        [*command, *arguments],
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},  # bytecode of what pip imports would name DESTDIR
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        said = re.sub(r"https?://[^/ ]+", "https://…", done.stdout)
        sys.exit(re.sub(r"host='[^']*'", "host=…", said) + "make install: pip failed; see above")


def remove_paths(environment: Path) -> None:
    """Remove what names the place where the environment was made: scripts, and the record of its command."""
    for file in (environment / "bin").iterdir():
        if not file.is_symlink():
            file.unlink()
    shutil.rmtree(environment / "include", ignore_errors=True)
    (environment / "lib64").unlink(missing_ok=True)
    python = environment / "bin/python3"
    python.unlink()
    python.symlink_to(os.path.realpath(sys.executable))
    settings = environment / "pyvenv.cfg"
    lines = settings.read_text(encoding="utf-8").splitlines(keepends=True)
    settings.write_text("".join(line for line in lines if not line.startswith("command ")), encoding="utf-8")
    for record in environment.rglob("*.dist-info/RECORD"):
        lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
        record.write_text("".join(line for line in lines if not line.startswith("../")), encoding="utf-8")


def places_named(directory: Path, paths: Collection[str]) -> Iterator[Path]:
    """Return the files below `directory` that contain one of these paths."""
    wanted = [os.fsencode(path) for path in paths if path.strip("/")]
    for file in directory.rglob("*"):
        if file.is_file() and not file.is_symlink() and any(path in file.read_bytes() for path in wanted):
            yield file


def main() -> None:
    """Make the environment and its launcher below --destdir."""
    parser = argparse.ArgumentParser(description="Install allocsync with the packages that it needs.")
    parser.add_argument("--destdir", default="", help="directory below which everything is placed")
    parser.add_argument("--prefix", default="/usr/local", help="where it will be found when it runs")
    parser.add_argument("--no-compile", action="store_true", help="leave the bytecode to the package")
    arguments = parser.parse_args()
    home = Path(arguments.prefix) / "lib/allocsync"
    base = f"{Path(arguments.destdir).resolve()}" if arguments.destdir else ""
    environment = Path(base + str(home))
    os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="allocsync-bundle-") as temporary:
        build_wheel(Path(temporary))
        create_environment(Path(temporary), environment)
        remove_paths(environment)
        launcher = Path(f"{base}{arguments.prefix}/bin/allocsync")
        launcher.parent.mkdir(parents=True, exist_ok=True)
        launcher.write_text(LAUNCHER.format(environment=home), encoding="utf-8")
        launcher.chmod(0o755)
        if not arguments.no_compile:
            compile_all = ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
            strip = ["-s", base, "-p", "/"] if base else []
            python = environment / "bin/python3"
            subprocess.run([python, *compile_all, *strip, environment / "lib"], check=True)
        found = sorted(places_named(environment, [base, str(ROOT), temporary]))
    if found:
        sys.exit(
            "make install: these files name the place where they were made:\n" + "\n".join(map(str, found))
        )


if __name__ == "__main__":
    main()
