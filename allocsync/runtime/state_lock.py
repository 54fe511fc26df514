"""The state directory: there, private, and held by one writer at a time.

The rule: whoever sends updates holds the lock for as long as it may send, so that two of them never undo each
other's work; the lock goes with the process, however that ends. It keeps out a second writer on this machine
that uses the same directory, and no other.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from allocsync.errors import AllocsyncError, SettingsError
from allocsync.runtime import listen_token

_LOCK = "lock"


@contextmanager
def held(directory: Path, *, command: str) -> Iterator[Callable[[str], None]]:
    """Hold the directory for `command`, whose name others are told; gives what tells them its address, too.

    Raises:
        SettingsError: the directory cannot be used.
        AllocsyncError: somebody else holds it; names the process.
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
            raise AllocsyncError(_somebody(lock, directory)) from error
        _sign(lock, command, "")
        yield lambda url: _sign(lock, command, url)
    finally:
        os.close(lock)


def _sign(lock: int, command: str, url: str) -> None:
    """Say who holds the lock. On a full disk it holds without a name."""
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps({"pid": os.getpid(), "command": command, "url": url}).encode(), 0)
    except OSError:
        return


def _somebody(lock: int, directory: Path) -> str:
    try:
        holder = json.loads(os.pread(lock, 1000, 0))
        who, url = f"allocsync {holder['command']} (pid {holder['pid']})", holder["url"]
    except (ValueError, KeyError, TypeError):
        who, url = "another allocsync", ""  # it has the lock and has not written its name yet
    token = directory / listen_token.NAME
    shown = f"$(cat {token})" if token.exists() else "$ALLOCSYNC_LISTEN_TOKEN"
    order = f'curl -X POST -H "Authorization: Bearer {shown}" {url}/-/sync'
    leave = f"let it look at everything now: {order}" if url else "leave the work to it."
    return (
        f"{who} works with {directory}, and two writers would undo each other's work. Nothing was sent. "
        f"Stop it first, or {leave}"
    )
