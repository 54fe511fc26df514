"""Loads the settings from five places, and reports every mistake at once.

A value comes from the first of these places that has one: a flag, `ALLOCSYNC_<NAME>` in the environment, a
secret file `allocsync_<name>` (in `$CREDENTIALS_DIRECTORY`, then /run/secrets), the YAML file, the default.

The rules: a wrong value is reported on one line with the setting, the value, its place and a valid value; a
secret is never shown. An empty environment variable counts as not set. An unknown `ALLOCSYNC_*` variable is
an error if it resembles a setting, and is ignored otherwise. An unknown name in the YAML file is an error.

Left out: reading each place (`settings.sources`), and the options of commands (`cli.options`).
"""

import difflib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from allocsync.errors import SettingsError
from allocsync.settings.model import Settings, is_secret
from allocsync.settings.sources import (
    Given,
    excerpt,
    flag_name,
    from_environment,
    from_secret_files,
    from_yaml,
    misspelt_variables,
    variable_name,
)
from allocsync.settings.validators import Expects

CONFIG_VARIABLE = "ALLOCSYNC_CONFIG"
DEFAULT_FILE = Path("/etc/allocsync/allocsync.yaml")
SECRETS_DIRECTORY = Path("/run/secrets")


class _SettingsSource(PydanticBaseSettingsSource):
    """One of the places. pydantic-settings merges them; this keeps where each value comes from."""

    def __init__(self, given: Mapping[str, Given]) -> None:
        super().__init__(Settings)
        self.given = given

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[object, str, bool]:  # noqa: ARG002 - pydantic-settings' signature
        given = self.given.get(field_name)
        return (given.value if given else None), field_name, False

    def __call__(self) -> dict[str, object]:
        return {name: given.value for name, given in self.given.items()}


def load_settings(
    config_file: Path | None,
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    existing: Collection[str] = (),
    secrets_directory: Path = SECRETS_DIRECTORY,
    default_file: Path = DEFAULT_FILE,
) -> Settings:
    """Load the settings from all five places.

    `config_file` is the value of `--config`; without it, ALLOCSYNC_CONFIG names the YAML file, and without
    that it is `default_file`, if it exists.
    `flags` has only the flags that were given. `existing` names settings whose paths must exist now.

    Raises:
        SettingsError: every mistake, one on each line.
    """
    problems = misspelt_variables([*Settings.model_fields, "config"], environ)
    if config_file is None and environ.get(CONFIG_VARIABLE):
        config_file = Path(environ[CONFIG_VARIABLE])
    if config_file is None and os.path.exists(default_file):  # noqa: PTH110 - false if it may not be searched
        config_file = default_file
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    directories = [Path(credentials), secrets_directory] if credentials else [secrets_directory]
    names = Settings.model_fields
    sources = (
        _SettingsSource(
            {name: Given(value, f"from the flag {flag_name(name)}") for name, value in flags.items()}
        ),
        _SettingsSource(from_environment(names, environ)),
        _SettingsSource(from_secret_files(names, directories, problems)),
        _SettingsSource(from_yaml(names, config_file, problems) if config_file else {}),
    )
    given = {name: value for source in reversed(sources) for name, value in source.given.items()}
    settings, wrong_names = _validate(sources)
    problems += [_wrong_value_problem(name, given[name]) for name in names if name in wrong_names]
    problems += [
        line for name in existing if name not in wrong_names for line in _missing_path_problems(name, given)
    ]
    if problems or settings is None:
        raise SettingsError("\n".join(problems))
    return settings


def _validate(sources: tuple[_SettingsSource, ...]) -> tuple[Settings | None, frozenset[str]]:
    """Merge and validate; returns None and the names of the wrong settings if there are any."""
    try:
        # mypy knows the fields only; this argument belongs to pydantic-settings.
        return Settings(_build_sources=(sources, {})), frozenset()  # type: ignore[call-arg]
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
        return None, frozenset(str(detail["loc"][0]) for detail in details)


def _wrong_value_problem(name: str, given: Given) -> str:
    expects = next(note for note in Settings.model_fields[name].metadata if isinstance(note, Expects))
    value = "" if is_secret(name) else f"={excerpt(_hide_url_secrets(name, str(given.value)))}"
    return (
        f"{variable_name(name)}{value} is not {expects.what} ({given.origin}). "
        f"Try {_example(expects, given)}."
    )


def _example(expects: Expects, given: Given) -> str:
    choices = expects.what.removeprefix("one of ").split(", ")
    close = difflib.get_close_matches(str(given.value).lower(), choices, n=1) if len(choices) > 1 else []
    return close[0] if close else expects.example


def _missing_path_problems(name: str, given: Mapping[str, Given]) -> Iterator[str]:
    found = given.get(name) or Given(Settings.model_fields[name].default, "the default")
    value, origin = found.value, found.origin
    try:
        Path(str(value)).stat()
    except (OSError, ValueError) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        hint = "Create it" if isinstance(error, FileNotFoundError) else "Give this user access to it"
        also = "or see `allocsync validate --help`."
        yield f"{variable_name(name)}={excerpt(value)}: {why} ({origin}). {hint}, {also}"


def _hide_url_secrets(name: str, text: str) -> str:
    """Replace the parts of a URL that may contain a secret: before the last @, and after a ? or #."""
    before, at, after = text.rpartition("@")
    if name == "api_url" and re.search(r"[?#]", before):
        return "…"  # a password with ? or #, or a key with @: where it begins is unknown
    place = re.split(r"[?#]", after, maxsplit=1)[0] if name == "api_url" else after
    return ("…@" if at else "") + place + ("…" if place != after else "")
