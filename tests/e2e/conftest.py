"""Temporary files of the processes under test are removed with the test."""

import tempfile

import pytest


@pytest.fixture(autouse=True)
def _keep_temporary_files_in_the_test_directory(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("states")))
