"""The truth: every cloud by id, in order, and the file that it survives in.

The rules: a change is in memory at once and on disk before anything that shows it is answered (`durable`).
The file is replaced as a whole, by one thread, for all changes that wait at that time together. One server
owns a state file.
"""

import asyncio
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from allocsync import atomic_file
from allocsync.api import json_codec
from allocsync.errors import AllocsyncError
from allocsync.model.cloud import Cloud, Json
from allocsync.reference_server.clouds import (
    difference,
    get,
    problems_of,
    replacement,
    spare,
    stamped,
    with_change,
)
from allocsync.reference_server.seed import clouds_of

NO_SUCH_CLOUD = "no cloud has this id"
Changes: TypeAlias = dict[str, list[Json]]


class UnusableError(Exception):
    """The body of an update cannot be used; says why."""


class StateError(AllocsyncError):
    """The state file cannot be read or written."""


class Store:
    """Clouds by id, in the order of the seed. Call `close` at the end: it writes what is not written yet."""

    def __init__(
        self,
        clouds: Iterable[Cloud],
        *,
        state: Path | None = None,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._wall = wall
        self._state = state
        self._clouds: dict[str, Cloud] = {str(cloud["id"]): cloud for cloud in clouds}
        self._first = dict(self._clouds)
        self._texts: dict[str, bytes] = {}
        self.server_id = str(uuid.uuid4())
        self.resumed = state is not None and state.exists()
        self._changes = 0
        self._saved = 0
        self._changed_at: dict[str, int] = {}
        self._saving = asyncio.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state")
        if state is not None and self.resumed:
            self.server_id, self._clouds = _read(state)
            self._first = dict(self._clouds)
        elif state is not None:
            _write(state, self.server_id, list(self._all_texts()))

    @property
    def clouds(self) -> Mapping[str, Cloud]:
        """The truth as it is now; a view."""
        return MappingProxyType(self._clouds)

    def text(self, key: str) -> bytes | None:
        """A cloud as JSON, the same object until it changes; None where there is none."""
        cloud = self._clouds.get(key)
        return None if cloud is None else self.text_of(cloud)

    def text_of(self, cloud: Cloud) -> bytes:
        """The cloud as JSON, also where it is not the truth any more."""
        key = str(cloud["id"])
        if self._clouds.get(key) is not cloud:
            return json_codec.dumps(cloud)
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = json_codec.dumps(cloud)
        return text

    def check(self, body: Json) -> Cloud:
        """The body as an update of a cloud that exists.

        Raises:
            UnusableError: it is none; says what is wrong with it.
        """
        key = id_of(body)
        if key is None or not isinstance(body, Mapping):
            raise UnusableError("the body is no AllocationCloud with an id")
        before = self._clouds.get(key)
        if before is None:
            raise UnusableError(NO_SUCH_CLOUD)
        problems = problems_of(replacement({}, body), stored=before)
        if problems:
            raise UnusableError("; ".join(problems))
        return body

    def apply(self, body: Cloud, *, ignores: Sequence[str] = (), partly: bool = False) -> Changes | None:
        """Replace a cloud; returns what changed, or None where the cloud is gone and nothing was applied.

        Changes of `ignores` are not made; `partly` leaves out every other one of those that would be.
        """
        key = str(body["id"])
        before = self._clouds.get(key)
        if before is None:
            return None
        after = replacement(before, body)
        changed = difference(before, after)
        spared = [path for path in changed if path in ignores] + (list(changed)[1::2] if partly else [])
        return self._put(key, before, spare(before, after, spared))

    def echo(self, body: Cloud) -> Cloud:
        """What the cloud would be if all of the update had been honoured."""
        return replacement(self._clouds[str(body["id"])], body)

    def set_leaf(self, key: str, path: str, value: str | None) -> Changes:
        """Another client changes one leaf, or (None) takes it away; returns what changed.

        Raises:
            KeyError: there is no such cloud.
        """
        before = self._clouds[key]
        return self._put(key, before, with_change(before, path, value))

    def leaf(self, key: str, path: str) -> Json:
        """What the cloud has at this path, None where it has nothing."""
        return get(self._clouds.get(key), path)

    def first(self, key: str, path: str) -> str | None:
        """The text that it had there when the server started."""
        value = get(self._first.get(key), path)
        return value if isinstance(value, str) else None

    def tick(self, key: str) -> None:
        """`updated` moves, and nothing else does.

        Raises:
            KeyError: there is no such cloud.
        """
        before = self._clouds[key]
        self._clouds[key] = stamped(before, before, self._wall())
        self._touch(key)

    def remove(self, key: str) -> None:
        """The cloud is gone: 410 from now on.

        Raises:
            KeyError: there is no such cloud.
        """
        del self._clouds[key]
        self._touch(key)

    async def durable(self, key: str | None = None) -> None:
        """Return once the changes so far, of one cloud or of all, are on disk.

        Raises:
            StateError: they cannot be written. They stay in memory and go along with the next attempt.
        """
        needed = self._changes if key is None else self._changed_at.get(key, 0)
        if self._state is None or self._saved >= needed:
            return
        async with self._saving:
            if self._saved >= needed:
                return
            changes = self._changes
            written = self._thread.submit(_write, self._state, self.server_id, list(self._all_texts()))
            await asyncio.wrap_future(written)
            self._saved = changes

    def close(self) -> None:
        """Write what is not written yet and let the thread go.

        Raises:
            StateError: it cannot be written.
        """
        self._thread.shutdown()
        if self._state is not None and self._saved < self._changes:
            _write(self._state, self.server_id, list(self._all_texts()))
            self._saved = self._changes

    def _put(self, key: str, before: Cloud, after: Cloud) -> Changes:
        changed = difference(before, after)
        if changed:
            self._clouds[key] = stamped(before, after, self._wall())
            self._touch(key)
        return changed

    def _touch(self, key: str) -> None:
        self._texts.pop(key, None)
        self._changes += 1
        self._changed_at[key] = self._changes

    def _all_texts(self) -> Iterator[bytes]:
        return (self.text_of(cloud) for cloud in self._clouds.values())


def id_of(body: Json) -> str | None:
    """The id that a body names, None where it names none."""
    key = body.get("id") if isinstance(body, Mapping) else None
    return key if isinstance(key, str) else None


def _read(state: Path) -> tuple[str, dict[str, Cloud]]:
    try:
        saved = json_codec.loads(state.read_bytes())
    except OSError as error:
        raise StateError(f"{state}: {error.strerror}") from error
    except json_codec.CodecError as error:
        raise StateError(
            f"{state}: not a state file: {error}. Move it away to start from the seed."
        ) from error
    server_id = get(saved, "server")
    if not isinstance(server_id, str):
        raise StateError(f"{state}: not a state file. Move it away to start from the seed.")
    return server_id, {str(cloud["id"]): cloud for cloud in clouds_of(saved, str(state))}


def _write(state: Path, server_id: str, texts: list[bytes]) -> None:
    head = b'{"server":' + json_codec.dumps(server_id) + b',"iterable":[\n'
    try:
        atomic_file.write(state, head + b",\n".join(texts) + b"\n]}\n")
    except OSError as error:
        raise StateError(f"{state}: cannot be written: {error.strerror}") from error
