"""A file is replaced in one step and keeps the permissions asked for."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from allocsync import atomic_file

ONE, OTHER = b"a" * 1_000_000, b"b" * 1_000_000
FULL = Path("/dev/full")


def test_a_reader_during_writes_sees_the_old_or_the_new_content_whole(tmp_path: Path) -> None:
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
def test_a_write_that_fails_on_a_full_disk_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    atomic_file.write(file, ONE)
    count_redirected = _redirect_new_files(FULL, monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        atomic_file.write(file, OTHER)
    assert count_redirected() == 1
    assert file.read_bytes() == ONE


def test_a_link_at_the_temporary_name_is_not_written_through(tmp_path: Path) -> None:
    file, other_file = tmp_path / "file", tmp_path / "other_file"
    other_file.write_bytes(b"of somebody else")
    (tmp_path / f".file.{os.getpid()}.new").symlink_to(other_file)
    atomic_file.write(file, ONE, mode=atomic_file.OWNER)
    assert other_file.read_bytes() == b"of somebody else"
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (ONE, 0o600)


def _redirect_new_files(file: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Make every creation of a file open this one; returns a function that counts them."""
    real_open, redirected = os.open, []

    def redirecting_open(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            redirected.append(path)
            return real_open(file, os.O_WRONLY)
        return real_open(path, flags, mode)

    monkeypatch.setattr(os, "open", redirecting_open)
    return lambda: len(redirected)
