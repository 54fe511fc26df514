"""A simulated disk below the journal: it can fail, be cut from power, and outlive a killed process.

    with SqliteShim() as shim, Disk(shim) as disk:
        file, _ = JournalFile.open(disk.directory, wall=wall)
        disk.cut_power(random.Random(1))
        file.close()  # the process has ended: this reaches nothing
        file, left = JournalFile.open(disk.directory, wall=wall)

The rules: after a crash of the process, everything it wrote is there. After a power cut, what was synced is
there, and any part of what was written since. In both cases `directory` becomes another directory, and a file
of the old one that is still open changes nothing, since SQLite checkpoints when a connection is closed,
however late that is.

Left out: writes of other programs and renames are on the disk at once. Shared memory never outlives its
process and has no faults. A write that fails has written nothing. What one file holds (`image`) and what one
process sees of the directory (`files`).
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

    FULL = auto()  # a file cannot grow; existing bytes can be overwritten
    IO_ERROR = auto()
    READ_ONLY = auto()  # a file opened meanwhile stays read-only while it is open
    SYNC_ERROR = auto()  # a sync fails; a later one may succeed, and covers everything written
    SYNC_LOST = auto()  # a sync fails and drops what it covered, as on Linux; readers still see it


_ERROR_CODES = {
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
    """The disk of one machine, usable while its context is open.

    `fault` is what is wrong now, or None. `fault_counts` counts the calls that failed, by fault; `calls`
    counts all calls that change or sync a file.
    """

    def __init__(self, shim: SqliteShim) -> None:
        self.fault: Fault | None = None
        self.fault_counts: Counter[Fault] = Counter()
        self.calls = 0
        self._shim = shim
        self._callback: tuple[int, Callable[[], object]] | None = None
        place = _MEMORY if _MEMORY.is_dir() else None
        self._root = os.path.realpath(tempfile.mkdtemp(prefix="disk-", dir=place))
        self._processes: list[Files] = []
        self._start_process({})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for files in self._processes:
            files.ended = True
            del self._shim.directories[files.path]
        shutil.rmtree(self._root)
        if error is None:
            self.check()

    @property
    def directory(self) -> Path:
        """The state directory of the process that runs now."""
        return Path(self._current.path)

    def check(self) -> None:
        """Raise the first error of SQLite's callbacks, including the callback of `call_back_at`.

        Raises:
            BaseException: the first error that was kept.
        """
        self._shim.check()

    def crash_process(self) -> Path:
        """End the process and keep everything it wrote. Return the directory of the next process."""
        before = self._current
        images = before.images_by_name()
        after = self._start_process({name: image.cached for name, image in images.items()})
        after.take_over(before, images)
        return self.directory

    def cut_power(self, rng: random.Random) -> Path:
        """End the process and keep what a power cut leaves. Return the directory of the next process."""
        self._start_process(self._current.after_power_cut(rng))
        return self.directory

    def power_cut_image(self, into: Path, rng: random.Random) -> None:
        """Write what a power cut would leave now into the directory `into`, and go on."""
        into.mkdir(parents=True, exist_ok=True)
        write(str(into), self._current.after_power_cut(rng))

    def call_back_at(self, call: int, callback: Callable[[], object]) -> None:
        """Call `callback` when the `call`-th call from now begins, before that call has any effect.

        Only calls that `calls` counts are counted. The callback may end the process or cut the power: then
        that call and all later calls of the old process fail. If the process ends earlier, the callback is
        dropped.
        """
        self._callback = (self.calls + call, callback)

    def corrupt(self, rng: random.Random, name: str = "journal.db", number: int = 1) -> list[int]:
        """Change `number` bytes of a file that nobody has open. Return their offsets."""
        path = self.directory / name
        content = bytearray(path.read_bytes())
        places = rng.sample(range(len(content)), number)
        for place in places:
            content[place] ^= rng.randrange(1, 256)
        path.write_bytes(content)
        return places

    def open_flags(self, flags: int) -> int:
        """Return the flags to open a file with: those given, or read-only ones."""
        if self.fault is not Fault.READ_ONLY or not flags & _OPEN_CHANGING:
            return flags
        self.fault_counts[Fault.READ_ONLY] += 1
        return flags & ~_OPEN_CHANGING | _OPEN_READONLY

    def check_call(self, call: Call, image: Image | None, end: int) -> int:
        """Return SQLite's result code for a call: `OK` to let it through, else an error.

        `image` is None when a file is deleted; `end` is the offset where a write will end.
        """
        self.calls += 1
        if self._callback is not None and self.calls == self._callback[0]:
            callback, self._callback = self._callback[1], None
            files = self._current
            callback()
            if files.ended:
                return IOERR
        fault = self.fault
        if fault is None or (fault is Fault.FULL and (image is None or end <= len(image.cached))):
            return OK
        code = _ERROR_CODES[fault].get(call, OK)
        if code != OK:
            self.fault_counts[fault] += 1
            if fault is Fault.SYNC_LOST and image is not None:
                image.drop_pending()
        return code

    @property
    def _current(self) -> Files:
        return self._processes[-1]

    def _start_process(self, contents: dict[str, bytearray]) -> Files:
        if self._processes:
            self._current.ended = True
        self._callback = None
        files = Files(self, f"{self._root}/{len(self._processes)}", contents)
        self._processes.append(files)
        self._shim.directories[files.path] = files
        return files
