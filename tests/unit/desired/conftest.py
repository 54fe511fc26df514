"""Fixtures for desired state on a real disk: a directory of files, and a mounted ConfigMap."""

from collections.abc import Callable
from pathlib import Path

import pytest

from allocsync.desired import files
from allocsync.desired.loader import examine
from allocsync.model.desired_state import Desired, Mode


@pytest.fixture(name="write")
def _write(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes one file into the directory `allocations` and returns its path."""
    directory = tmp_path / "allocations"
    directory.mkdir()

    def write(text: str | bytes, name: str = "a.yaml") -> Path:
        file = directory / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


@pytest.fixture(name="messages")
def _messages(write: Callable[..., Path]) -> Callable[[str | bytes], list[str]]:
    """A function that writes a file and returns its errors, as `line:column: path: message`."""

    def messages(text: str | bytes) -> list[str]:
        file = write(text)
        examined = examine(files.read(file), default_mode=Mode.ENFORCE)
        return [str(problem).removeprefix(f"{file}:") for problem in examined.problems]

    return messages


@pytest.fixture(name="single")
def _single(write: Callable[..., Path]) -> Callable[[str], Desired]:
    """A function that writes a file without errors and returns its only allocation."""

    def single(text: str) -> Desired:
        examined = examine(files.read(write(text)), default_mode=Mode.ENFORCE)
        assert not examined.problems
        assert examined.loaded is not None
        (desired,) = examined.loaded.revision.allocations.values()
        return desired

    return single


class ConfigMap:
    """A directory that is updated as kubelet updates a mounted ConfigMap: one rename replaces all files.

    The steps of kubelet: create a new directory, create a link to it beside `..data`, rename the link to
    `..data`, add links for new names, remove links of old names, and remove the old directory file by file.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._number = 0
        directory.mkdir()

    def put(self, files: dict[str, str]) -> None:
        """Replace the content of the directory."""
        self._number += 1
        payload = self.directory / f"..2026_11_23_12_00_00.{self._number:09d}"
        payload.mkdir()
        for name, text in files.items():
            (payload / name).write_text(text)
        data = self.directory / "..data"
        before = data.resolve() if data.is_symlink() else None
        new = self.directory / "..data_tmp"
        new.symlink_to(payload.name)
        new.replace(data)
        for name in files:
            if not (self.directory / name).is_symlink():
                (self.directory / name).symlink_to(Path("..data") / name)
        for entry in self.directory.iterdir():
            if not entry.name.startswith("..") and entry.name not in files:
                entry.unlink()
        if before is not None:
            for entry in before.iterdir():
                entry.unlink()
            before.rmdir()


@pytest.fixture(name="config_map")
def _config_map(tmp_path: Path) -> ConfigMap:
    return ConfigMap(tmp_path / "mounted")
