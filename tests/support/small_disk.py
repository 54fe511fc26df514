"""A file system of a megabyte for the state of a real daemon, which can be filled up: a tmpfs of its own.

It is mounted where only the daemon and who follows it into its mount namespace see it, and it goes with them.
"""

import asyncio
import os
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packaging.conftest import require

PART = 4096
MOUNT = 'mkdir -p "$0" && mount -t tmpfs -o size=1m,mode=700 tmpfs "$0" && exec "$@"'
PROGRAMS = ("mount", "nsenter", "unshare")
WAYS = (("unshare", "--mount"), ("unshare", "--mount", "--map-root-user"))


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """`within` is what a daemon is started with, so that `directory` is such a file system for it."""

    directory: Path
    within: tuple[str, ...]

    def follow(self, pid: int) -> tuple[str, ...]:
        """Give what other programs are started with, so that they see what this process sees."""
        user = ("--user", "--preserve-credentials") if WAYS[1][-1] in self.within else ()
        return ("nsenter", "--target", str(pid), "--mount", *user)

    def fill(self, pid: int) -> Path:
        """Fill it up to the last byte; give the file that does, which is there to be deleted."""
        ballast = Path(f"/proc/{pid}/root{self.directory}/ballast")
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(PART))
            except OSError as error:
                if "No space left" not in str(error):
                    raise
        return ballast


async def small_disk(directory: Path) -> SmallDisk:
    """A file system to be, at this directory; where none can be mounted the test is skipped."""
    for program in PROGRAMS:
        require(program)
    said = []
    for way in WAYS if os.geteuid() == 0 else WAYS[1:]:
        within = (*way, "sh", "-c", MOUNT, str(directory))
        process = await asyncio.create_subprocess_exec(*within, "true", stderr=PIPE)
        _, stderr = await process.communicate()
        if process.returncode == 0:
            return SmallDisk(directory, within)
        said.append(f"{' '.join(way)}: {stderr.decode().strip()}")
    pytest.skip(
        f"no file system can be mounted here ({'; '.join(said)}); to have it: run the tests as root, or "
        "sysctl kernel.unprivileged_userns_clone=1"
    )
