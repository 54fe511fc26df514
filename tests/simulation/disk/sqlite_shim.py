"""A layer between SQLite and its files, for everything that the standard library's `sqlite3` opens.

The rules: only calls that change a file go through Python; all others run in the VFS that was the default
before. Only files directly below a claimed directory are handled. No exception leaves a callback: it is kept
in `errors`, and SQLite gets an I/O error. The owner of a claimed directory may reject each call and is
notified of each that worked.

Left out: what a disk does with the calls (`disk`), and shared memory and memory-mapped reads, which no power
cut keeps.
"""

import ctypes
import importlib.util
import os
import sqlite3
from collections.abc import Callable
from ctypes import c_int, c_int64, c_void_p
from dataclasses import dataclass
from enum import Enum, auto
from types import TracebackType
from typing import ClassVar, Protocol, Self

OK, READONLY, IOERR, FULL, CANTOPEN = 0, 8, 10, 13, 14
IOERR_WRITE, IOERR_FSYNC, IOERR_TRUNCATE, IOERR_DELETE = (IOERR | kind << 8 for kind in (3, 4, 6, 10))

_OPEN = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_DELETE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
_CLOSE = ctypes.CFUNCTYPE(c_int, c_void_p)
_WRITE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_TRUNCATE = ctypes.CFUNCTYPE(c_int, c_void_p, c_int64)
_SYNC = ctypes.CFUNCTYPE(c_int, c_void_p, c_int)


class SimulatedDiskUnavailableError(RuntimeError):
    """The SQLite library inside this Python cannot be called from outside, so it gets no simulated disk."""


class _Vfs(ctypes.Structure):
    """`sqlite3_vfs`, version 3."""

    _fields_: ClassVar = [
        *((name, c_int) for name in ("iVersion", "szOsFile", "mxPathname")),
        *((name, c_void_p) for name in ("pNext", "zName", "pAppData", "xOpen", "xDelete", "xAccess")),
        *((name, c_void_p) for name in ("xFullPathname", "xDlOpen", "xDlError", "xDlSym", "xDlClose")),
        *((name, c_void_p) for name in ("xRandomness", "xSleep", "xCurrentTime", "xGetLastError")),
        *((name, c_void_p) for name in ("xCurrentTimeInt64", "xSetSystemCall", "xGetSystemCall")),
        ("xNextSystemCall", c_void_p),
    ]


class _Methods(ctypes.Structure):
    """`sqlite3_io_methods`, version 3."""

    _fields_: ClassVar = [
        ("iVersion", c_int),
        *((name, c_void_p) for name in ("xClose", "xRead", "xWrite", "xTruncate", "xSync", "xFileSize")),
        *((name, c_void_p) for name in ("xLock", "xUnlock", "xCheckReservedLock", "xFileControl")),
        *((name, c_void_p) for name in ("xSectorSize", "xDeviceCharacteristics", "xShmMap", "xShmLock")),
        *((name, c_void_p) for name in ("xShmBarrier", "xShmUnmap", "xFetch", "xUnfetch")),
    ]


class Call(Enum):
    """A call of SQLite that changes or syncs a file."""

    WRITE = auto()
    TRUNCATE = auto()
    SYNC = auto()
    DELETE = auto()


class OpenFile(Protocol):
    """One opening of one file. A result of `check` other than `OK` is passed to SQLite."""

    def check(self, call: Call, end: int) -> int:
        """Return `OK` to let the call through, else an error; `end` is the offset where a write will end."""

    def on_write(self, offset: int, content: bytes) -> None:
        """A write worked."""

    def on_truncate(self, size: int) -> None:
        """A truncate worked."""

    def on_sync(self) -> None:
        """A sync was let through."""

    def on_close(self) -> None:
        """The file is closed."""


class Directory(Protocol):
    """The owner of a claimed directory."""

    def open(self, path: str, perform: Callable[[int], int], flags: int) -> tuple[int, OpenFile | None]:
        """Open the file with `perform(flags)`, or reject it. Return the result code and the open file."""

    def delete(self, path: str, perform: Callable[[], int], *, durably: bool) -> int:
        """Delete the file with `perform()`, or reject it. Return SQLite's result code."""


@dataclass(frozen=True, slots=True)
class _Table:
    """A method table with our callbacks in it, and the original methods that they call."""

    ours: _Methods
    close: Callable[[int], int]
    write: Callable[[int, int, int, int], int]
    truncate: Callable[[int, int], int]


class SqliteShim:
    """The layer, active while its context is open; one is enough. `directories` has the claims, by path."""

    def __init__(self) -> None:
        self.directories: dict[str, Directory] = {}
        self.errors: list[BaseException] = []
        self._library = _library()
        self._below: int = self._library.sqlite3_vfs_find(None)
        below = _Vfs.from_address(self._below)
        self._open_below = _OPEN(below.xOpen)
        self._delete_below = _DELETE(below.xDelete)
        self._files: dict[int, tuple[OpenFile, _Table]] = {}
        self._tables: dict[int, _Table] = {}
        self._callbacks = {
            "xClose": _CLOSE(self._keep_errors(self._close)),
            "xWrite": _WRITE(self._keep_errors(self._write)),
            "xTruncate": _TRUNCATE(self._keep_errors(self._truncate)),
            "xSync": _SYNC(self._keep_errors(self._sync)),
        }
        self._open_callback = _OPEN(self._keep_errors(self._open))
        self._delete_callback = _DELETE(self._keep_errors(self._delete))
        self._vfs = _Vfs.from_buffer_copy(ctypes.string_at(self._below, ctypes.sizeof(_Vfs)))
        self._name = ctypes.create_string_buffer(b"simulated")
        self._vfs.zName = ctypes.addressof(self._name)
        self._vfs.pNext = None
        self._vfs.xOpen = ctypes.cast(self._open_callback, c_void_p)
        self._vfs.xDelete = ctypes.cast(self._delete_callback, c_void_p)

    def __enter__(self) -> Self:
        # Every connection opened from now on keeps a pointer to the structure, including unrelated ones that
        # stay open until the process ends. So the structure is never freed.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))
        self._library.sqlite3_vfs_register(ctypes.addressof(self._vfs), 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._library.sqlite3_vfs_unregister(ctypes.addressof(self._vfs))
        self._library.sqlite3_vfs_register(self._below, 1)

    def check(self) -> None:
        """Raise the first error that a callback kept.

        Raises:
            BaseException: the first error.
        """
        if self.errors:
            first = self.errors[0]
            self.errors.clear()
            raise first

    def _keep_errors(self, work: Callable[..., int]) -> Callable[..., int]:
        def callback(*arguments: int) -> int:
            try:
                return work(*arguments)
            except BaseException as error:  # noqa: BLE001 - ctypes would print it and tell SQLite that all is well
                self.errors.append(error)
                return IOERR

        return callback

    def _open(self, _vfs: int, name: int | None, file: int, flags: int, out_flags: int | None) -> int:
        def perform(flags: int) -> int:
            code: int = self._open_below(self._below, name, file, flags, out_flags)
            return code

        path = os.fsdecode(ctypes.string_at(name)) if name else ""
        directory = self.directories.get(path.rpartition("/")[0])
        if directory is None:
            return perform(flags)
        c_void_p.from_address(
            file
        ).value = None  # SQLite closes every file that has methods, even one it failed to open
        code, opened = directory.open(path, perform, flags)
        methods = c_void_p.from_address(file)
        if opened is not None and methods.value:
            table = self._table(methods.value)
            self._files[file] = (opened, table)
            methods.value = ctypes.addressof(table.ours)
        return code

    def _table(self, original: int) -> _Table:
        if original not in self._tables:
            ours = _Methods.from_buffer_copy(ctypes.string_at(original, ctypes.sizeof(_Methods)))
            self._tables[original] = _Table(
                ours,
                close=_CLOSE(ours.xClose),
                write=_WRITE(ours.xWrite),
                truncate=_TRUNCATE(ours.xTruncate),
            )
            for name, callback in self._callbacks.items():
                setattr(ours, name, ctypes.cast(callback, c_void_p))
        return self._tables[original]

    def _delete(self, _vfs: int, name: int, sync_directory: int) -> int:
        def perform() -> int:
            code: int = self._delete_below(self._below, name, sync_directory)
            return code

        path = os.fsdecode(ctypes.string_at(name))
        directory = self.directories.get(path.rpartition("/")[0])
        if directory is None:
            return perform()
        return directory.delete(path, perform, durably=bool(sync_directory))

    def _close(self, file: int) -> int:
        opened, table = self._files.pop(file)
        opened.on_close()
        return table.close(file)

    def _write(self, file: int, data: int, amount: int, offset: int) -> int:
        opened, table = self._files[file]
        code = opened.check(Call.WRITE, offset + amount) or table.write(file, data, amount, offset)
        if code == OK:
            opened.on_write(offset, ctypes.string_at(data, amount))
        return code

    def _truncate(self, file: int, size: int) -> int:
        opened, table = self._files[file]
        code = opened.check(Call.TRUNCATE, size) or table.truncate(file, size)
        if code == OK:
            opened.on_truncate(size)
        return code

    def _sync(self, file: int, _flags: int) -> int:
        # The owner of the directory decides what is permanent; a real sync would only take time.
        opened, _ = self._files[file]
        code = opened.check(Call.SYNC, 0)
        if code == OK:
            opened.on_sync()
        return code


def _library() -> ctypes.CDLL:
    """The SQLite library that `sqlite3` uses, whether it is linked or built in.

    Raises:
        SimulatedDiskUnavailableError: the library does not export its functions.
    """
    found = importlib.util.find_spec("_sqlite3")
    inside = found is None or not found.has_location
    library = ctypes.CDLL(None if inside or found is None else found.origin)
    connection = sqlite3.connect(":memory:")
    (used,) = connection.execute("SELECT sqlite_source_id()").fetchone()
    connection.close()
    try:
        library.sqlite3_sourceid.restype = ctypes.c_char_p
        library.sqlite3_vfs_find.restype = c_void_p
        library.sqlite3_vfs_find.argtypes = [ctypes.c_char_p]
        library.sqlite3_vfs_register.argtypes = [c_void_p, c_int]
        library.sqlite3_vfs_unregister.argtypes = [c_void_p]
        reached = library.sqlite3_sourceid().decode()
    except AttributeError as error:
        raise SimulatedDiskUnavailableError(
            f"Python does not export the functions of SQLite {sqlite3.sqlite_version}: {error}"
        ) from error
    if reached != used:
        raise SimulatedDiskUnavailableError(f"sqlite3 uses SQLite {used}, but the library found is {reached}")
    return library
