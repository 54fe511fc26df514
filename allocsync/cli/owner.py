"""Who gives an order: said with it, so that whoever finds its effect knows whom to ask."""

import getpass
import os
import socket
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

P = ParamSpec("P")
R = TypeVar("R")


def owner_option(command: Callable[P, R]) -> Callable[P, R]:
    """Add `--owner`."""
    return click.option(
        "--owner", default=whoever, metavar="NAME", help="Who does this; default: USER@HOST."
    )(command)


def whoever() -> str:
    """This user on this machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
