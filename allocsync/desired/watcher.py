"""When to load: at the start, and again within a second of every edit.

The rules: the directory is watched, never the file, because an editor or kubelet puts another file in its
place and a watch on the old one sees nothing more. A watch only says *look*; whether there is something new
is decided by a hash of the content, so nothing depends on modification times or on which events a file
system sends. A slow poll beneath finds what no event told. What does not load changes nothing and is said
once.

Each look begins with a new watch and ends it, so a directory that went away and came back is found again, and
no thread or task outlives `next`. A generation is only counted as given when `next` returns it: a cancelled
`next` loses nothing.

Left out: what a set of files means (`desired.load`).
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
from allocsync.desired.loader import Examined, Loaded, Loader, accept
from allocsync.errors import DesiredError
from allocsync.model.desired_state import Generation, Mode

POLL_SECONDS = 10.0
_UNWATCHED_SECONDS = 0.5  # between two looks where nothing can be watched, as when the directory is gone
_DEBOUNCE_MILLISECONDS = 200
_STEP_MILLISECONDS = 20  # an edit waits for two of them, and so does the end of each look
_SETTLE_SECONDS = 0.05  # content that stays the same so long is not being written any more
_SETTLE_TRIES = 6  # and one that never does is judged as it is


@dataclass(frozen=True, slots=True)
class _Found:
    """Content that has not been seen before, and what is to be said of it."""

    fingerprint: str
    examined: Examined


@dataclass(frozen=True, slots=True)
class _Places:
    """What is watched: directories, and there these links, and of a single file these names."""

    directories: set[Path]
    links: set[Path]
    names: frozenset[str] | None = None


class DirectoryWatch:
    """A `DesiredSource` of a file or a directory; one `next` at a time."""

    def __init__(
        self,
        path: Path,
        *,
        default_mode: Mode,
        on_change: Callable[[], None],
        on_loaded: Callable[[Loaded], None],
        on_rejected: Callable[[DesiredError], None],
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        """`on_loaded` or `on_rejected` is called once for each content that differs from the one before.

        `on_change` is called when it may have changed, before anything is read.
        """
        self._path = path
        self._loader = Loader(default_mode=default_mode)
        self._on_change = on_change
        self._on_loaded = on_loaded
        self._on_rejected = on_rejected
        self._poll_seconds = poll_seconds
        self._look = asyncio.Event()
        self._seen = ""  # fingerprint of the last content that was judged
        self._given = ""  # and of the last that was given as a generation

    async def next(self) -> Generation:
        """Wait for content that loads and differs from what was given last; at once when called first."""
        while True:
            self._look.clear()
            async with self._watching() as watched:
                found = await self._find()
                if found is None:
                    await self._wait(self._poll_seconds if watched else _UNWATCHED_SECONDS)
            if found is not None:
                generation = self._judge(found)
                if generation is not None:
                    return generation

    def reload(self) -> None:
        """Look now. To be called from the loop, as signal handlers of the loop are."""
        self._look.set()

    def _judge(self, found: _Found) -> Generation | None:
        self._seen = found.fingerprint
        try:
            loaded = accept(found.examined)
        except DesiredError as error:
            self._on_rejected(error)
            return None
        self._on_loaded(loaded)
        if found.fingerprint == self._given:
            return None  # a bad edit was taken back: what was in force all the while is right again
        self._given = found.fingerprint
        return loaded.generation

    async def _find(self) -> _Found | None:
        files, fingerprint = await asyncio.to_thread(self._read)
        for attempt in range(_SETTLE_TRIES):
            if fingerprint == self._seen:
                return None
            if not self._seen:
                break  # the first look: whatever is being written now will be seen by the watch
            settled_at = time.monotonic() + _SETTLE_SECONDS
            if attempt == 0:  # most have been written by now: what must be parsed is parsed meanwhile
                await asyncio.to_thread(self._loader.prepare, files)
            await asyncio.sleep(max(0.0, settled_at - time.monotonic()))
            before = fingerprint
            files, fingerprint = await asyncio.to_thread(self._read)
            if fingerprint == before:
                break
        return _Found(fingerprint, await asyncio.to_thread(self._loader.examine, files))

    def _read(self) -> tuple[files.FileSet, str]:
        found = files.read(self._path)
        return found, found.fingerprint()

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._look.wait()
        except TimeoutError:
            return
        self._on_change()

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[bool]:
        """Watch while the context lasts; gives False where that cannot be done."""
        try:
            places = await asyncio.to_thread(self._places)
        except OSError:  # gone, or forbidden: `next` looks more often instead
            yield False
            return
        stop = asyncio.Event()
        watch = asyncio.create_task(self._watch(places, stop))
        try:
            # The watch is in place once the task has run to its first suspension, before anything is read.
            await asyncio.sleep(0)
            yield not watch.done()
        finally:
            stop.set()
            await asyncio.wait({watch})

    async def _watch(self, places: _Places, stop: asyncio.Event) -> None:
        try:
            changes = awatch(
                *places.directories,
                watch_filter=partial(_concerns_us, places),
                debounce=_DEBOUNCE_MILLISECONDS,
                step=_STEP_MILLISECONDS,
                stop_event=stop,
                recursive=False,
            )
            async with aclosing(changes):
                async for _ in changes:
                    self._look.set()
                    return
        except (OSError, RuntimeError):
            return  # gone meanwhile, forbidden, or no watches left: `next` looks more often instead

    def _places(self) -> _Places:
        """Where the content is named, and where it stands; and each link on the way from one to the other.

        Raises:
            OSError: the way to it is closed to us.
        """
        # Every directory has one name here, the real one: events come under one of them only.
        path, real = self._path.absolute(), Path(os.path.realpath(self._path))
        links, names = _links(path), None
        if real.is_dir():
            main, more = real, set[Path]()
            with os.scandir(path) as entries:  # tells links without asking for each: edits wait for this
                inside = [Path(entry) for entry in entries if entry.is_symlink()]
            for link in filter(files.leads_elsewhere, inside):
                links |= _links(link)
                more.add(Path(os.path.realpath(link)).parent)
        else:
            main, more = Path(os.path.realpath(path.parent)), {real.parent}
            names = frozenset({path.name, real.name})
        more |= {link.parent for link in links}
        # One that is not there, or is closed to us, must not cost the watch of the others.
        return _Places({main, *(each for each in more if os.access(each, os.R_OK))}, links, names)


def _links(path: Path) -> set[Path]:
    """Every link on the way to where it leads, each named by where it stands."""
    found, ways = set[Path](), [path]
    while ways:
        way = ways.pop()
        for each in (way, *way.parents):
            with suppress(OSError):  # closed to us
                link = Path(os.path.realpath(each.parent)) / each.name
                if each.is_symlink() and link not in found:
                    ways.append(link.parent / each.readlink() / way.relative_to(each))
                    found.add(link)
    return found


def _concerns_us(places: _Places, _: Change, changed: str) -> bool:
    """Whether an event can be about the content: editors make many files of their own beside it."""
    place = Path(changed)
    if place in places.directories or place in places.links or place.name.startswith("..data"):
        return True
    return place.suffix in files.SUFFIXES if places.names is None else place.name in places.names
