"""Fixtures that load settings from the environment and the secrets of the test only."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import pytest

from allocsync.errors import SettingsError
from allocsync.settings.loader import load_settings
from allocsync.settings.model import Settings

Load: TypeAlias = Callable[..., Settings]
Problems: TypeAlias = Callable[..., list[str]]


@pytest.fixture(name="load")
def _load(tmp_path: Path) -> Load:
    secrets = tmp_path / "run-secrets"
    secrets.mkdir()

    def load(
        *,
        file: str | bytes | None = None,
        flags: Mapping[str, object] | None = None,
        env: Mapping[str, str] | None = None,
        secret_files: Mapping[str, str] | None = None,
        existing: tuple[str, ...] = (),
    ) -> Settings:
        config = None
        if file is not None:
            config = tmp_path / "allocsync.yaml"
            config.write_bytes(file if isinstance(file, bytes) else file.encode())
        for name, text in (secret_files or {}).items():
            (secrets / name).write_text(text)
        return load_settings(config, flags or {}, env or {}, existing=existing, secrets_directory=secrets)

    return load


@pytest.fixture(name="problems")
def _problems(load: Load) -> Problems:
    def problems(**given: object) -> list[str]:
        with pytest.raises(SettingsError) as caught:
            load(**given)
        assert caught.value.exit_code == 78
        return str(caught.value).splitlines()

    return problems
