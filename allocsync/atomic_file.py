"""Replaces a file in one step, so that readers find the old content or the new, never a part.

The rule: the new content goes to a temporary file in the same directory, is synced, and is renamed over the
old file; then the directory is synced. A full disk, `kill -9` or a power cut leaves the old file or the new
one. The temporary name begins with a dot, so that readers of the directory skip it, and contains the process
id, so that two processes do not share it: the last rename wins.

Left out: files that are appended to (`journal.database`).
"""

import os
from pathlib import Path

EVERYBODY, OWNER = 0o666, 0o600  # who may read it, before the umask is applied


def write(path: Path, data: bytes, *, mode: int = EVERYBODY) -> None:
    """Replace the content of the file, or create it with the permissions `mode` less the umask.

    An existing file or link at the temporary name is removed, never written through.

    Raises:
        OSError: the new content cannot be written and the file is unchanged; or it was replaced but the
            directory cannot be synced, so that a power cut may bring the old content back.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    temporary.unlink(missing_ok=True)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # frees its space on a disk that may be full
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
