"""The lock of the state directory: at most one process that sends updates uses it at a time.

The rule: a process that sends updates holds the lock for as long as it may send, so that two of them do not
undo each other's work. The lock ends with the process, however that ends. It excludes other processes on
this machine that use the same directory, and no others.
"""

import fcntl
import json
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from allocsync.errors import AllocsyncError, SettingsError

_LOCK = "lock"


@contextmanager
def acquire(directory: Path, *, command: str) -> Iterator[Callable[[str], None]]:
    """Create the directory if necessary, and lock it while the context lasts.

    Does not wait for another holder. The lock file names this process and its `command` for the error message
    of others. Yields a function that adds the URL of the daemon's listener to the lock file.

    Raises:
        SettingsError: the directory cannot be used.
        AllocsyncError: another process holds the lock; the message names it.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(
            f"ALLOCSYNC_STATE_DIR={directory}: cannot be used: {(error.strerror or 'unknown').lower()}. "
            "Give a directory that this user can write to."
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AllocsyncError(_describe_holder(lock, directory)) from error
        _write_holder(lock, command, "")
        yield lambda url: _write_holder(lock, command, url)
    finally:
        os.close(lock)


def _write_holder(lock: int, command: str, url: str) -> None:
    """Write who holds the lock into its file. On a full disk the lock works without that."""
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps({"pid": os.getpid(), "command": command, "url": url}).encode(), 0)
    except OSError:
        return


def _describe_holder(lock: int, directory: Path) -> str:
    try:
        holder = json.loads(os.pread(lock, 1000, 0))
        who, url = f"allocsync {holder['command']} (pid {holder['pid']})", holder["url"]
    except (ValueError, KeyError, TypeError):
        who, url = "another allocsync", ""  # it has not written its name yet
    request = f"allocsync sync --url {url} --state-dir {shlex.quote(str(directory))}"
    leave = f"have it read everything now: {request}" if url else "leave the work to it."
    return (
        f"{who} uses {directory}, and two writers would undo each other's work. Nothing was sent. "
        f"Stop it first, or {leave}"
    )
