"""The settings: one class, five places to give them, every mistake reported at once.

A value comes from the first of these that has it: a flag, `ALLOCSYNC_<NAME>` in the environment, a secret
file `allocsync_<name>` (in `$CREDENTIALS_DIRECTORY`, then /run/secrets), the YAML file, the default.

The rules: a wrong value is one line that names the setting, the value, where it came from and one that would
do; a secret is never shown. Scalars of the YAML file are taken as they are written, so that `bulk: off` is
not a boolean. An empty environment variable counts as not set. An unknown `ALLOCSYNC_*` variable is an error
when it is nearly a setting, and let be otherwise: Kubernetes makes some for a Service of this name.

Left out: flags as such (`cli.options`), and whether what a setting points at answers (`doctor`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from allocsync.model.desired_state import Mode
from allocsync.settings.validators import (
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
