"""Checks single values of settings: each check returns the value or raises ValueError.

Left out: the message for a wrong value (`settings.loader`).
"""

from dataclasses import dataclass
from typing import Annotated, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr

from allocsync.planning.write_windows import parse_windows

_MAX_PORT = 65535
MIN_TOKEN_LENGTH = 16  # a shorter token can be guessed


@dataclass(frozen=True, slots=True)
class Expects:
    """What a valid value is, in words for an error message, and an example of one."""

    what: str
    example: str


def parse_listen(text: str) -> tuple[str, int]:
    """Split HOST:PORT into its parts. An IPv6 address is in brackets; with port 0 the system chooses one.

    Raises:
        ValueError: it is not HOST:PORT.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if not colon or not host or (":" in host) != bracketed or not (port.isascii() and port.isdigit()):
        raise ValueError("not HOST:PORT")
    if int(port) > _MAX_PORT or any(not c.isprintable() or c in " /[]" for c in host):
        raise ValueError("not HOST:PORT")
    return host, int(port)


def check_listen(text: str) -> str:
    """Accept HOST:PORT."""
    parse_listen(text)
    return text


def check_windows(text: str) -> str:
    """Accept write windows."""
    parse_windows(text)
    return text


def check_url(text: str) -> str:
    """Accept auto, or an http(s) URL with a host and without credentials, query or fragment.

    Returns it without slashes at its end.
    """
    if text == "auto":
        return text
    parts = urlsplit(text)
    is_base_url = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    if (
        not is_base_url
        or "@" in parts.netloc
        or "?" in text
        or "#" in text
        or not text.isprintable()
        or " " in text
    ):
        raise ValueError("not a base URL")
    return text.rstrip("/")


def check_path(path: object) -> object:
    """Reject an empty text, which would mean the current directory, and a NUL, which no path has."""
    if path == "" or "\0" in str(path):
        raise ValueError("not a path")
    return path


def check_secret(secret: SecretStr) -> SecretStr:
    """Accept what an HTTP header can carry: visible ASCII characters without spaces."""
    text = secret.get_secret_value()
    if not text or not all("!" <= c <= "~" for c in text):
        raise ValueError("not a header value")
    return secret


def check_token(token: SecretStr) -> SecretStr:
    """Accept a secret of at least MIN_TOKEN_LENGTH characters."""
    if len(check_secret(token).get_secret_value()) < MIN_TOKEN_LENGTH:
        raise ValueError("too short")
    return token


Secret: TypeAlias = Annotated[SecretStr, AfterValidator(check_secret)]
EXPECTS_SECRET = Expects("one word of visible ASCII characters", "the secret without spaces or quotes")
Token: TypeAlias = Annotated[SecretStr, AfterValidator(check_token)]
EXPECTS_TOKEN = Expects(
    f"one word of {MIN_TOKEN_LENGTH} or more visible ASCII characters", "the secret without spaces or quotes"
)
WriteWindowsText: TypeAlias = Annotated[str, AfterValidator(check_windows)]
