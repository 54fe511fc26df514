"""Decides when to load the desired state: at the start, and within a second of every edit.

The rules: directories are watched and never files, because editors and kubelet replace a file, and a watch
on the old one would see nothing more. An event only causes a read; a hash of the content decides whether
anything has changed, so that neither modification times nor the kinds of events matter. A slow poll finds
edits that cause no event. Content that does not load changes nothing and is reported once.

A new watch starts before each read, and ends after the read and the wait that may follow it. So a directory
that was removed and created again is found, and no thread or task outlives `next`. Content counts as returned
only when `next` returns it: a `next` that is cancelled loses nothing.

Left out: what a set of files means (`desired.loader`).
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from watchfiles import Change, awatch

from allocsync.desired import files
from allocsync.desired.loader import Examined, Loaded, Loader, require_loaded
from allocsync.errors import DesiredError
from allocsync.model.desired_state import Mode, Revision
from allocsync.model.times import Monotonic, WallTime

POLL_SECONDS = 10.0
_UNWATCHED_POLL_SECONDS = 0.5  # used if nothing can be watched, as when the directory is missing
_DEBOUNCE_MILLISECONDS = 200
_STEP_MILLISECONDS = 20  # delays each edit, and the end of each watch, by twice this
_SETTLE_SECONDS = 0.05  # content that does not change for this long is complete
_SETTLE_ATTEMPTS = 6  # then it is examined as it is


@dataclass(frozen=True, slots=True)
class _NewContent:
    """New content: its fingerprint, and the result of loading it."""

    fingerprint: str
    examined: Examined


@dataclass(frozen=True, slots=True)
class _WatchedPaths:
    """What to watch: directories, the links in them and, for a single file, the names that count."""

    directories: set[Path]
    links: set[Path]
    names: frozenset[str] | None = None


class DirectoryWatch:
    """A `reconcile.ports.DesiredSource` that reads a file or a directory. Call one `next` at a time.

    `read_at` is when (Unix seconds) the latest read began whose content is rejected, or was returned and
    taken over: the next call of `next` says that it was. None before the first.
    """

    def __init__(
        self,
        path: Path,
        *,
        default_mode: Mode,
        on_change: Callable[[], None],
        on_loaded: Callable[[Loaded], None],
        on_rejected: Callable[[DesiredError], None],
        poll_seconds: float = POLL_SECONDS,
        wall: Callable[[], WallTime],
    ) -> None:
        """`on_loaded` or `on_rejected` is called once for each content that differs from the previous one.

        `on_change` is called before a read that an event or `reload` causes, but not before a poll.
        """
        self._path = path
        self._loader = Loader(default_mode=default_mode)
        self._on_change = on_change
        self._on_loaded = on_loaded
        self._on_rejected = on_rejected
        self._poll_seconds = poll_seconds
        self._wall = wall
        self._wake_up = asyncio.Event()
        self._examined_fingerprint = ""  # of the last content that was examined
        self._returned_fingerprint = ""  # of the last content that `next` returned
        self._returned_read_at: WallTime | None = None  # when the read of that content began
        self.read_at: WallTime | None = None

    async def next(self) -> Revision:
        """Wait for content that loads and differs from what was returned last, and return its revision.

        The first call returns without waiting if the content loads. Rejected content is not raised: it goes
        to `on_rejected`.
        """
        if self._returned_read_at is not None:
            self.read_at, self._returned_read_at = self._returned_read_at, None
        while True:
            self._wake_up.clear()
            begun = self._wall()
            async with self._watching() as watched:
                found = await self._read_new_content()
                if found is None:
                    self.read_at = begun
                    await self._wait(self._poll_seconds if watched else _UNWATCHED_POLL_SECONDS)
            if found is not None:
                revision = self._report_content(found)
                if revision is not None:
                    self._returned_read_at = begun
                    return revision
                self.read_at = begun

    def reload(self) -> None:
        """Make `next` read again now; returns before the read. Not thread-safe: call it on the event loop."""
        self._wake_up.set()

    def _report_content(self, found: _NewContent) -> Revision | None:
        self._examined_fingerprint = found.fingerprint
        try:
            loaded = require_loaded(found.examined)
        except DesiredError as error:
            self._on_rejected(error)
            return None
        self._on_loaded(loaded)
        if found.fingerprint == self._returned_fingerprint:
            return None  # an edit with errors was reverted: this content is active already
        self._returned_fingerprint = found.fingerprint
        return loaded.revision

    async def _read_new_content(self) -> _NewContent | None:
        files, fingerprint = await asyncio.to_thread(self._read)
        for attempt in range(_SETTLE_ATTEMPTS):
            if fingerprint == self._examined_fingerprint:
                return None
            if not self._examined_fingerprint:
                break  # the first read: the watch will see whatever is being written now
            settled_at = Monotonic(time.monotonic()) + _SETTLE_SECONDS
            if attempt == 0:  # most files are complete by now: parse them during the wait
                await asyncio.to_thread(self._loader.prepare, files)
            await asyncio.sleep(max(0.0, settled_at - Monotonic(time.monotonic())))
            before = fingerprint
            files, fingerprint = await asyncio.to_thread(self._read)
            if fingerprint == before:
                break
        return _NewContent(fingerprint, await asyncio.to_thread(self._loader.examine, files))

    def _read(self) -> tuple[files.FileSet, str]:
        found = files.read(self._path)
        return found, found.fingerprint()

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake_up.wait()
        except TimeoutError:
            return
        self._on_change()

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[bool]:
        """Watch while the context is open; yields False if nothing can be watched."""
        try:
            paths = await asyncio.to_thread(self._find_watched_paths)
        except OSError:  # missing, or not permitted: `next` polls more often instead
            yield False
            return
        stop = asyncio.Event()
        watch = asyncio.create_task(self._run_watch(paths, stop))
        try:
            # The watch exists once the task has run to its first suspension, which is before the read.
            await asyncio.sleep(0)
            yield not watch.done()
        finally:
            stop.set()
            await asyncio.wait({watch})

    async def _run_watch(self, paths: _WatchedPaths, stop: asyncio.Event) -> None:
        try:
            changes = awatch(
                *paths.directories,
                watch_filter=partial(_is_relevant, paths),
                debounce=_DEBOUNCE_MILLISECONDS,
                step=_STEP_MILLISECONDS,
                stop_event=stop,
                recursive=False,
            )
            async with aclosing(changes):
                async for _ in changes:
                    self._wake_up.set()
                    return
        except (OSError, RuntimeError):
            return  # missing, not permitted, or no watches left: `next` polls more often

    def _find_watched_paths(self) -> _WatchedPaths:
        """Find the directories of the given path and of the content, and each link between the two.

        Raises:
            OSError: the path cannot be searched.
        """
        # Directories are named by their real paths only: events are reported under one name.
        path, real = self._path.absolute(), Path(os.path.realpath(self._path))
        links, names = _links_on_path(path), None
        if real.is_dir():
            directory, others = real, set[Path]()
            with os.scandir(path) as entries:  # fast, because edits wait for it: needs no call for each entry
                links_inside = [Path(entry) for entry in entries if entry.is_symlink()]
            for link in filter(files.is_content_link, links_inside):
                links |= _links_on_path(link)
                others.add(Path(os.path.realpath(link)).parent)
        else:
            directory, others = Path(os.path.realpath(path.parent)), {real.parent}
            names = frozenset({path.name, real.name})
        others |= {link.parent for link in links}
        # A directory that is missing or not readable must not prevent watching the others.
        return _WatchedPaths(
            {directory, *(each for each in others if os.access(each, os.R_OK))}, links, names
        )


def _links_on_path(path: Path) -> set[Path]:
    """Every link that resolving the path follows, each by the real path of its directory."""
    found, unresolved = set[Path](), [path]
    while unresolved:
        step = unresolved.pop()
        for each in (step, *step.parents):
            with suppress(OSError):  # not permitted
                link = Path(os.path.realpath(each.parent)) / each.name
                if each.is_symlink() and link not in found:
                    unresolved.append(link.parent / each.readlink() / step.relative_to(each))
                    found.add(link)
    return found


def _is_relevant(paths: _WatchedPaths, _: Change, changed: str) -> bool:
    """Whether an event may concern the content: editors create other files beside it."""
    place = Path(changed)
    if place in paths.directories or place in paths.links or place.name.startswith("..data"):
        return True
    return place.suffix in files.SUFFIXES if paths.names is None else place.name in paths.names
