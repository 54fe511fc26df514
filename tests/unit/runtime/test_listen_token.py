"""The token of the listener: made once, private, and there only while it counts."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from allocsync.errors import SettingsError
from allocsync.runtime import listen_token

GIVEN = SecretStr("g" * 20)


def test_one_is_made_for_the_user_alone_and_kept(tmp_path: Path) -> None:
    token = listen_token.load_or_create(tmp_path, None)
    file = tmp_path / "listen_token"
    assert len(token) >= 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == token + "\n"
    assert listen_token.load_or_create(tmp_path, None) == token == listen_token.find(tmp_path, None)
    assert [each.name for each in tmp_path.iterdir()] == ["listen_token"]


def test_the_setting_wins_and_leaves_no_other_one_behind(tmp_path: Path) -> None:
    made = listen_token.load_or_create(tmp_path, None)
    assert listen_token.load_or_create(tmp_path, GIVEN) == GIVEN.get_secret_value()
    assert listen_token.find(tmp_path, GIVEN) == GIVEN.get_secret_value()
    assert listen_token.find(tmp_path, None) is None
    assert listen_token.load_or_create(tmp_path, None) != made


@pytest.mark.parametrize("content", ["", "short\n", "with space " * 9, "x" * 31, "ö" * 40])
def test_what_is_no_token_is_made_anew(tmp_path: Path, content: str) -> None:
    file = tmp_path / "listen_token"
    file.write_text(content)
    file.chmod(0o600)
    assert listen_token.find(tmp_path, None) is None
    assert listen_token.load_or_create(tmp_path, None) not in {content, content.strip()}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_one_that_others_may_read_is_made_anew(tmp_path: Path, mode: int) -> None:
    token = listen_token.load_or_create(tmp_path, None)
    (tmp_path / "listen_token").chmod(mode)
    assert listen_token.load_or_create(tmp_path, None) != token
    assert (tmp_path / "listen_token").stat().st_mode & 0o777 == 0o600


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("e" * 40)
    elsewhere.chmod(0o600)
    state = tmp_path / "state"
    state.mkdir()
    (state / "listen_token").symlink_to(elsewhere)
    assert listen_token.load_or_create(state, None) != "e" * 40
    assert elsewhere.read_text() == "e" * 40
    assert not (state / "listen_token").is_symlink()


def test_a_place_that_cannot_be_written_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere/listen_token: .* cannot be stored: no such file"):
        listen_token.load_or_create(tmp_path / "nowhere", None)
    assert listen_token.find(tmp_path / "nowhere", None) is None
