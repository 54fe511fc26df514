"""The files of one process, from its start to its end: what is on the disk of each, names included.

The rules: a file is known by its inode, so that a rename loses nothing; a name that was made or deleted is
certain once anything in the directory was synced, as with a journalling file system; once the process is
over, what still has a file open reaches nothing.

Left out: what is wrong with the disk, and when (`disk`).
"""

import os
import random
from collections.abc import Callable
from typing import Protocol

from tests.simulation.disk.image import Image
from tests.simulation.disk.sqlite_shim import CANTOPEN, IOERR, OK, Call


class Judge(Protocol):
    """Who says what becomes of a call."""

    def opens(self, flags: int) -> int:
        """Give the flags that a file is opened with in fact."""

    def answer(self, call: Call, image: Image | None, end: int) -> int:
        """Allow a call or refuse it, as when it ends the process; `end` is where a write will end."""


class Files:
    """What lies in the directory `path`. Set `over` when the process ends.

    Paths are text and `os` works on them: this runs some hundred times in each of very many schedules.
    """

    def __init__(self, judge: Judge, path: str, contents: dict[str, bytearray]) -> None:
        self.judge = judge
        self.path = path
        self.over = False
        self.images: dict[int, Image] = {}
        self.made: set[Image] = set()  # their names are not certain
        self.deleted: dict[str, Image] = {}  # nor is it that these are gone
        os.mkdir(path)  # noqa: PTH102 - see above
        write(path, contents)

    def open(self, path: str, perform: Callable[[int], int], flags: int) -> tuple[int, "OpenedFile | None"]:
        """Open a file, so that what becomes of it is known."""
        if self.over:
            return CANTOPEN, None
        new = not os.path.exists(path)  # noqa: PTH110 - see above
        code = perform(self.judge.opens(flags))
        if code != OK:
            return code, None
        image = self.image(path)
        image.openings += 1
        if new:
            self.made.add(image)
        return OK, OpenedFile(self, image)

    def delete(self, path: str, perform: Callable[[], int], *, durably: bool) -> int:
        """Delete a file, which a power cut may undo."""
        code = self.answer(Call.DELETE, None, 0)
        if code == OK:
            there = os.path.exists(path)  # noqa: PTH110 - see above
            image = self.image(path) if there else Image()
            code = perform()
            if there and code == OK and image not in self.made:
                self.deleted.setdefault(os.path.basename(path), image)  # noqa: PTH119 - see above
            if durably:
                self.names_are_certain()
        return code

    def answer(self, call: Call, image: Image | None, end: int) -> int:
        """What SQLite is told when a call begins."""
        if self.over:
            return IOERR
        return self.judge.answer(call, image, end)

    def image(self, path: str) -> Image:
        """What is known of a file. What somebody else wrote to it since it was closed is on the disk."""
        inode = os.stat(path).st_ino  # noqa: PTH116 - see above
        image = self.images.get(inode)
        if image is None or not image.openings:
            with open(path, "rb") as file:  # noqa: PTH123 - see above
                content = file.read()
            if image is None or image.cached != content:
                image = self.images[inode] = Image(content)
        return image

    def images_by_name(self) -> dict[str, Image]:
        """All files but shared memory, in the order of their names."""
        names = sorted(
            entry.name
            for entry in os.scandir(self.path)
            if entry.is_file(follow_symlinks=False) and not entry.name.endswith("-shm")
        )
        return {name: self.image(f"{self.path}/{name}") for name in names}

    def take_over(self, before: "Files", images: dict[str, Image]) -> None:
        """What was not certain before the process ended is not certain after it."""
        for name, image in images.items():
            image.openings = 0
            self.images[os.stat(f"{self.path}/{name}").st_ino] = image  # noqa: PTH116 - see above
        self.made, self.deleted = before.made, before.deleted

    def after_power_cut(self, chance: random.Random) -> dict[str, bytearray]:
        """What a power cut leaves of each file."""
        images = self.images_by_name()
        images = {
            name: each for name, each in images.items() if each not in self.made or chance.random() < 0.5
        }
        for name, each in sorted(self.deleted.items()):
            if chance.random() < 0.5:
                images[name] = each
        return {name: image.after_power_cut(chance) for name, image in images.items()}

    def names_are_certain(self) -> None:
        """The directory is as it is on the disk too."""
        self.made.clear()
        self.deleted.clear()


class OpenedFile:
    """One opening of one file by the process that lives, or by one that is over."""

    __slots__ = ("_files", "_image")

    def __init__(self, files: Files, image: Image) -> None:
        self._files = files
        self._image = image

    def begins(self, call: Call, end: int) -> int:
        """Allow the call or refuse it."""
        return self._files.answer(call, self._image, end)

    def wrote(self, offset: int, content: bytes) -> None:
        """Note it."""
        self._image.write(offset, content)

    def truncated(self, size: int) -> None:
        """Note it."""
        self._image.truncate(size)

    def synced(self) -> None:
        """Note it, and that names are certain with it."""
        self._image.sync()
        self._files.names_are_certain()

    def closed(self) -> None:
        """Note it, unless the file has gone over to the next process."""
        if not self._files.over:
            self._image.openings -= 1


def write(directory: str, contents: dict[str, bytearray]) -> None:
    """Write these files, by name."""
    for name, content in contents.items():
        with open(f"{directory}/{name}", "wb") as file:  # noqa: PTH123 - see above
            file.write(content)
