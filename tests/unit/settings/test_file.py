"""The settings file: what it may contain, and how its mistakes are reported."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.errors import SettingsError
from allocsync.settings.loader import load_settings
from allocsync.settings.model import Settings
from allocsync.settings.sources import from_yaml

SAMPLE = Path(__file__).parents[3] / "config" / "allocsync.yaml"
Load: TypeAlias = Callable[..., Settings]
Problems: TypeAlias = Callable[..., list[str]]
NOWHERE = Path("/nonexistent/secrets")


def test_the_sample_file_has_the_default_values() -> None:
    assert load_settings(SAMPLE, {}, {}, secrets_directory=NOWHERE) == Settings()


def test_the_sample_file_names_every_setting_and_its_commented_values_are_valid(load: Load) -> None:
    text = SAMPLE.read_text()
    with_commented_values = re.sub(r"^# (\w+: \S+)$", r"\1", text, flags=re.MULTILINE)

    settings = load(file=with_commented_values)

    assert settings.model_fields_set == set(Settings.model_fields) - {
        "listen_token",
        "api_token",
        "application_id",
    }
    assert "allocsync_api_token" in text
    assert "allocsync_application_id" in text


def test_scalars_are_read_as_written(load: Load) -> None:
    settings = load(file="bulk: off\nresync_seconds: 60\ndesired: 2026-11-23\n")

    assert settings.bulk == "off"
    assert settings.resync_seconds == 60
    assert settings.desired == Path("2026-11-23")


@pytest.mark.parametrize("file", ["", "# nothing\n", "---\n"])
def test_an_empty_file_sets_nothing(load: Load, file: str) -> None:
    if file == "---\n":
        with pytest.raises(SettingsError, match="not a mapping"):
            load(file=file)
    else:
        assert load(file=file) == Settings()


def test_the_config_flag_overrides_the_config_variable(load: Load, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("mode: observe\n")

    assert load(env={"ALLOCSYNC_CONFIG": str(other)}).mode.value == "observe"
    assert load(env={"ALLOCSYNC_CONFIG": str(other)}, file="mode: suspend").mode.value == "suspend"


def test_a_wrong_value_is_reported_with_file_and_line(problems: Problems, tmp_path: Path) -> None:
    (line,) = problems(file="mode: observe\nresync_seconds: 1min\n")

    assert f"=1min is not a number of seconds above 0 and at most 604800 (from {tmp_path}" in line
    assert "allocsync.yaml:2). Try 60." in line


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (
            "resync_second: 60\n",
            "allocsync.yaml:1: 'resync_second' is not a setting. Did you mean resync_seconds?",
        ),
        ("api-url: http://x\n", "Did you mean api_url?"),
        ("zzz: 1\n", "The settings are api_url, desired,"),
        ("mode: observe\nmode: suspend\n", "allocsync.yaml:2: mode is set twice (also from "),
        ("mode:\n", "mode needs a single value. Give one, or remove it"),
        ("mode: ~\n", "mode needs a single value"),
        ("desired: [a, b]\n", "desired needs a single value"),
        ("<<: {mode: observe}\n", "'<<' is not a setting."),
        ("? [a]\n: b\n", "is not a setting."),
        ("- mode: observe\n", "allocsync.yaml:1: the settings file is not a mapping. Try `mode: observe`."),
        ("mode: [\n", "cannot be read: line 2, column 1: "),
        ("mode: observe\n---\nmode: suspend\n", "cannot be read: line 2, column 1: "),
        (b"mode: \xff\n", "cannot be read: it is not UTF-8 text"),
        (b"mode: \x07\n", "cannot be read: it is not YAML"),
        ("a: " + "[" * 5000 + "]" * 5000, "cannot be read: it is nested too deeply"),
        ("#" * 1_000_001, "cannot be read: longer than 1000000 bytes"),
    ],
)
def test_a_mistake_in_the_file_is_reported_on_one_line(
    problems: Problems, file: str | bytes, expected: str
) -> None:
    (line,) = problems(file=file)

    assert expected in line


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    for file, why in ((tmp_path / "absent.yaml", "no such file or directory"), (tmp_path, "is a directory")):
        with pytest.raises(SettingsError) as caught:
            load_settings(file, {}, {}, secrets_directory=NOWHERE)
        assert str(caught.value) == f"the settings file {file} cannot be read: {why}"


@pytest.mark.parametrize("value", ["hunter2 hunter2", "*hunter2", "!hunter2!x", "'hunter2", "[hunter2]"])
def test_a_secret_in_the_file_is_never_shown(problems: Problems, value: str) -> None:
    lines = problems(file=f"api_token: {value}\n")

    assert len(lines) == 1
    assert "hunter2" not in lines[0]


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_give_printable_problems(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(data)
    problems: list[str] = []

    found = from_yaml(Settings.model_fields, file, problems)

    assert set(found) <= set(Settings.model_fields)
    assert all(line.isprintable() for line in problems)


def test_an_escape_beyond_unicode_is_reported(problems: Problems) -> None:
    (problem,) = problems(file='mode: "\\UFFFFFFFF"')
    assert "allocsync.yaml cannot be read" in problem
