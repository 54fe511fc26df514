"""A disk beneath the journal that can fail, and tells a process that was killed from a power cut.

    with SqliteShim() as shim, Disk(shim) as disk:
        file, _ = JournalFile.open(disk.directory, wall=wall)
        disk.cut_power(random.Random(1))
        file.close()  # of the dead: reaches nothing any more
        file, left = JournalFile.open(disk.directory, wall=wall)

The rules: after a crash of the process all that was written is there; after a power cut what was synced is,
and of what was written since any part. Either way `directory` becomes another one, and what still has a file
of the old one open can change nothing: SQLite checkpoints when a connection is closed, however late.

Left out: what SQLite does not write, and renames, are on the disk at once; shared memory never outlives
its process, and no fault strikes it; a write that fails has written nothing.
"""

import os.path
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.simulation.disk.files import Files, write
from tests.simulation.disk.image import Image
from tests.simulation.disk.sqlite_shim import (
    FULL,
    IOERR,
    IOERR_DELETE,
    IOERR_FSYNC,
    IOERR_TRUNCATE,
    IOERR_WRITE,
    OK,
    READONLY,
    Call,
    SqliteShim,
)

_MEMORY = Path("/dev/shm")  # noqa: S108 - only directories of our own making are used in it
_OPEN_READONLY, _OPEN_CHANGING = 0x1, 0x2 | 0x4 | 0x10  # READWRITE, CREATE, EXCLUSIVE


class Fault(Enum):
    """What is wrong with a disk."""

    FULL = auto()  # a file cannot grow; what it has can be written over
    IO_ERROR = auto()
    READ_ONLY = auto()  # also whoever opens a file then can only read it, for as long as it stays open
    SYNC_ERROR = auto()  # a sync fails; a later one may succeed, for all that was written
    SYNC_LOST = auto()  # a sync fails and what it was for is never written, as on Linux; readers see it still


_ANSWERS = {
    Fault.FULL: {Call.WRITE: FULL},
    Fault.IO_ERROR: {
        Call.WRITE: IOERR_WRITE,
        Call.TRUNCATE: IOERR_TRUNCATE,
        Call.SYNC: IOERR_FSYNC,
        Call.DELETE: IOERR_DELETE,
    },
    Fault.READ_ONLY: {Call.WRITE: READONLY, Call.TRUNCATE: READONLY, Call.DELETE: IOERR_DELETE},
    Fault.SYNC_ERROR: {Call.SYNC: IOERR_FSYNC},
    Fault.SYNC_LOST: {Call.SYNC: IOERR_FSYNC},
}


class Disk:
    """The disk of one machine, in use while its context is open. Set `fault` to break it, None to mend it.

    `faulted` counts the calls that a fault has struck, `calls` all that would change a file or sync it.
    """

    def __init__(self, shim: SqliteShim) -> None:
        self.fault: Fault | None = None
        self.faulted: Counter[Fault] = Counter()
        self.calls = 0
        self._shim = shim
        self._cut: tuple[int, Callable[[], object]] | None = None
        place = _MEMORY if _MEMORY.is_dir() else None
        self._root = os.path.realpath(tempfile.mkdtemp(prefix="disk-", dir=place))
        self._all: list[Files] = []
        self._begin({})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for files in self._all:
            files.over = True
            del self._shim.directories[files.path]
        shutil.rmtree(self._root)
        if error is None:
            self.check()

    @property
    def directory(self) -> Path:
        """The state directory of the process that lives now."""
        return Path(self._now.path)

    def check(self) -> None:
        """Raise what went wrong while SQLite was calling, the callback of `cut_at` included.

        Raises:
            BaseException: the first of it.
        """
        self._shim.check()

    def crash_process(self) -> Path:
        """Kill the process: all that it wrote is there. Returns the new directory."""
        before = self._now
        images = before.images_by_name()
        after = self._begin({name: image.cached for name, image in images.items()})
        after.take_over(before, images)
        return self.directory

    def cut_power(self, chance: random.Random) -> Path:
        """Cut the power and give it back. Returns the new directory."""
        self._begin(self._now.after_power_cut(chance))
        return self.directory

    def power_cut_image(self, into: Path, chance: random.Random) -> None:
        """Write what a power cut would leave now into a directory, and go on."""
        into.mkdir(parents=True, exist_ok=True)
        write(str(into), self._now.after_power_cut(chance))

    def cut_at(self, call: int, callback: Callable[[], object]) -> None:
        """Call back when the n-th of `calls` from now begins, which then has had no effect yet.

        The callback may end this process or cut the power: then that call and all later ones of the old
        process fail. A process that ends before takes the plan with it.
        """
        self._cut = (self.calls + call, callback)

    def flip(self, chance: random.Random, name: str = "journal.db", number: int = 1) -> list[int]:
        """Damage so many bytes of a file that nobody has open; returns where."""
        path = self.directory / name
        content = bytearray(path.read_bytes())
        places = chance.sample(range(len(content)), number)
        for place in places:
            content[place] ^= chance.randrange(1, 256)
        path.write_bytes(content)
        return places

    def opens(self, flags: int) -> int:
        """Give the flags that a file is opened with in fact."""
        if self.fault is not Fault.READ_ONLY or not flags & _OPEN_CHANGING:
            return flags
        self.faulted[Fault.READ_ONLY] += 1
        return flags & ~_OPEN_CHANGING | _OPEN_READONLY

    def answer(self, call: Call, image: Image | None, end: int) -> int:
        """Allow a call or refuse it; `end` is where a write will end."""
        self.calls += 1
        if self._cut is not None and self.calls == self._cut[0]:
            callback, self._cut = self._cut[1], None
            files = self._now
            callback()
            if files.over:
                return IOERR
        fault = self.fault
        if fault is None or (fault is Fault.FULL and (image is None or end <= len(image.cached))):
            return OK
        code = _ANSWERS[fault].get(call, OK)
        if code != OK:
            self.faulted[fault] += 1
            if fault is Fault.SYNC_LOST and image is not None:
                image.forget()
        return code

    @property
    def _now(self) -> Files:
        return self._all[-1]

    def _begin(self, contents: dict[str, bytearray]) -> Files:
        if self._all:
            self._now.over = True
        self._cut = None
        files = Files(self, f"{self._root}/{len(self._all)}", contents)
        self._all.append(files)
        self._shim.directories[files.path] = files
        return files
