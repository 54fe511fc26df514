"""The settings: one class, five places to give them, every mistake reported at once.

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
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from allocsync.errors import SettingsError
from allocsync.planning.model import Mode
from allocsync.setting_checks import (
    IS_SECRET,
    IS_TOKEN,
    Expects,
    Secret,
    Times,
    Token,
    check_listen,
    check_path,
    check_url,
)
from allocsync.setting_sources import (
    Given,
    flag_name,
    from_environment,
    from_secret_files,
    from_yaml,
    misspelt_variables,
    shown,
    variable_name,
)

CONFIG_VARIABLE = "ALLOCSYNC_CONFIG"
CREDENTIALS = frozenset(
    {"api_token", "application_id", "api_ca_file", "api_certificate_file", "api_key_file", "listen_token"}
)
SECRETS_DIRECTORY = Path("/run/secrets")
_SECONDS_PER_WEEK = 604_800

Bulk: TypeAlias = Literal["auto", "on", "off"]
LogFormat: TypeAlias = Literal["auto", "console", "json"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]


class Settings(BaseSettings):
    """What a user can set. Building one reads nothing but its arguments: `load_settings` looks around."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    api_url: Annotated[
        str,
        AfterValidator(check_url),
        Expects("auto, or an http or https URL without user, query or fragment", "http://localhost:1000"),
    ] = Field(
        default="http://localhost:1000",
        description="Base URL of the Allocation API; auto finds one on this machine.",
    )
    desired: Annotated[Path, BeforeValidator(check_path), Expects("a path", "/etc/allocsync/allocations")] = (
        Field(
            default=Path("/etc/allocsync/allocations"),
            description="File or directory that holds the desired state.",
        )
    )
    state_dir: Annotated[Path, BeforeValidator(check_path), Expects("a path", "/var/lib/allocsync")] = Field(
        default=Path("/var/lib/allocsync"),
        description="Directory that holds what must survive, and the lock that keeps a second writer out.",
    )
    listen: Annotated[str, AfterValidator(check_listen), Expects("HOST:PORT", "127.0.0.1:9847")] = Field(
        default="127.0.0.1:9847",
        description="HOST:PORT of metrics, health and status; port 0 lets the system choose.",
    )
    listen_token: Annotated[Token | None, IS_TOKEN] = Field(
        default=None,
        description="Bearer token for orders to the daemon. Unset: one is made, for this user, in state_dir.",
    )
    mode: Annotated[Mode, Expects("one of enforce, observe, suspend", "enforce")] = Field(
        default=Mode.ENFORCE,
        description="What to do about a difference: enforce, observe (report only) or suspend.",
    )
    max_changes_percent: Annotated[
        float, Field(ge=0, le=100, allow_inf_nan=False), Expects("a number of percent from 0 to 100", "30")
    ] = Field(
        default=30.0,
        description="Most of 10 or more allocations that new files may change at once; 100 holds nothing.",
    )
    canary: Annotated[int, Field(ge=0, le=1000), Expects("a whole number from 0 to 1000", "3")] = Field(
        default=0,
        description="How many of what is held go first, as far as the rail allows; then the rest. 0: none.",
    )
    max_writes_per_hour: Annotated[
        int | None, Field(ge=1, le=10**6), Expects("a whole number from 1 to 1000000", "500")
    ] = Field(default=None, description="Most updates in any hour, restarts included. Unset: no limit.")
    write_windows: Annotated[Times | None, Expects("times of the week in UTC", "Mon-Fri 22:00-06:00")] = (
        Field(
            default=None,
            description="When updates may be sent, such as `Mon-Fri 22:00-06:00` (UTC). Unset: always.",
        )
    )
    resync_seconds: Annotated[
        float | None,
        Field(gt=0, le=_SECONDS_PER_WEEK, allow_inf_nan=False),
        Expects(f"a number of seconds above 0 and at most {_SECONDS_PER_WEEK}", "60"),
    ] = Field(
        default=None,
        description="Seconds between two looks at everything. Unset: 60 in bulk, 300 one by one.",
    )
    concurrency_max: Annotated[
        int | None, Field(ge=1, le=1000), Expects("a whole number from 1 to 1000", "32")
    ] = Field(
        default=None,
        description="Most requests in flight in each lane. Unset: 64 reads and 32 writes.",
    )
    bulk: Annotated[Bulk, Expects("one of auto, on, off", "auto")] = Field(
        default="auto",
        description="Whether a resync reads everything by one `GET /allocations`: auto, on or off.",
    )
    settle_seconds: Annotated[
        float, Field(ge=5, le=180, allow_inf_nan=False), Expects("a number of seconds from 5 to 180", "10")
    ] = Field(
        default=10.0,
        description="First wait after an update of unknown outcome until a read may call it not applied.",
    )
    log_format: Annotated[LogFormat, Expects("one of auto, console, json", "auto")] = Field(
        default="auto",
        description="Log lines: console, json, or auto (console on a terminal, json elsewhere).",
    )
    log_level: Annotated[LogLevel, Expects("one of debug, info, warning, error", "info")] = Field(
        default="info", description="Least severe level that is logged: debug, info, warning or error."
    )
    api_token: Annotated[Secret | None, IS_SECRET] = Field(
        default=None,
        description="Bearer token that every request to the API carries. Best given as a secret file.",
    )
    application_id: Annotated[Secret | None, IS_SECRET] = Field(
        default=None,
        description="Application id that every request to the API carries. Best given as a secret file.",
    )
    api_ca_file: Annotated[
        Path | None, BeforeValidator(check_path), Expects("a path", "/etc/ssl/our-ca.pem")
    ] = Field(
        default=None,
        description="PEM file with the certificates to trust in place of the system's, for https.",
    )
    api_certificate_file: Annotated[
        Path | None, BeforeValidator(check_path), Expects("a path", "/etc/allocsync/client.pem")
    ] = Field(
        default=None,
        description="PEM file with the certificate that allocsync shows to the API, for https.",
    )
    api_key_file: Annotated[
        Path | None, BeforeValidator(check_path), Expects("a path", "/etc/allocsync/client.key")
    ] = Field(
        default=None, description="PEM file with that certificate's key. Unset: it is in the same file."
    )

    def differences(self, other: "Settings") -> frozenset[str]:
        """The settings that differ and are no credentials: those count from the next start on."""
        return frozenset(
            name
            for name in type(self).model_fields
            if getattr(self, name) != getattr(other, name) and name not in CREDENTIALS
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic-settings'
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave the process's own environment out: `load_settings` is told which one to read."""
        return (init_settings,)


def is_secret(name: str) -> bool:
    """Whether a setting must never be shown, nor given on a command line that others can list."""
    return SecretStr in _leaf_types(Settings.model_fields[name].annotation)


def _leaf_types(annotation: object) -> Iterator[object]:
    arguments = get_args(annotation)
    if not arguments:
        yield annotation
    for argument in arguments:
        yield from _leaf_types(argument)


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
