"""Temporary files of the processes under test go with the test."""

import tempfile

import pytest


@pytest.fixture(autouse=True)
def _temporary_files_go_with_the_test(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("states")))
