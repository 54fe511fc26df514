"""Each setting from each place: which place wins, and how a wrong value is reported, without secrets."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from allocsync.errors import SettingsError
from allocsync.settings.loader import load_settings
from allocsync.settings.model import Settings, is_secret
from allocsync.settings.validators import Expects

PLACES = ("flag", "environment", "secret file", "file")  # the first wins
GOOD: dict[str, tuple[str, ...]] = {
    "api_url": ("http://a", "http://b"),
    "desired": ("/a", "/b"),
    "mode": ("observe", "suspend"),
    "resync_seconds": ("61", "62.5"),
    "concurrency_max": ("7", "8"),
    "bulk": ("on", "off"),
    "api_token": ("first", "second"),
}
BAD = {
    "api_url": "ftp://host",
    "desired": "a\0b",
    "state_dir": "a\0b",
    "listen": "nowhere",
    "listen_token": "hunter2hunter2",
    "mode": "enforced",
    "max_changes_percent": "101",
    "canary": "-1",
    "max_writes_per_hour": "0",
    "write_windows": "Mon-Fri",
    "resync_seconds": "1min",
    "concurrency_max": "many",
    "bulk": "yes",
    "settle_seconds": "4",
    "log_format": "xml",
    "log_level": "loud",
    "api_token": "hunter2 hunter2",
    "application_id": "hunter2 hunter2",
    "api_ca_file": "a\0b",
    "api_certificate_file": "a\0b",
    "api_key_file": "a\0b",
}
Load: TypeAlias = Callable[..., Settings]
Problems: TypeAlias = Callable[..., list[str]]
SETTINGS_AND_PLACES = [
    (name, place) for name in BAD for place in PLACES if place != "flag" or not is_secret(name)
]


def arguments_for(name: str, values: dict[str, str]) -> dict[str, object]:
    """Make the arguments of `load` that give a setting these values in these places."""
    arguments: dict[str, object] = {}
    for place, value in values.items():
        quoted = value.replace("\0", "\\0")
        arguments_by_place: dict[str, dict[str, object]] = {
            "flag": {"flags": {name: value}},
            "environment": {"env": {f"ALLOCSYNC_{name.upper()}": value}},
            "secret file": {"secret_files": {f"allocsync_{name}": f"{value}\n"}},
            "file": {"file": f'# settings\n{name}: "{quoted}"\n'},
        }
        arguments |= arguments_by_place[place]
    return arguments


def text_of(settings: Settings, name: str) -> str:
    value = getattr(settings, name)
    return str(value.get_secret_value() if is_secret(name) else value)


@pytest.mark.parametrize(
    ("name", "upper", "lower"),
    [
        (name, upper, lower)
        for name in GOOD
        for upper, lower in itertools.combinations(PLACES, 2)
        if upper != "flag" or not is_secret(name)
    ],
)
def test_the_upper_of_two_places_wins(load: Load, name: str, upper: str, lower: str) -> None:
    first, second = GOOD[name]
    settings = load(**arguments_for(name, {upper: first, lower: second}))
    assert text_of(settings, name) == text_of(Settings(**{name: first}), name)  # type: ignore[arg-type] # text of any type


def test_a_value_that_is_wrong_in_two_places_is_reported_for_the_upper_one(problems: Problems) -> None:
    (line,) = problems(**arguments_for("bulk", {"environment": "yes", "file": "no"}))
    assert line.startswith("ALLOCSYNC_BULK=yes is not")
    assert "(from the environment)" in line


def test_every_setting_has_a_bad_value_in_this_module() -> None:
    assert list(BAD) == list(Settings.model_fields)


@pytest.mark.parametrize(("name", "place"), SETTINGS_AND_PLACES)
def test_a_wrong_value_is_reported_with_name_place_expectation_and_hint(
    problems: Problems, tmp_path: Path, name: str, place: str
) -> None:
    (line,) = problems(**arguments_for(name, {place: BAD[name]}))

    variable = f"ALLOCSYNC_{name.upper()}"
    origin = {
        "flag": f"from the flag --{name.replace('_', '-')}",
        "environment": "from the environment",
        "secret file": f"from {tmp_path}/run-secrets/allocsync_{name}",
        "file": f"from {tmp_path}/allocsync.yaml:2",
    }[place]
    expects = next(note for note in Settings.model_fields[name].metadata if isinstance(note, Expects))
    assert line.startswith(f"{variable} is not" if is_secret(name) else f"{variable}=")
    assert f" is not {expects.what} ({origin}). Try " in line
    assert line.isprintable()
    assert "hunter2" not in line


@pytest.mark.parametrize("name", ["api_token", "application_id"])
@pytest.mark.parametrize("place", PLACES[1:])
def test_a_valid_secret_is_not_shown_if_another_setting_is_wrong(
    problems: Problems, load: Load, name: str, place: str
) -> None:
    arguments = arguments_for(name, {place: "hunter2"})
    assert "hunter2" not in repr(load(**arguments))
    lines = problems(**{**arguments, "flags": {"mode": "enforced"}})
    assert len(lines) == 1
    assert "hunter2" not in lines[0]


# Variables that are not settings.


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("ALLOCSYNC_RESYNC_SECOND", "ALLOCSYNC_RESYNC_SECONDS"),
        ("ALLOCSYNC_APIURL", "ALLOCSYNC_API_URL"),
        ("ALLOCSYNC_API_TOKENS", "ALLOCSYNC_API_TOKEN"),
        ("ALLOCSYNC_mode", "ALLOCSYNC_MODE"),
        ("ALLOCSYNC_CONFIGS", "ALLOCSYNC_CONFIG"),
    ],
)
def test_a_misspelt_variable_gets_a_suggestion_and_its_value_is_not_shown(
    problems: Problems, variable: str, meant: str
) -> None:
    assert problems(env={variable: "hunter2"}) == [
        f"{variable} is not a setting (from the environment). Did you mean {meant}?"
    ]


@pytest.mark.parametrize(
    "variable",
    [
        "ALLOCSYNC_SERVE_LISTEN",
        "ALLOCSYNC_OWNER",
        "ALLOCSYNC_PORT",
        "ALLOCSYNC_SERVICE_PORT_HTTP",
        "ALLOCSYNC_PORT_9847_TCP_ADDR",
        "ALLOCSYNC_API_SERVICE_HOST",
        "ALLOCSYNC_APPLICATION_PORT",  # of a Service named allocsync-application
        "MODES",
    ],
)
def test_an_unrelated_variable_is_ignored(load: Load, variable: str) -> None:
    assert load(env={variable: "x"}) == Settings()


def test_an_empty_misspelt_variable_is_ignored(load: Load) -> None:
    assert load(env={"ALLOCSYNC_MODES": ""}) == Settings()


# The process.


@pytest.mark.parametrize("place", PLACES)
def test_a_wrong_value_ends_the_process_with_exit_code_78_and_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "settings.yaml").write_text("settle_seconds: 1\n" if place == "file" else "")
    if place == "secret file":
        (tmp_path / "allocsync_settle_seconds").write_text("1")
    flags = ["--settle-seconds", "1"] if place == "flag" else []
    command = [sys.executable, "-m", "allocsync", "--config", str(tmp_path / "settings.yaml"), "run"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ALLOCSYNC_")}
    result = subprocess.run(
        [*command, "--desired", str(tmp_path), *flags],
        env={
            **inherited,
            "CREDENTIALS_DIRECTORY": str(tmp_path),
            "ALLOCSYNC_SETTLE_SECONDS": "1" if place == "environment" else "",
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    (line,) = result.stderr.splitlines()
    assert line.startswith(
        "allocsync: ALLOCSYNC_SETTLE_SECONDS=1 is not a number of seconds from 5 to 180 (from "
    )
    assert line.endswith("). Try 10.")
    assert (result.returncode, result.stdout) == (78, "")


def test_a_misspelt_key_is_shown_without_its_secret_value(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("api_tokn: hunter2\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(file, {}, {}, secrets_directory=tmp_path)
    assert str(caught.value) == f"{file}:1: 'api_tokn' is not a setting. Did you mean api_token?"
