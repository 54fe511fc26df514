"""Loading settings: defaults, precedence, and the messages for wrong values."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.errors import SettingsError
from allocsync.model.desired_state import Mode
from allocsync.settings.loader import load_settings
from allocsync.settings.model import Settings, is_secret
from allocsync.settings.validators import parse_listen

Load: TypeAlias = Callable[..., Settings]
Problems: TypeAlias = Callable[..., list[str]]
NOWHERE = Path("/nonexistent/secrets")


def test_settings_have_the_documented_defaults(load: Load) -> None:
    settings = load()

    assert settings.api_url == "http://localhost:1000"
    assert settings.desired == Path("/etc/allocsync/allocations")
    assert settings.listen == "127.0.0.1:9847"
    assert settings.mode is Mode.ENFORCE
    assert settings.resync_seconds is None
    assert settings.concurrency_max is None
    assert settings.bulk == "auto"
    assert settings.settle_seconds == 10
    assert (settings.log_format, settings.log_level) == ("auto", "info")
    assert settings.api_token is None
    assert settings.application_id is None


def test_a_settings_object_does_not_read_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("mode", "suspend")
    monkeypatch.setenv("ALLOCSYNC_MODE", "suspend")

    assert Settings().mode is Mode.ENFORCE


def test_each_place_overrides_the_places_below_it(load: Load, tmp_path: Path) -> None:
    # The uppermost place is removed, one after the other.
    flags, env = {"api_url": "http://flag"}, {"ALLOCSYNC_API_URL": "http://env"}
    secret, file = {"allocsync_api_url": "http://secret\n"}, "api_url: http://file"

    assert load(flags=flags, env=env, secret_files=secret, file=file).api_url == "http://flag"
    assert load(env=env, file=file).api_url == "http://env"
    assert load(file=file).api_url == "http://secret"
    (tmp_path / "run-secrets" / "allocsync_api_url").unlink()
    assert load(file=file).api_url == "http://file"
    assert load().api_url == "http://localhost:1000"


def test_systemd_credentials_override_run_secrets(load: Load, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "allocsync_api_token").write_text("from-systemd\n")

    settings = load(
        secret_files={"allocsync_api_token": "from-run", "allocsync_application_id": "app"},
        env={"CREDENTIALS_DIRECTORY": str(credentials)},
    )

    assert settings.api_token is not None
    assert settings.api_token.get_secret_value() == "from-systemd"
    assert settings.application_id is not None
    assert settings.application_id.get_secret_value() == "app"


def test_an_overridden_value_is_not_validated(load: Load) -> None:
    assert load(flags={"mode": "observe"}, env={"ALLOCSYNC_MODE": "nonsense"}).mode is Mode.OBSERVE


def test_an_empty_variable_counts_as_not_set(load: Load) -> None:
    assert load(env={"ALLOCSYNC_MODE": "", "ALLOCSYNC_API_TOKEN": "", "ALLOCSYNC_CONFIG": ""}) == Settings()


def test_variables_of_a_kubernetes_service_are_ignored(load: Load) -> None:
    assert load(env={"ALLOCSYNC_PORT": "tcp://10.0.0.1:9847", "ALLOCSYNC_SERVICE_HOST": "x"}) == Settings()


def test_the_documented_error_message(problems: Problems) -> None:
    (line,) = problems(env={"ALLOCSYNC_RESYNC_SECONDS": "1min"})

    assert line.startswith("ALLOCSYNC_RESYNC_SECONDS=1min is not a number of seconds")
    assert line.endswith("(from the environment). Try 60.")


def test_all_mistakes_are_reported_at_once(problems: Problems) -> None:
    lines = problems(
        flags={"mode": "enforced"},
        env={"ALLOCSYNC_RESYNC_SECONDS": "1min", "ALLOCSYNC_DESIRED": "/nowhere/at/all"},
        secret_files={"allocsync_api_token": "two words"},
        file="bulk: sometimes\nregoin: eu\n",
        existing=("desired",),
    )

    starts = [
        "ALLOCSYNC_MODE=enforced is",
        "ALLOCSYNC_RESYNC_SECONDS=1min is",
        "ALLOCSYNC_BULK=sometimes is",
        "ALLOCSYNC_API_TOKEN is not",
        "ALLOCSYNC_DESIRED=/nowhere/at/all: no such file",
    ]
    assert sum("'regoin' is not a setting" in line for line in lines) == 1
    assert all(any(line.startswith(start) for line in lines) for start in starts)
    assert len(lines) == len(starts) + 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("api_url", "ftp://host"),
        ("api_url", "localhost:1000"),
        ("api_url", "http://"),
        ("api_url", "http://[::1"),
        ("api_url", "http://host:70000"),
        ("api_url", "http://host/?query"),
        ("api_url", "http://host/#fragment"),
        ("api_url", "http://ho st"),
        ("desired", ""),
        ("desired", "a\0b"),
        ("listen", "9847"),
        ("listen", ":9847"),
        ("listen", "127.0.0.1:65536"),
        ("listen", "127.0.0.1:-1"),
        ("listen", "::1:9847"),
        ("listen", "127.0.0.1:٣"),
        ("mode", "Enforce"),
        ("resync_seconds", "0"),
        ("resync_seconds", "-1"),
        ("resync_seconds", "inf"),
        ("resync_seconds", "nan"),
        ("concurrency_max", "0"),
        ("concurrency_max", "2.5"),
        ("bulk", "yes"),
        ("settle_seconds", "4.9"),
        ("settle_seconds", "181"),
        ("log_format", "xml"),
        ("log_level", "loud"),
    ],
)
def test_a_wrong_value_is_reported_with_a_hint_that_is_valid(
    problems: Problems, name: str, value: str
) -> None:
    (line,) = problems(flags={name: value})

    assert line.startswith(f"ALLOCSYNC_{name.upper()}=")
    assert f"(from the flag --{name.replace('_', '-')}). Try " in line
    hint = line.rpartition("Try ")[2].removesuffix(".")
    load_settings(None, {name: hint}, {}, secrets_directory=NOWHERE)  # the hint itself is valid


def test_a_misspelt_choice_gets_the_closest_one_as_hint(problems: Problems) -> None:
    assert problems(flags={"mode": "suspended"})[0].endswith("Try suspend.")


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:9847", "0.0.0.0:1", "localhost:65535"])
def test_valid_listen_addresses_are_accepted(load: Load, listen: str) -> None:
    assert load(flags={"listen": listen}).listen == listen


def test_a_trailing_slash_of_the_url_is_removed(load: Load) -> None:
    assert (
        load(flags={"api_url": "https://api.example:8443/base/"}).api_url == "https://api.example:8443/base"
    )


def test_no_error_and_no_repr_contains_a_secret(problems: Problems, load: Load) -> None:
    wrong = "hunter2 hunter2"
    lines = problems(
        env={"ALLOCSYNC_API_TOKEN": wrong},
        secret_files={"allocsync_application_id": wrong},
        flags={"api_url": "http://me:hunter2@host"},
    )

    assert len(lines) == 3
    assert "hunter2" not in "\n".join(lines)
    assert "hunter3" not in repr(
        load(env={"ALLOCSYNC_API_TOKEN": "hunter3"}, secret_files={"allocsync_application_id": "x"})
    )


def test_exactly_the_tokens_and_the_application_id_are_secrets() -> None:
    assert [name for name in Settings.model_fields if is_secret(name)] == [
        "listen_token",
        "api_token",
        "application_id",
    ]


def test_an_unreadable_secret_file_is_an_error(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "run-secrets" / "allocsync_api_token").mkdir()

    (line,) = problems()
    assert line.startswith("ALLOCSYNC_API_TOKEN: cannot read ")
    assert line.endswith("allocsync_api_token: is a directory")


def test_a_missing_default_path_is_reported_as_the_default(tmp_path: Path) -> None:
    if Settings().desired.exists():
        pytest.skip("this machine has the default path")
    with pytest.raises(SettingsError, match=r"no such file or directory \(the default\)\. Create it, or see"):
        load_settings(None, {}, {}, existing=("desired",), secrets_directory=tmp_path)


def test_without_a_named_file_the_default_file_is_read_if_it_exists(tmp_path: Path) -> None:
    default, named = tmp_path / "allocsync.yaml", tmp_path / "named.yaml"
    load = partial(load_settings, secrets_directory=tmp_path / "none", default_file=default)
    assert load(None, {}, {}).listen == Settings().listen

    default.write_text("listen: 127.0.0.1:9001\n")
    named.write_text("listen: 127.0.0.1:9002\n")
    assert load(None, {}, {}).listen == "127.0.0.1:9001"
    assert load(named, {}, {}).listen == "127.0.0.1:9002"
    assert load(None, {}, {"ALLOCSYNC_CONFIG": str(named)}).listen == "127.0.0.1:9002"
    assert load(None, {}, {"ALLOCSYNC_LISTEN": "[::1]:1"}).listen == "[::1]:1"


@given(st.sampled_from(sorted(Settings.model_fields)), st.text(min_size=1))
def test_any_value_is_accepted_or_reported_on_one_line(name: str, value: str) -> None:
    try:
        load_settings(None, {name: value}, {}, secrets_directory=NOWHERE)
    except SettingsError as error:
        line = str(error)
        assert line.splitlines() == [line]
        assert line.isprintable()
        line.encode()


@given(st.text())
def test_any_listen_text_is_parsed_or_rejected(text: str) -> None:
    try:
        host, port = parse_listen(text)
    except ValueError:
        return
    assert host
    assert 0 <= port <= 65535


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_address_and_port_is_a_valid_listen_value(address: object, port: int) -> None:
    host = f"[{address}]" if ":" in str(address) else str(address)

    assert parse_listen(f"{host}:{port}") == (str(address), port)


def test_a_path_that_the_system_rejects_is_reported(problems: Problems) -> None:
    (problem,) = problems(env={"ALLOCSYNC_DESIRED": "/x" + "y" * 300}, existing=("desired",))
    assert ": file name too long (" in problem
    assert "Give this user access to it" in problem


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h/?token=SECRET", "http://h/…"),
        ("http://h/#SECRET", "http://h/…"),
        ("h?token=SECRET", "h…"),
        ("http://u:SECRET@h/?a=b", "…@h/…"),
        ("http://u:SECRET@h/?a=SECRET@b", "…"),
        ("http://u:SEC#RET@h/", "…"),
        ("http://u:SEC?RET@h/", "…"),
    ],
)
def test_parts_of_a_url_that_may_be_secret_are_not_shown(problems: Problems, url: str, expected: str) -> None:
    (problem,) = problems(env={"ALLOCSYNC_API_URL": url})
    assert problem.startswith(f"ALLOCSYNC_API_URL={expected} is not ")
    assert "SEC" not in problem


def test_a_value_that_is_not_a_url_is_shown_completely(problems: Problems) -> None:
    (problem,) = problems(env={"ALLOCSYNC_RESYNC_SECONDS": "60 # a minute"})
    assert problem.startswith("ALLOCSYNC_RESYNC_SECONDS=60 # a minute is not ")
