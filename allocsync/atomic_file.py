"""A file that is there whole or not at all, whatever happens while it is written.

The rule: what is new is written beside, synced, and put in the place of what was there before; the directory
is synced, too. So a full disk, kill -9 or a power cut leaves the file as it was before or as it was to be.
The name beside begins with a dot, so that nothing that reads the directory takes it for one of its files, and
is another one in each process: of two that write, the last one stands.

Left out: files that grow (`journal.file`).
"""

import os
from pathlib import Path

EVERYBODY, OWNER = 0o666, 0o600  # whose eyes it is for, less what the umask takes


def write(path: Path, data: bytes, *, mode: int = EVERYBODY) -> None:
    """Write the file. What somebody else left beside it, a link even, is not written to.

    Raises:
        OSError: it cannot be written, and what was there before is as it was; or the directory cannot be
            synced, and a power cut may bring that back.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    beside.unlink(missing_ok=True)
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)  # it takes room on a disk that may be full
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
