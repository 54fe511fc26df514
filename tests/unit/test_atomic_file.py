"""A file is there whole or not at all, and only for whom it is meant."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from allocsync import atomic_file

ONE, OTHER = b"a" * 1_000_000, b"b" * 1_000_000
FULL = Path("/dev/full")


def test_who_reads_it_while_it_is_written_anew_never_sees_half(tmp_path: Path) -> None:
    file = tmp_path / "file"
    atomic_file.write(file, ONE)
    stop, seen = threading.Event(), set[bytes]()

    def read() -> None:
        while not stop.is_set():
            seen.add(file.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(200):
        atomic_file.write(file, OTHER)
        atomic_file.write(file, ONE)
        if len(seen) > 1:
            break
    stop.set()
    reader.join()
    assert seen == {ONE, OTHER}
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_what_a_full_disk_cannot_take_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    atomic_file.write(file, ONE)
    opened = _every_new_file_is(FULL, monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        atomic_file.write(file, OTHER)
    assert opened() == 1
    assert file.read_bytes() == ONE


def test_what_somebody_left_beside_it_is_not_written_to(tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "file", tmp_path / "elsewhere"
    elsewhere.write_bytes(b"of somebody else")
    (tmp_path / f".file.{os.getpid()}.new").symlink_to(elsewhere)
    atomic_file.write(file, ONE, mode=atomic_file.OWNER)
    assert elsewhere.read_bytes() == b"of somebody else"
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (ONE, 0o600)


def _every_new_file_is(file: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """What is opened to be made is this one instead; gives how often that was."""
    real, times = os.open, []

    def instead(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            times.append(path)
            return real(file, os.O_WRONLY)
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", instead)
    return lambda: len(times)
