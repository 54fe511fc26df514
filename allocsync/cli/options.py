"""Settings as flags: a command names the settings that it uses and is given the flags that were typed.

The rule: a flag is text here; what it must be is judged in one place (`settings`), so that a wrong flag and a
wrong environment variable read the same. A secret is never a flag: others could list it.

Left out: options that are no settings; a command declares those itself. `setting_options` above
`click.pass_context` makes `def command(context, flags)`.
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
    """Add `--api-url` and the like; the command's first argument is a mapping of those that were given.

    Raises:
        ValueError: a name is no setting, or a secret.
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
    """Load the settings for a command; `existing` names path settings that must lead to something now.

    Raises:
        SettingsError: every mistake, one a line.
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
