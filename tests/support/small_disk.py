"""A file system of one megabyte for the state of a real daemon, which a test can fill up.

It is a tmpfs in a mount namespace of its own: only the daemon and programs that enter the namespace see it,
and it is removed with them.
"""

import asyncio
import os
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packaging.conftest import require

BLOCK_BYTES = 4096
MOUNT = 'mkdir -p "$0" && mount -t tmpfs -o size=1m,mode=700 tmpfs "$0" && exec "$@"'
PROGRAMS = ("mount", "nsenter", "unshare")
UNSHARE_COMMANDS = (("unshare", "--mount"), ("unshare", "--mount", "--map-root-user"))


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A daemon that is started with the command line `within` sees the small file system at `directory`."""

    directory: Path
    within: tuple[str, ...]

    def follow(self, pid: int) -> tuple[str, ...]:
        """Return the command line with which another program sees the file system of this process."""
        user = ("--user", "--preserve-credentials") if UNSHARE_COMMANDS[1][-1] in self.within else ()
        return ("nsenter", "--target", str(pid), "--mount", *user)

    def fill(self, pid: int) -> Path:
        """Fill the file system to the last byte; returns the file to delete to make room again."""
        ballast = Path(f"/proc/{pid}/root{self.directory}/ballast")
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(BLOCK_BYTES))
            except OSError as error:
                if "No space left" not in str(error):
                    raise
        return ballast


async def small_disk(directory: Path) -> SmallDisk:
    """Return a small disk at this directory; skips the test if this machine cannot mount one."""
    for program in PROGRAMS:
        require(program)
    errors = []
    for unshare in UNSHARE_COMMANDS if os.geteuid() == 0 else UNSHARE_COMMANDS[1:]:
        within = (*unshare, "sh", "-c", MOUNT, str(directory))
        process = await asyncio.create_subprocess_exec(*within, "true", stderr=PIPE)
        _, stderr = await process.communicate()
        if process.returncode == 0:
            return SmallDisk(directory, within)
        errors.append(f"{' '.join(unshare)}: {stderr.decode().strip()}")
    pytest.skip(
        f"no file system can be mounted here ({'; '.join(errors)}); to have it: run the tests as root, or "
        "sysctl kernel.unprivileged_userns_clone=1"
    )
