"""Which settings there are: their types, defaults, limits and descriptions.

The rule: a setting says here everything that is known about it. The options of commands, the JSON Schema,
the table of README.md and error messages are made from this class.

Left out: loading values (`settings.loader`), and the checks of single values (`settings.validators`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from allocsync.model.desired_state import Mode
from allocsync.settings.validators import (
    EXPECTS_SECRET,
    EXPECTS_TOKEN,
    Expects,
    Secret,
    Token,
    WriteWindowsText,
    check_listen,
    check_path,
    check_url,
)

CREDENTIALS = frozenset(
    {"api_token", "application_id", "api_ca_file", "api_certificate_file", "api_key_file", "listen_token"}
)
_SECONDS_PER_WEEK = 604_800

Bulk: TypeAlias = Literal["auto", "on", "off"]
LogFormat: TypeAlias = Literal["auto", "console", "json"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]


class Settings(BaseSettings):
    """All settings. Creating an instance reads only its arguments; `load_settings` reads the five places."""

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
        description="Directory of the journal, and of the lock that prevents a second writer.",
    )
    listen: Annotated[str, AfterValidator(check_listen), Expects("HOST:PORT", "127.0.0.1:9847")] = Field(
        default="127.0.0.1:9847",
        description="HOST:PORT of metrics, health, status and commands; port 0 lets the system choose.",
    )
    listen_token: Annotated[Token | None, EXPECTS_TOKEN] = Field(
        default=None,
        description="Bearer token for commands to the daemon. Unset: one in state_dir, for this user only.",
    )
    mode: Annotated[Mode, Expects("one of enforce, observe, suspend", "enforce")] = Field(
        default=Mode.ENFORCE,
        description="What to do about a difference: enforce, observe (report only) or suspend.",
    )
    max_changes_percent: Annotated[
        float, Field(ge=0, le=100, allow_inf_nan=False), Expects("a number of percent from 0 to 100", "30")
    ] = Field(
        default=30.0,
        description="Percentage of 10 or more allocations that a revision may change without approval.",
    )
    canary: Annotated[int, Field(ge=0, le=1000), Expects("a whole number from 0 to 1000", "3")] = Field(
        default=0,
        description="How many allocations of a revision that awaits approval are updated first. 0: none.",
    )
    max_writes_per_hour: Annotated[
        int | None, Field(ge=1, le=10**6), Expects("a whole number from 1 to 1000000", "500")
    ] = Field(default=None, description="Maximum updates in any hour, restarts included. Unset: no limit.")
    write_windows: Annotated[
        WriteWindowsText | None, Expects("times of the week in UTC", "Mon-Fri 22:00-06:00")
    ] = Field(
        default=None,
        description="When updates may be sent, such as `Mon-Fri 22:00-06:00` (UTC). Unset: always.",
    )
    resync_seconds: Annotated[
        float | None,
        Field(gt=0, le=_SECONDS_PER_WEEK, allow_inf_nan=False),
        Expects(f"a number of seconds above 0 and at most {_SECONDS_PER_WEEK}", "60"),
    ] = Field(
        default=None,
        description="Seconds between two reads of all allocations. Unset: 60 with the list, 300 without.",
    )
    concurrency_max: Annotated[
        int | None, Field(ge=1, le=1000), Expects("a whole number from 1 to 1000", "32")
    ] = Field(
        default=None,
        description="Maximum number of requests in flight per operation. Unset: 64 reads, 32 writes.",
    )
    bulk: Annotated[Bulk, Expects("one of auto, on, off", "auto")] = Field(
        default="auto",
        description="Whether a resync reads `GET /allocations`: on, off, or auto (while the list works).",
    )
    settle_seconds: Annotated[
        float, Field(ge=5, le=180, allow_inf_nan=False), Expects("a number of seconds from 5 to 180", "10")
    ] = Field(
        default=10.0,
        description="Minimum wait in seconds before a read may show that an update was not applied.",
    )
    log_format: Annotated[LogFormat, Expects("one of auto, console, json", "auto")] = Field(
        default="auto",
        description="Log lines: console, json, or auto (console on a terminal, json elsewhere).",
    )
    log_level: Annotated[LogLevel, Expects("one of debug, info, warning, error", "info")] = Field(
        default="info", description="Least severe level that is logged: debug, info, warning or error."
    )
    api_token: Annotated[Secret | None, EXPECTS_SECRET] = Field(
        default=None,
        description="Bearer token that every request to the API carries. Best given as a secret file.",
    )
    application_id: Annotated[Secret | None, EXPECTS_SECRET] = Field(
        default=None,
        description="Application id that every request to the API carries. Best given as a secret file.",
    )
    api_ca_file: Annotated[
        Path | None, BeforeValidator(check_path), Expects("a path", "/etc/ssl/our-ca.pem")
    ] = Field(
        default=None,
        description="PEM file with the certificates to trust instead of the system's, for https.",
    )
    api_certificate_file: Annotated[
        Path | None, BeforeValidator(check_path), Expects("a path", "/etc/allocsync/client.pem")
    ] = Field(
        default=None,
        description="PEM file with the client certificate that allocsync presents to the API, for https.",
    )
    api_key_file: Annotated[
        Path | None, BeforeValidator(check_path), Expects("a path", "/etc/allocsync/client.key")
    ] = Field(
        default=None,
        description="PEM file with the key of the client certificate. Unset: the key is in the same file.",
    )

    def differences(self, other: "Settings") -> frozenset[str]:
        """The names of the settings that differ and need a restart: all but the credentials."""
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
        """Do not read the environment of the process: `load_settings` gets it as an argument."""
        return (init_settings,)


def is_secret(name: str) -> bool:
    """Whether a setting must never be shown, or given on a command line, which other users can read."""
    return SecretStr in _innermost_types(Settings.model_fields[name].annotation)


def _innermost_types(annotation: object) -> Iterator[object]:
    arguments = get_args(annotation)
    if not arguments:
        yield annotation
    for argument in arguments:
        yield from _innermost_types(argument)
