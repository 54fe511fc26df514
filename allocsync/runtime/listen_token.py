"""The token that commands to the daemon over HTTP need.

The rule: there is always a token, so that reaching the listener is never enough to control the daemon.
Without the setting `listen_token` the daemon generates one and keeps it in the state directory, in a file
that only its own user can read; commands of that user find it there. With the setting there is no such
file.

Left out: the commands (`web.control`).
"""

import secrets
from pathlib import Path

from pydantic import SecretStr

from allocsync import atomic_file
from allocsync.errors import SettingsError

NAME = "listen_token"
GENERATED_BYTES = 32
_MAX_LENGTH = 4096
_GROUP_AND_OTHERS = 0o077


def load_or_create(directory: Path, configured: SecretStr | None) -> str:
    """Return the daemon's token: the configured one, else the one in the state directory (created if absent).

    With a configured token the file in the state directory is removed.

    Raises:
        SettingsError: the file cannot be read, written or removed.
    """
    file = directory / NAME
    try:
        if configured is not None:
            file.unlink(missing_ok=True)
            return configured.get_secret_value()
        return _read_private(file) or _create(file)
    except OSError as error:
        raise SettingsError(
            f"{file}: the token for commands over HTTP cannot be stored: "
            f"{(error.strerror or 'unknown').lower()}. Free some space there, or set ALLOCSYNC_LISTEN_TOKEN."
        ) from error


def find(directory: Path, configured: SecretStr | None) -> str | None:
    """Return the configured token, or else the one in the state directory.

    None if that file is not there, cannot be read by this user, or holds no valid token.
    """
    if configured is not None:
        return configured.get_secret_value()
    try:
        return _read(directory / NAME)
    except OSError:
        return None


def _read_private(file: Path) -> str | None:
    """Return the stored token; None if there is none, others can read it, or the file is a link."""
    try:
        if file.is_symlink() or file.stat().st_mode & _GROUP_AND_OTHERS:
            return None
        return _read(file)
    except FileNotFoundError:
        return None


def _read(file: Path) -> str | None:
    with file.open("rb") as stream:
        text = stream.read(_MAX_LENGTH).decode("ascii", errors="replace").strip()
    whole = len(text) >= GENERATED_BYTES and all("!" <= char <= "~" for char in text)
    return text if whole else None


def _create(file: Path) -> str:
    token = secrets.token_urlsafe(GENERATED_BYTES)
    atomic_file.write(file, f"{token}\n".encode("ascii"), mode=atomic_file.OWNER)
    return token
