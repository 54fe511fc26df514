"""New generations as they are written: the directory is watched, and polled slowly beneath.

The rules: never the file is watched, always its directory, because editors and mounted ConfigMaps replace
files; what decides is the content, by its hash, not an event; files that do not load change nothing and are
told once. A directory that vanishes is waited for.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from watchfiles import awatch

from allocsync.desired import reading
from allocsync.desired.load import Loaded, load_files
from allocsync.errors import DesiredError
from allocsync.planning.model import Generation, Mode

POLL_SECONDS = 10.0
# The library's own debounce (1.6 s) would make an edit wait longer than it may.
DEBOUNCE_MS, STEP_MS = 100, 20
CHECK_MS = 1_000  # how often it is checked that the directory is still the one that is watched
RETRY_SECONDS = 0.5  # and how soon one that is gone is tried again


class DirectoryWatch:
    """The desired state at a path, as the loop's source of generations."""

    def __init__(
        self,
        path: Path,
        *,
        default_mode: Mode,
        on_loaded: Callable[[Loaded], None],
        on_rejected: Callable[[DesiredError], None],
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._path = path
        self._default_mode = default_mode
        self._on_loaded = on_loaded
        self._on_rejected = on_rejected
        self._poll_seconds = poll_seconds
        self._look = asyncio.Event()
        self._look.set()
        self._fingerprint = ""
        self._digest = ""

    def reload(self) -> None:
        """Look at the files again at once."""
        self._look.set()

    async def next(self) -> Generation:
        """Wait for the next generation that loads and declares something else than the last one."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._look.wait()
            self._look.clear()
            files = await asyncio.to_thread(reading.read, self._path)
            fingerprint = await asyncio.to_thread(files.fingerprint)
            if fingerprint == self._fingerprint:
                continue
            self._fingerprint = fingerprint
            try:
                loaded = await asyncio.to_thread(load_files, files, default_mode=self._default_mode)
            except DesiredError as error:
                self._on_rejected(error)
                continue
            self._on_loaded(loaded)
            if loaded.generation.digest != self._digest:
                self._digest = loaded.generation.digest
                return loaded.generation

    async def watch(self) -> None:
        """Ask for a look at each sign of a change; runs for as long as anybody waits for `next`."""
        while True:
            directory = self._directory()
            watched = _identity(directory)
            self._look.set()  # whatever changed before this watch began is looked at once it has
            if watched is not None:
                with suppress(FileNotFoundError):  # it vanished before it could be watched
                    await self._signs(directory, watched)
            await asyncio.sleep(RETRY_SECONDS)

    async def _signs(self, directory: Path, watched: tuple[int, int]) -> None:
        async for changes in awatch(
            directory,
            watch_filter=None,
            debounce=DEBOUNCE_MS,
            step=STEP_MS,
            rust_timeout=CHECK_MS,
            yield_on_timeout=True,
            recursive=False,
        ):
            if changes:
                self._look.set()
            # One that was removed and made again, or swapped, gives no sign: it is watched anew.
            if _identity(directory) != watched or directory != self._directory():
                return

    def _directory(self) -> Path:
        return self._path if self._path.is_dir() else self._path.parent


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        found = directory.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
