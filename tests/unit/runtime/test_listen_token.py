"""The token for commands to the daemon: generated once, private, and removed if one is configured."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from allocsync.errors import SettingsError
from allocsync.runtime import listen_token

CONFIGURED = SecretStr("g" * 20)


def test_a_token_is_generated_once_and_only_its_user_can_read_it(tmp_path: Path) -> None:
    token = listen_token.load_or_create(tmp_path, None)
    file = tmp_path / "listen_token"
    assert len(token) >= 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == token + "\n"
    assert listen_token.load_or_create(tmp_path, None) == token == listen_token.find(tmp_path, None)
    assert [each.name for each in tmp_path.iterdir()] == ["listen_token"]


def test_a_configured_token_takes_precedence_and_the_generated_one_is_removed(tmp_path: Path) -> None:
    generated = listen_token.load_or_create(tmp_path, None)
    assert listen_token.load_or_create(tmp_path, CONFIGURED) == CONFIGURED.get_secret_value()
    assert listen_token.find(tmp_path, CONFIGURED) == CONFIGURED.get_secret_value()
    assert listen_token.find(tmp_path, None) is None
    assert listen_token.load_or_create(tmp_path, None) != generated


@pytest.mark.parametrize("content", ["", "short\n", "with space " * 9, "x" * 31, "ö" * 40])
def test_a_file_that_holds_no_valid_token_is_replaced(tmp_path: Path, content: str) -> None:
    file = tmp_path / "listen_token"
    file.write_text(content)
    file.chmod(0o600)
    assert listen_token.find(tmp_path, None) is None
    assert listen_token.load_or_create(tmp_path, None) not in {content, content.strip()}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_token_that_others_can_read_is_replaced(tmp_path: Path, mode: int) -> None:
    token = listen_token.load_or_create(tmp_path, None)
    (tmp_path / "listen_token").chmod(mode)
    assert listen_token.load_or_create(tmp_path, None) != token
    assert (tmp_path / "listen_token").stat().st_mode & 0o777 == 0o600


def test_a_symbolic_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("e" * 40)
    elsewhere.chmod(0o600)
    state = tmp_path / "state"
    state.mkdir()
    (state / "listen_token").symlink_to(elsewhere)
    assert listen_token.load_or_create(state, None) != "e" * 40
    assert elsewhere.read_text() == "e" * 40
    assert not (state / "listen_token").is_symlink()


def test_a_directory_that_cannot_be_written_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere/listen_token: .* cannot be stored: no such file"):
        listen_token.load_or_create(tmp_path / "nowhere", None)
    assert listen_token.find(tmp_path / "nowhere", None) is None
