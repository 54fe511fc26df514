"""Settings as command-line flags: a command names the settings that it uses and receives the flags given.

The rule: a flag is text here. `settings` alone validates values, so that a wrong flag and a wrong environment
variable give the same message. A secret is never a flag, because other users can list command lines.

Left out: options that are not settings; each command declares its own.
"""

import functools
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeAlias, TypeVar

import click

from allocsync.settings.loader import load_settings
from allocsync.settings.model import Settings, is_secret
from allocsync.settings.sources import flag_name, variable_name

P = ParamSpec("P")
R = TypeVar("R")
Flags: TypeAlias = Mapping[str, str]


def setting_options(*names: str) -> Callable[[Callable[Concatenate[Flags, P], R]], Callable[P, R]]:
    """Add a flag for each of these settings (`--api-url`).

    The command receives one more argument before its own: the flags that the user gave, as text, by the
    name of the setting. With this decorator above `click.pass_context`, the command begins with
    `def command(context, flags, ...)`.

    Raises:
        ValueError: a name is not a setting, or is a secret.
    """
    for name in names:
        if name not in Settings.model_fields or is_secret(name):
            raise ValueError(f"{name} cannot be a flag")

    def decorate(command: Callable[Concatenate[Flags, P], R]) -> Callable[P, R]:
        @functools.wraps(command)
        def with_flags(*args: P.args, **kwargs: P.kwargs) -> R:
            values = {name: kwargs.pop(name, None) for name in names}
            flags = {name: str(value) for name, value in values.items() if value is not None}
            return command(flags, *args, **kwargs)

        decorated: Callable[P, R] = with_flags
        for name in reversed(names):
            decorated = _option(name)(decorated)
        return decorated

    return decorate


def settings_from(context: click.Context, flags: Flags, *, existing: Collection[str] = ()) -> Settings:
    """Load the settings for a command; `existing` names the settings whose path must exist.

    Raises:
        SettingsError: a setting is wrong; lists every mistake, one a line.
    """
    config_file = context.find_root().obj
    return load_settings(Path(config_file) if config_file else None, flags, os.environ, existing=existing)


def _option(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    field = Settings.model_fields[name]
    default = "" if field.default is None else f"; default {field.default}"
    return click.option(
        flag_name(name),
        name,
        metavar=name.rpartition("_")[2].upper(),
        help=f"{field.description} [{variable_name(name)}{default}]",
    )
