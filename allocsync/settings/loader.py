"""Loads the settings: five places to give them, every mistake reported at once.

A value comes from the first of these that has it: a flag, `ALLOCSYNC_<NAME>` in the environment, a secret
file `allocsync_<name>` (in `$CREDENTIALS_DIRECTORY`, then /run/secrets), the YAML file, the default.

The rules: a wrong value is one line that names the setting, the value, where it came from and one that would
do; a secret is never shown. Scalars of the YAML file are taken as they are written, so that `bulk: off` is
not a boolean. An empty environment variable counts as not set. An unknown `ALLOCSYNC_*` variable is an error
when it is nearly a setting, and let be otherwise: Kubernetes makes some for a Service of this name.

Left out: flags as such (`cli.options`), and whether what a setting points at answers (`doctor`).
"""

import difflib
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
    flag_name,
    from_environment,
    from_secret_files,
    from_yaml,
    misspelt_variables,
    shown,
    variable_name,
)
from allocsync.settings.validators import Expects

CONFIG_VARIABLE = "ALLOCSYNC_CONFIG"
SECRETS_DIRECTORY = Path("/run/secrets")


class _Source(PydanticBaseSettingsSource):
    """One of the places; pydantic-settings merges them, this remembers which one gave what."""

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
) -> Settings:
    """Gather the settings from all five places.

    `config_file` comes from `--config`, otherwise from ALLOCSYNC_CONFIG, otherwise there is none. `flags` has
    only those that were given. `existing` names the path settings that must lead to something now.

    Raises:
        SettingsError: every mistake, one a line.
    """
    problems = misspelt_variables([*Settings.model_fields, "config"], environ)
    if config_file is None and environ.get(CONFIG_VARIABLE):
        config_file = Path(environ[CONFIG_VARIABLE])
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    directories = [Path(credentials), secrets_directory] if credentials else [secrets_directory]
    names = Settings.model_fields
    sources = (
        _Source({name: Given(value, f"from the flag {flag_name(name)}") for name, value in flags.items()}),
        _Source(from_environment(names, environ)),
        _Source(from_secret_files(names, directories, problems)),
        _Source(from_yaml(names, config_file, problems) if config_file else {}),
    )
    given = {name: value for source in reversed(sources) for name, value in source.given.items()}
    settings, wrong = _validated(sources)
    problems += [_wrong_value(name, given[name]) for name in names if name in wrong]
    problems += [line for name in existing if name not in wrong for line in _absent(name, given)]
    if problems or settings is None:
        raise SettingsError("\n".join(problems))
    return settings


def _validated(sources: tuple[_Source, ...]) -> tuple[Settings | None, frozenset[str]]:
    """Merge and check; without settings, the names of those that are wrong."""
    try:
        # mypy sees the fields only; this argument is pydantic-settings' own.
        return Settings(_build_sources=(sources, {})), frozenset()  # type: ignore[call-arg]
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
        return None, frozenset(str(detail["loc"][0]) for detail in details)


def _wrong_value(name: str, given: Given) -> str:
    expects = next(note for note in Settings.model_fields[name].metadata if isinstance(note, Expects))
    value = "" if is_secret(name) else f"={shown(_without_secrets(name, str(given.value)))}"
    return (
        f"{variable_name(name)}{value} is not {expects.what} ({given.origin}). "
        f"Try {_example(expects, given)}."
    )


def _example(expects: Expects, given: Given) -> str:
    choices = expects.what.removeprefix("one of ").split(", ")
    close = difflib.get_close_matches(str(given.value).lower(), choices, n=1) if len(choices) > 1 else []
    return close[0] if close else expects.example


def _absent(name: str, given: Mapping[str, Given]) -> Iterator[str]:
    found = given.get(name) or Given(Settings.model_fields[name].default, "the default")
    value, origin = found.value, found.origin
    try:
        Path(str(value)).stat()
    except (OSError, ValueError) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        do = "Create it" if isinstance(error, FileNotFoundError) else "Let this user reach it"
        also = "or see `allocsync validate --help`."
        yield f"{variable_name(name)}={shown(value)}: {why} ({origin}). {do}, {also}"


def _without_secrets(name: str, text: str) -> str:
    """Hide where a URL may carry a password or a key: before the last @, and from a ? or # on."""
    before, at, after = text.rpartition("@")
    if name == "api_url" and re.search(r"[?#]", before):
        return "…"  # a password with one of these in it, or a key with an @: nobody knows where it begins
    place = re.split(r"[?#]", after, maxsplit=1)[0] if name == "api_url" else after
    return ("…@" if at else "") + place + ("…" if place != after else "")
