"""The JSON Schema of the settings file accepts whatever the settings accept from a file."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from allocsync.errors import SettingsError
from allocsync.settings.json_schema import settings_schema
from allocsync.settings.loader import load_settings
from allocsync.settings.model import Settings, is_secret

SAMPLE = Path(__file__).parents[3] / "config" / "allocsync.yaml"
SCHEMA = Draft7Validator(settings_schema())
NOWHERE = Path("/nonexistent/secrets")


def read(text: str) -> object:
    """Read YAML as version 1.2 does, where only true and false are booleans."""
    return yaml.load(text.replace("off", "'off'").replace("on\n", "'on'\n"), Loader=yaml.SafeLoader)


def test_the_schema_is_valid_and_describes_every_setting() -> None:
    Draft7Validator.check_schema(settings_schema())
    properties = settings_schema()["properties"]
    assert isinstance(properties, dict)
    assert list(properties) == list(Settings.model_fields)
    for name, setting in properties.items():
        assert Settings.model_fields[name].description in setting["description"]
        assert ("deprecationMessage" in setting) is is_secret(name)


def test_the_sample_file_and_its_commented_values_match_the_schema() -> None:
    text = SAMPLE.read_text()
    SCHEMA.validate(read(text))
    with_commented_values = re.sub(r"^# (\w+: \S+)$", r"\1", text, flags=re.MULTILINE)
    document = read(with_commented_values)
    assert isinstance(document, dict)
    assert len(document) == len(Settings.model_fields) - sum(map(is_secret, Settings.model_fields))
    SCHEMA.validate(document)


@pytest.mark.parametrize(
    "file",
    [
        "resync_second: 60\n",
        "mode: enforced\n",
        "bulk: true\n",
        "settle_seconds: 4.9\n",
        "settle_seconds: 1min\n",
        "concurrency_max: 0\n",
        "concurrency_max: 2.5\n",
        "resync_seconds: 0\n",
        "resync_seconds: 604801\n",
        "api_url: localhost:1000\n",
        "listen: 9847\n",
        "listen: nowhere\n",
        "mode: ~\n",
        "desired: [a]\n",
        "api_token: two words\n",
        "- mode\n",
    ],
)
def test_the_settings_and_the_schema_reject_the_same_mistakes(
    problems: Callable[..., list[str]], file: str
) -> None:
    assert problems(file=file)
    assert not SCHEMA.is_valid(read(file))


numbers = st.from_regex(r"\s?[+-]?[0-9_]{1,3}(\.[0-9_]{0,2})?(e[+-]?[0-9])?\s?", fullmatch=True)
texts = st.one_of(
    st.text(),
    numbers,
    st.floats().map(str),
    st.from_regex(r"(?i)https?://[a-z@]{1,4}(:[0-9]{1,3})?/?[a-z@/]{0,4}", fullmatch=True),
    st.from_regex(r"[a-z:\[\]]{1,4}:[0-9]{1,5}", fullmatch=True),
    st.sampled_from(["enforce", "on", "off", "json", "info", "auto"]),
)


@given(st.sampled_from(sorted(Settings.model_fields)), texts)
@example("settle_seconds", "+60")
@example("concurrency_max", "1_00")
@example("resync_seconds", "1e2")
@example("resync_seconds", " 60.5 ")
def test_the_schema_accepts_every_valid_value_in_quotes(name: str, value: str) -> None:
    try:
        load_settings(None, {name: value}, {}, secrets_directory=NOWHERE)
    except SettingsError:
        return
    assert SCHEMA.is_valid({name: value})


@given(st.sampled_from(["resync_seconds", "settle_seconds", "concurrency_max"]), st.floats() | st.integers())
def test_the_settings_and_the_schema_agree_on_numbers(name: str, value: float) -> None:
    try:
        load_settings(None, {name: str(value)}, {}, secrets_directory=NOWHERE)
    except SettingsError:
        # A whole float is an integer to both if written in full; in exponent notation only to the schema.
        assert not SCHEMA.is_valid({name: value}) or math.isnan(value) or "e" in str(value)
    else:
        assert SCHEMA.is_valid({name: value})
