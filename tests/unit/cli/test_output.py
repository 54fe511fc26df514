"""How commands write to a file: regular files as a whole, and others directly."""

import os
from pathlib import Path

import pytest

from allocsync.cli.output import write_text
from allocsync.errors import AllocsyncError


def test_a_file_behind_a_symbolic_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    link.symlink_to(file)
    for text in ("created\n", "replaced\n"):
        write_text(link, text)
        assert (link.is_symlink(), file.read_text()) == (True, text)


def test_a_pipe_is_written_directly_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    write_text(pipe, "through\n")
    assert os.read(end, 100) == b"through\n"
    os.close(end)
    assert pipe.is_fifo()


def test_a_directory_cannot_be_written_and_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(AllocsyncError, match=r"cannot be written: is a directory$"):
        write_text(tmp_path, "text\n")
