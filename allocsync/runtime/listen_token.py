"""The token that whoever wants something of the daemon over HTTP has to show.

The rule: there always is one, so no listener ever takes orders from anybody who merely reaches it. Without
the setting `listen_token` the daemon makes one up and keeps it in the state directory, for the eyes of its
own user alone; the commands of that user find it there. The file is there only while it counts.

Left out: what may be asked for with it (`observe.orders`).
"""

import secrets
from pathlib import Path

from pydantic import SecretStr

from allocsync import atomic_file
from allocsync.errors import SettingsError

NAME = "listen_token"
MADE_BYTES = 32
_LONGEST = 4096
_OTHERS = 0o077


def held(directory: Path, configured: SecretStr | None) -> str:
    """The token in force from now on: the setting's, or the one in the directory, made if need be.

    Raises:
        SettingsError: it cannot be written there.
    """
    file = directory / NAME
    try:
        if configured is not None:
            file.unlink(missing_ok=True)
            return configured.get_secret_value()
        return _kept(file) or _made(file)
    except OSError as error:
        raise SettingsError(
            f"{file}: the token for orders over HTTP cannot be kept: "
            f"{(error.strerror or 'unknown').lower()}. Make room there, or set ALLOCSYNC_LISTEN_TOKEN."
        ) from error


def found(directory: Path, configured: SecretStr | None) -> str | None:
    """The token as far as this user knows it, for commands."""
    if configured is not None:
        return configured.get_secret_value()
    try:
        return _read(directory / NAME)
    except OSError:
        return None


def _kept(file: Path) -> str | None:
    """The one of an earlier run; not one that others could read, nor a link to elsewhere."""
    try:
        if file.is_symlink() or file.stat().st_mode & _OTHERS:
            return None
        return _read(file)
    except FileNotFoundError:
        return None


def _read(file: Path) -> str | None:
    with file.open("rb") as stream:
        text = stream.read(_LONGEST).decode("ascii", errors="replace").strip()
    whole = len(text) >= MADE_BYTES and all("!" <= char <= "~" for char in text)
    return text if whole else None


def _made(file: Path) -> str:
    token = secrets.token_urlsafe(MADE_BYTES)
    atomic_file.write(file, f"{token}\n".encode("ascii"), mode=atomic_file.OWNER)
    return token
