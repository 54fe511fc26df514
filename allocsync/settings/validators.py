"""What the value of a setting must be: checks that accept it or raise ValueError, never more than that.

Left out: how a wrong one is told (`settings`).
"""

from dataclasses import dataclass
from typing import Annotated, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr

from allocsync.planning.write_windows import parse_windows

_HIGHEST_PORT = 65535
TOKEN_LENGTH = 16  # what can be guessed is as good as open


@dataclass(frozen=True, slots=True)
class Expects:
    """What a setting must be, as it is said in an error, and a value that would do."""

    what: str
    example: str


def parse_listen(text: str) -> tuple[str, int]:
    """Split HOST:PORT; an IPv6 host stands in brackets, port 0 lets the system choose.

    Raises:
        ValueError: it is not HOST:PORT.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if not colon or not host or (":" in host) != bracketed or not (port.isascii() and port.isdigit()):
        raise ValueError("not HOST:PORT")
    if int(port) > _HIGHEST_PORT or any(not c.isprintable() or c in " /[]" for c in host):
        raise ValueError("not HOST:PORT")
    return host, int(port)


def check_listen(text: str) -> str:
    """Accept HOST:PORT."""
    parse_listen(text)
    return text


def check_windows(text: str) -> str:
    """Accept times of the week."""
    parse_windows(text)
    return text


def check_url(text: str) -> str:
    """Accept auto, or an http(s) URL with a host; credentials, a query or a fragment have no place in it."""
    if text == "auto":
        return text
    parts = urlsplit(text)
    proper = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    if (
        not proper
        or "@" in parts.netloc
        or "?" in text
        or "#" in text
        or not text.isprintable()
        or " " in text
    ):
        raise ValueError("not a base URL")
    return text.rstrip("/")


def check_path(path: object) -> object:
    """Refuse what would quietly become the current directory, or is no path at all."""
    if path == "" or "\0" in str(path):
        raise ValueError("not a path")
    return path


def check_secret(secret: SecretStr) -> SecretStr:
    """Accept what can travel in a header."""
    text = secret.get_secret_value()
    if not text or not all("!" <= c <= "~" for c in text):
        raise ValueError("not a header value")
    return secret


def check_token(token: SecretStr) -> SecretStr:
    """Accept what can travel in a header and cannot be guessed."""
    if len(check_secret(token).get_secret_value()) < TOKEN_LENGTH:
        raise ValueError("too short")
    return token


Secret: TypeAlias = Annotated[SecretStr, AfterValidator(check_secret)]
IS_SECRET = Expects("one word of visible ASCII characters", "the secret without spaces or quotes")
Token: TypeAlias = Annotated[SecretStr, AfterValidator(check_token)]
IS_TOKEN = Expects(
    f"one word of {TOKEN_LENGTH} or more visible ASCII characters", "the secret without spaces or quotes"
)
Times: TypeAlias = Annotated[str, AfterValidator(check_windows)]
