"""The files that one process sees, and what of them and of their names is on the disk.

The rules: a file is known by its inode, so a rename loses nothing. A name that was created or deleted is on
the disk once anything in the directory was synced, as with a journalling file system. After the process has
ended, its open files reach nothing.

Left out: what is wrong with the disk, and when (`disk`).
"""

import os
import random
from collections.abc import Callable
from typing import Protocol

from tests.simulation.disk.image import Image
from tests.simulation.disk.sqlite_shim import CANTOPEN, IOERR, OK, Call


class DiskPolicy(Protocol):
    """Decides what happens to a call."""

    def open_flags(self, flags: int) -> int:
        """Return the flags to open a file with: those given, or read-only ones."""

    def check_call(self, call: Call, image: Image | None, end: int) -> int:
        """Return SQLite's result code for a call, which may also end the process.

        `end` is the offset where a write will end.
        """


class Files:
    """The files in the directory `path`. Set `ended` when the process ends.

    Paths are text and `os` works on them: this runs some hundred times in each of thousands of schedules.
    """

    def __init__(self, policy: DiskPolicy, path: str, contents: dict[str, bytearray]) -> None:
        self.policy = policy
        self.path = path
        self.ended = False
        self.images: dict[int, Image] = {}
        self.created: set[Image] = set()  # their names may be lost
        self.deleted: dict[str, Image] = {}  # these may come back
        os.mkdir(path)  # noqa: PTH102 - see above
        write(path, contents)

    def open(self, path: str, perform: Callable[[int], int], flags: int) -> tuple[int, "OpenedFile | None"]:
        """Open a file with `perform(flags)`. Return SQLite's result code, and the open file if it worked."""
        if self.ended:
            return CANTOPEN, None
        new = not os.path.exists(path)  # noqa: PTH110 - see above
        code = perform(self.policy.open_flags(flags))
        if code != OK:
            return code, None
        image = self.image(path)
        image.open_count += 1
        if new:
            self.created.add(image)
        return OK, OpenedFile(self, image)

    def delete(self, path: str, perform: Callable[[], int], *, durably: bool) -> int:
        """Delete a file with `perform()`; a power cut may undo it. Return SQLite's result code."""
        code = self.check_call(Call.DELETE, None, 0)
        if code == OK:
            there = os.path.exists(path)  # noqa: PTH110 - see above
            image = self.image(path) if there else Image()
            code = perform()
            if there and code == OK and image not in self.created:
                self.deleted.setdefault(os.path.basename(path), image)  # noqa: PTH119 - see above
            if durably:
                self.sync_names()
        return code

    def check_call(self, call: Call, image: Image | None, end: int) -> int:
        """Return SQLite's result code for a call: an error once the process has ended."""
        if self.ended:
            return IOERR
        return self.policy.check_call(call, image, end)

    def image(self, path: str) -> Image:
        """The contents of a file. What was written while it was not open counts as synced."""
        inode = os.stat(path).st_ino  # noqa: PTH116 - see above
        image = self.images.get(inode)
        if image is None or not image.open_count:
            with open(path, "rb") as file:  # noqa: PTH123 - see above
                content = file.read()
            if image is None or image.cached != content:
                image = self.images[inode] = Image(content)
        return image

    def images_by_name(self) -> dict[str, Image]:
        """All files except shared memory, sorted by name."""
        names = sorted(
            entry.name
            for entry in os.scandir(self.path)
            if entry.is_file(follow_symlinks=False) and not entry.name.endswith("-shm")
        )
        return {name: self.image(f"{self.path}/{name}") for name in names}

    def take_over(self, before: "Files", images: dict[str, Image]) -> None:
        """Take over the files of the process that ended, with what of them is not synced yet."""
        for name, image in images.items():
            image.open_count = 0
            self.images[os.stat(f"{self.path}/{name}").st_ino] = image  # noqa: PTH116 - see above
        self.created, self.deleted = before.created, before.deleted

    def after_power_cut(self, rng: random.Random) -> dict[str, bytearray]:
        """What a power cut leaves, by file name."""
        images = self.images_by_name()
        images = {
            name: each for name, each in images.items() if each not in self.created or rng.random() < 0.5
        }
        for name, each in sorted(self.deleted.items()):
            if rng.random() < 0.5:
                images[name] = each
        return {name: image.after_power_cut(rng) for name, image in images.items()}

    def sync_names(self) -> None:
        """Make all created and deleted names permanent."""
        self.created.clear()
        self.deleted.clear()


class OpenedFile:
    """One opening of one file, by a process that runs or has ended."""

    __slots__ = ("_files", "_image")

    def __init__(self, files: Files, image: Image) -> None:
        self._files = files
        self._image = image

    def check(self, call: Call, end: int) -> int:
        """Return SQLite's result code for a call; `end` is the offset where a write will end."""
        return self._files.check_call(call, self._image, end)

    def on_write(self, offset: int, content: bytes) -> None:
        """Record a write."""
        self._image.write(offset, content)

    def on_truncate(self, size: int) -> None:
        """Record a truncate."""
        self._image.truncate(size)

    def on_sync(self) -> None:
        """Record a sync, which makes names permanent too."""
        self._image.sync()
        self._files.sync_names()

    def on_close(self) -> None:
        """Record that it was closed, unless the file belongs to the next process now."""
        if not self._files.ended:
            self._image.open_count -= 1


def write(directory: str, contents: dict[str, bytearray]) -> None:
    """Write these files, by name, into a directory."""
    for name, content in contents.items():
        with open(f"{directory}/{name}", "wb") as file:  # noqa: PTH123 - see above
            file.write(content)
