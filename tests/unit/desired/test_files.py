"""Which files are read and under which names, and that a set is consistent."""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeAlias

import pytest

from allocsync.desired import files
from allocsync.desired.loader import examine
from allocsync.model.desired_state import Mode

Write: TypeAlias = Callable[..., Path]


class ConfigMap(Protocol):
    directory: Path

    def put(self, files: dict[str, str]) -> None: ...


def test_a_directory_is_read_in_order_without_hidden_and_other_files(write: Write) -> None:
    directory = write("1", "b.yaml").parent
    for name in ("a.yml", ".hidden.yaml", "c.yaml.bak", "README.md", "c.YAML"):
        write(name, name)
    found = files.read(directory)
    assert [(file.name, file.data) for file in found.files] == [
        (str(directory / "a.yml"), b"a.yml"),
        (str(directory / "b.yaml"), b"1"),
    ]


def test_a_file_may_have_any_name(write: Write) -> None:
    (file,) = files.read(write("x", "desired.txt")).files
    assert file.data == b"x"


def test_file_names_stay_as_the_user_gave_them(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write("x")
    monkeypatch.chdir(file.parent.parent)
    assert files.read(Path("allocations")).files[0].name == "allocations/a.yaml"
    assert files.read(Path("allocations/a.yaml")).files[0].name == "allocations/a.yaml"


@pytest.mark.skipif(not Path("/proc/filesystems").is_file(), reason="this system has no /proc")
def test_a_file_that_reports_no_size_is_read_completely() -> None:
    file_without_size = Path("/proc/filesystems")
    assert file_without_size.stat().st_size == 0
    (file,) = files.read(file_without_size).files
    assert file.data == file_without_size.read_bytes() != b""


def test_a_missing_path_is_reported(tmp_path: Path) -> None:
    found = files.read(tmp_path / "nowhere")
    assert found.error.startswith("no such file or directory; create it")
    (problem,) = examine(found, default_mode=Mode.ENFORCE).problems
    assert str(problem).startswith(f"{tmp_path}/nowhere:1:1: no such file or directory")


def test_a_directory_without_yaml_files_is_reported(tmp_path: Path) -> None:
    assert files.read(tmp_path).error == "this directory has no *.yaml or *.yml file"


def test_a_pipe_a_directory_and_a_dangling_link_are_reported_without_blocking(write: Write) -> None:
    directory = write("x").parent
    os.mkfifo(directory / "pipe.yaml")
    (directory / "sub.yaml").mkdir()
    (directory / "link.yaml").symlink_to("nowhere")
    errors = {Path(file.name).name: file.error for file in files.read(directory).files}
    assert errors == {
        "a.yaml": "",
        "link.yaml": "this file cannot be read: no such file or directory",
        "pipe.yaml": "this is not a regular file; only regular files are read",
        "sub.yaml": "this is not a regular file; only regular files are read",
    }


def test_circular_links_are_reported(write: Write, tmp_path: Path) -> None:
    directory = write("x").parent
    (directory / "b.yaml").symlink_to("c.yaml")
    (directory / "c.yaml").symlink_to("b.yaml")
    errors = [file.error for file in files.read(directory).files]
    assert errors == ["", *["this file cannot be read: too many levels of symbolic links"] * 2]
    (tmp_path / "circle").symlink_to("circle")
    (single,) = files.read(tmp_path / "circle").files
    assert single.error == "this file cannot be read: too many levels of symbolic links"


def test_a_directory_removed_while_it_is_listed_is_reported(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = write("x").parent
    listed: list[Path] = []

    def vanish(path: Path) -> Iterator[Path]:
        listed.append(path)
        shutil.rmtree(path)
        return iter(os.scandir(path))  # type: ignore[arg-type] # raises before it returns anything

    monkeypatch.setattr(Path, "iterdir", vanish)
    found = files.read(directory)
    assert listed
    assert found.error == "this directory cannot be read: no such file or directory"


def test_a_file_above_the_size_limit_is_reported(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 3)
    (fits,) = files.read(write("abc")).files
    assert (fits.data, fits.error) == (b"abc", "")
    (file,) = files.read(write("abcd")).files
    assert (file.data, file.error) == (b"", "this file is longer than 0 MiB; split it")


def test_a_file_name_that_is_not_utf_8_can_be_shown_and_fingerprinted(write: Write) -> None:
    directory = write("x").parent
    Path(os.fsdecode(os.fsencode(directory) + b"/\xff.yaml")).write_text("{")
    found = files.read(directory)
    assert found.fingerprint()
    for problem in examine(found, default_mode=Mode.ENFORCE).problems:
        assert str(problem).isprintable()


def test_the_fingerprint_covers_names_contents_and_errors() -> None:
    sets = [
        files.FileSet("d"),
        files.FileSet("d", error="gone"),
        files.FileSet("d", (files.File("a", b"x"),)),
        files.FileSet("d", (files.File("b", b"x"),)),
        files.FileSet("d", (files.File("a", b"y"),)),
        files.FileSet("d", (files.File("a", error="x"),)),
        files.FileSet("d", (files.File("a", b"x"), files.File("b", b""))),
        files.FileSet("d", (files.File("a", b""), files.File("b", b"x"))),
    ]
    assert len({found.fingerprint() for found in sets}) == len(sets)


# A mounted ConfigMap.


def test_a_mounted_config_map_is_read_under_its_visible_names(config_map: ConfigMap) -> None:
    config_map.put({"a.yaml": "1", "b.txt": "2"})
    expected = [(str(config_map.directory / "a.yaml"), b"1")]
    assert [(file.name, file.data) for file in files.read(config_map.directory).files] == expected
    single = files.read(config_map.directory / "a.yaml")
    assert [(file.name, file.data) for file in single.files] == expected


def test_during_a_config_map_update_new_names_count_and_old_ones_do_not(config_map: ConfigMap) -> None:
    config_map.put({"old.yaml": "1", "a.yaml": "1"})
    config_map.put({"new.yaml": "2", "a.yaml": "2"})
    # Just after the rename: the links of old names still exist, and those of new names do not yet.
    (config_map.directory / "new.yaml").unlink()
    (config_map.directory / "old.yaml").symlink_to("..data/old.yaml")
    names = [Path(file.name).name for file in files.read(config_map.directory).files]
    assert names == ["a.yaml", "new.yaml"]


def test_a_regular_file_beside_the_links_of_a_config_map_is_read(config_map: ConfigMap) -> None:
    config_map.put({"a.yaml": "1"})
    (config_map.directory / "own.yaml").write_text("2")
    assert [file.data for file in files.read(config_map.directory).files] == [b"1", b"2"]


def test_a_directory_is_read_through_a_link(write: Write, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(write("x").parent)
    (file,) = files.read(tmp_path / "current").files
    assert (file.name, file.data) == (str(tmp_path / "current" / "a.yaml"), b"x")


@pytest.mark.parametrize("single", [False, True], ids=["directory", "single file"])
def test_a_set_replaced_during_the_read_never_mixes_old_and_new_content(
    config_map: ConfigMap, *, single: bool
) -> None:
    names = [f"{letter}.yaml" for letter in "abcdef"]

    def put(number: int) -> None:
        config_map.put(dict.fromkeys(names[: 3 + number % 3], f"{number}\n" * 3))

    put(0)
    stop = threading.Event()
    replacements = [0]

    def keep_replacing() -> None:
        while not stop.is_set():
            replacements[0] += 1
            put(replacements[0])

    thread = threading.Thread(target=keep_replacing)
    thread.start()
    seen: set[bytes] = set()
    try:
        while len(seen) < 20:
            found = files.read(config_map.directory / "a.yaml" if single else config_map.directory)
            if found.error:
                assert found.error == "this was replaced repeatedly while it was being read"
                continue
            assert [file for file in found.files if file.error] == []
            contents = {file.data for file in found.files}
            assert len(contents) == 1
            number = int(next(iter(contents)).split()[0])
            assert len(found.files) == (1 if single else 3 + number % 3)
            seen |= contents
    finally:
        stop.set()
        thread.join()


@contextmanager
def unprivileged() -> Iterator[None]:
    """Run the context without root's permission to read everything, as user 65534."""
    original_user = os.geteuid()
    if original_user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(original_user)


def test_missing_permissions_are_reported_for_the_file_or_the_directory(write: Write) -> None:
    file = write("x")
    directory = file.parent
    below = len(Path(tempfile.gettempdir()).parents) + 1
    # Other users cannot enter the directories that pytest creates.
    for parent in list(directory.parents)[:-below]:
        parent.chmod(0o755)
    directory.chmod(0o755)
    file.chmod(0)
    with unprivileged():
        (found,) = files.read(directory).files
    assert found.error == "this file cannot be read: permission denied"
    directory.chmod(0)
    with unprivileged():
        error = files.read(directory).error
    directory.chmod(0o700)
    assert error == "this cannot be read: permission denied"
