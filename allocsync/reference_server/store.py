"""Holds the clouds by id, in order, and keeps them in a state file.

The rules:
- A change is in memory at once. It is on disk before a response shows it (`wait_until_durable`).
- The whole file is replaced, by one thread, for all changes that are waiting at that time.
- A state file belongs to one server.

Left out: what an update makes of a cloud (`reference_server.clouds`).
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
    keep_unchanged,
    replace_cloud,
    schema_problems,
    value_at,
    with_change,
    with_new_updated,
)
from allocsync.reference_server.seed import parse_clouds

NO_SUCH_CLOUD = "no cloud has this id"
Changes: TypeAlias = dict[str, list[Json]]


class InvalidUpdateError(Exception):
    """The body of an update cannot be used. The text says why."""


class StateFileError(AllocsyncError):
    """The state file cannot be read or written."""


class Store:
    """Clouds by id, in the order of the seed. `close` must be called at the end.

    `state` is the state file, or None to keep nothing; if it exists, `clouds` is ignored. `wall` returns the
    wall-clock time.

    Raises:
        StateFileError: the state file cannot be read or written.
    """

    def __init__(
        self,
        clouds: Iterable[Cloud],
        *,
        state: Path | None = None,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._wall = wall
        self._state_file = state
        self._clouds: dict[str, Cloud] = {str(cloud["id"]): cloud for cloud in clouds}
        self._initial = dict(self._clouds)
        self._json_cache: dict[str, bytes] = {}
        self.server_id = str(uuid.uuid4())
        self.resumed = state is not None and state.exists()
        self._change_count = 0
        self._saved_count = 0
        self._changed_at: dict[str, int] = {}
        self._save_lock = asyncio.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state")
        if state is not None and self.resumed:
            self.server_id, self._clouds = _read_state(state)
            self._initial = dict(self._clouds)
        elif state is not None:
            _write_state(state, self.server_id, list(self._all_json()))

    @property
    def clouds(self) -> Mapping[str, Cloud]:
        """The current clouds by id; a read-only view."""
        return MappingProxyType(self._clouds)

    def cloud_json(self, key: str) -> bytes | None:
        """Return the cloud as JSON, or None without such a cloud. The same object until the cloud changes."""
        cloud = self._clouds.get(key)
        return None if cloud is None else self.to_json(cloud)

    def to_json(self, cloud: Cloud) -> bytes:
        """Return a cloud as JSON, also one that has changed or is gone since."""
        key = str(cloud["id"])
        if self._clouds.get(key) is not cloud:
            return json_codec.dumps(cloud)
        text = self._json_cache.get(key)
        if text is None:
            text = self._json_cache[key] = json_codec.dumps(cloud)
        return text

    def validate_update(self, body: Json) -> Cloud:
        """Return the body if it is a valid update of a cloud that exists.

        Raises:
            InvalidUpdateError: the body is not valid, or there is no cloud with its id.
        """
        key = id_of(body)
        if key is None or not isinstance(body, Mapping):
            raise InvalidUpdateError("the body is not an AllocationCloud with an id")
        before = self._clouds.get(key)
        if before is None:
            raise InvalidUpdateError(NO_SUCH_CLOUD)
        problems = schema_problems(replace_cloud({}, body), stored=before)
        if problems:
            raise InvalidUpdateError("; ".join(problems))
        return body

    def apply(self, body: Cloud, *, ignores: Sequence[str] = (), partly: bool = False) -> Changes | None:
        """Replace a cloud and return what changed, or None if there is no such cloud.

        The fields of `ignores` are not changed. With `partly`, every other change is left out.
        """
        key = str(body["id"])
        before = self._clouds.get(key)
        if before is None:
            return None
        after = replace_cloud(before, body)
        changed = difference(before, after)
        unchanged_paths = [path for path in changed if path in ignores] + (
            list(changed)[1::2] if partly else []
        )
        return self._replace(key, before, keep_unchanged(before, after, unchanged_paths))

    def echo(self, body: Cloud) -> Cloud:
        """Return what the cloud would be if the whole update had been applied."""
        return replace_cloud(self._clouds[str(body["id"])], body)

    def set_field(self, key: str, path: str, value: str | None) -> Changes:
        """Change one field as another client, or remove it with None. Returns what changed.

        Raises:
            KeyError: there is no cloud with this id.
        """
        before = self._clouds[key]
        return self._replace(key, before, with_change(before, path, value))

    def value_at(self, key: str, path: str) -> Json:
        """Return the value at this path of a cloud, or None if there is none."""
        return value_at(self._clouds.get(key), path)

    def initial_text(self, key: str, path: str) -> str | None:
        """Return the string that was at this path when the server started, or None."""
        value = value_at(self._initial.get(key), path)
        return value if isinstance(value, str) else None

    def touch_updated(self, key: str) -> None:
        """Change `updated` of a cloud and nothing else.

        Raises:
            KeyError: there is no cloud with this id.
        """
        before = self._clouds[key]
        self._clouds[key] = with_new_updated(before, before, self._wall())
        self._mark_changed(key)

    def remove(self, key: str) -> None:
        """Remove the cloud.

        Raises:
            KeyError: there is no cloud with this id.
        """
        del self._clouds[key]
        self._mark_changed(key)

    async def wait_until_durable(self, key: str | None = None) -> None:
        """Wait until all changes so far, of one cloud or of all, are on disk.

        Raises:
            StateFileError: they cannot be written. They stay in memory, and the next attempt includes them.
        """
        needed = self._change_count if key is None else self._changed_at.get(key, 0)
        if self._state_file is None or self._saved_count >= needed:
            return
        async with self._save_lock:
            if self._saved_count >= needed:
                return
            changes = self._change_count
            written = self._thread.submit(
                _write_state, self._state_file, self.server_id, list(self._all_json())
            )
            await asyncio.wrap_future(written)
            self._saved_count = changes

    def close(self) -> None:
        """Write the remaining changes and stop the thread.

        Raises:
            StateFileError: the changes cannot be written.
        """
        self._thread.shutdown()
        if self._state_file is not None and self._saved_count < self._change_count:
            _write_state(self._state_file, self.server_id, list(self._all_json()))
            self._saved_count = self._change_count

    def _replace(self, key: str, before: Cloud, after: Cloud) -> Changes:
        changed = difference(before, after)
        if changed:
            self._clouds[key] = with_new_updated(before, after, self._wall())
            self._mark_changed(key)
        return changed

    def _mark_changed(self, key: str) -> None:
        self._json_cache.pop(key, None)
        self._change_count += 1
        self._changed_at[key] = self._change_count

    def _all_json(self) -> Iterator[bytes]:
        return (self.to_json(cloud) for cloud in self._clouds.values())


def id_of(body: Json) -> str | None:
    """Return the id in a body, or None if there is none."""
    key = body.get("id") if isinstance(body, Mapping) else None
    return key if isinstance(key, str) else None


def _read_state(state: Path) -> tuple[str, dict[str, Cloud]]:
    try:
        saved = json_codec.loads(state.read_bytes())
    except OSError as error:
        raise StateFileError(f"{state}: {error.strerror}") from error
    except json_codec.CodecError as error:
        raise StateFileError(
            f"{state}: not a state file: {error}. Move it away to start from the seed."
        ) from error
    server_id = value_at(saved, "server")
    if not isinstance(server_id, str):
        raise StateFileError(f"{state}: not a state file. Move it away to start from the seed.")
    return server_id, {str(cloud["id"]): cloud for cloud in parse_clouds(saved, str(state))}


def _write_state(state: Path, server_id: str, texts: list[bytes]) -> None:
    head = b'{"server":' + json_codec.dumps(server_id) + b',"iterable":[\n'
    try:
        atomic_file.write(state, head + b",\n".join(texts) + b"\n]}\n")
    except OSError as error:
        raise StateFileError(f"{state}: cannot be written: {error.strerror}") from error
