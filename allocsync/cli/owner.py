"""Who sends a command to the daemon: recorded with it, so that others know whom to ask about its effect."""

import getpass
import os
import socket
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

P = ParamSpec("P")
R = TypeVar("R")


def owner_option(command: Callable[P, R]) -> Callable[P, R]:
    """Add the option `--owner`."""
    return click.option(
        "--owner", default=current_user, metavar="NAME", help="Who sends this command; default: USER@HOST."
    )(command)


def current_user() -> str:
    """Return `USER@HOST` of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # in a container the user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
