"""The truth: every cloud by id, what an update does to it, and the file that it survives in.

The rules: an update replaces the object, as the API takes whole objects; `updated` and `schema` stay the
server's; an explicit null means absent; `updated` moves on each effective change and on no other. A state
file is replaced as a whole, synced before the answer leaves.
"""

import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import yaml

from allocsync.api import wire
from allocsync.errors import AllocsyncError
from allocsync.planning.model import Cloud, Json, NumberLiteral

SERVER_OWNED = ("updated", "schema")
_URLS = ("base", "id", "vanity")


class _SeedLoader(yaml.SafeLoader):
    """YAML as JSON would have it: numbers stay as written, times, `on` and `off` stay text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the library's own way to say it
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":bool"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_SeedLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf"))


for _tag in ("int", "float"):
    _SeedLoader.add_constructor(
        f"tag:yaml.org,2002:{_tag}", lambda _loader, node: NumberLiteral(str(node.value))
    )


class UnusableError(Exception):
    """The body of an update cannot be used; says why."""


class Store:
    """Clouds by id, in the order of the seed."""

    def __init__(
        self,
        clouds: Iterable[Cloud],
        *,
        state: Path | None = None,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._wall = wall
        self._state = state
        self.server_id = str(uuid.uuid4())
        self.clouds: dict[str, Cloud] = {str(cloud["id"]): cloud for cloud in clouds}
        self.resumed = state is not None and state.exists()
        if state is not None and self.resumed:
            saved = _read(state)
            self.clouds = {str(cloud["id"]): cloud for cloud in clouds_of(saved, str(state))}
            if isinstance(saved, Mapping) and isinstance(saved.get("server"), str):
                self.server_id = str(saved["server"])
        self._save()

    def check(self, body: Json) -> Cloud:
        """The body as an update of a cloud that exists.

        Raises:
            UnusableError: it is none.
        """
        if not isinstance(body, Mapping):
            raise UnusableError("the body is not an AllocationCloud")
        missing = [name for name, value in _required(body) if not isinstance(value, str)]
        if missing:
            raise UnusableError(f"missing or not a text: {', '.join(missing)}")
        if body["id"] not in self.clouds:
            raise UnusableError("no such cloud")
        return body

    def apply(self, body: Cloud) -> dict[str, list[Json]]:
        """Replace a cloud; returns {leaf: [before, after]} of what changed (empty: nothing did)."""
        key = str(body["id"])
        before = self.clouds.get(key)
        if before is None:
            return {}
        after: dict[str, Json] = {name: before[name] for name in SERVER_OWNED if name in before}
        after |= {name: body[name] for name in body if name not in SERVER_OWNED and body[name] is not None}
        return self._put(key, before, after)

    def set_leaf(self, key: str, field: str, value: str) -> dict[str, list[Json]]:
        """Another client changes one leaf; returns what changed."""
        before = self.clouds[key]
        return self._put(key, before, _with(before, field.split("."), value))

    def remove(self, key: str) -> None:
        """The cloud is gone: 410 from now on."""
        del self.clouds[key]
        self._save()

    def _put(self, key: str, before: Cloud, after: Cloud) -> dict[str, list[Json]]:
        changed = difference(before, after)
        if changed:
            stamp = self._wall().isoformat(timespec="microseconds").replace("+00:00", "Z")
            self.clouds[key] = {**after, "updated": {"value": stamp}}
            self._save()
        return changed

    def _save(self) -> None:
        if self._state is None:
            return
        text = wire.dumps({"server": self.server_id, "iterable": list(self.clouds.values())})
        beside = self._state.with_name(self._state.name + ".new")
        with beside.open("wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._state)
        directory = os.open(self._state.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def difference(before: Json, after: Json, path: str = "") -> dict[str, list[Json]]:
    """{dotted path: [before, after]} of every leaf that differs, `updated` aside; absent is null."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found: dict[str, list[Json]] = {}
        for key in [*before, *(key for key in after if key not in before)]:
            if path or key != "updated":
                found |= difference(before.get(key), after.get(key), f"{path}.{key}" if path else key)
        return found
    return {} if before == after else {path: [before, after]}


def clouds_of(answer: Json, name: str) -> list[Cloud]:
    """The clouds of something in the shape of an answer of `GET /allocations`.

    Raises:
        AllocsyncError: it has another shape.
    """
    rows = answer.get("iterable") if isinstance(answer, Mapping) else None
    if not isinstance(rows, list):
        raise AllocsyncError(f'{name}: not the shape of a GET /allocations answer ({{"iterable": [...]}})')
    clouds: list[Cloud] = []
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping) or not isinstance(row.get("id"), str):
            raise AllocsyncError(f"{name}: entry {index + 1} of `iterable` has no id")
        clouds.append(row)
    return clouds


def read_seed(path: Path) -> list[Cloud]:
    """The clouds of a seed file, JSON or YAML.

    Raises:
        AllocsyncError: it cannot be read, or has another shape.
    """
    return clouds_of(_read(path), str(path))


def _read(path: Path) -> Json:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AllocsyncError(f"{path}: {error.strerror}") from error
    try:
        return wire.loads(data)
    except wire.WireError as not_json:
        try:
            value: Json = yaml.load(data, Loader=_SeedLoader)  # noqa: S506 - it is a SafeLoader
        except yaml.YAMLError as error:
            raise AllocsyncError(f"{path}: neither JSON ({not_json}) nor YAML ({error})") from error
        return value


def _required(body: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    for name in ("id", "user", "project"):
        yield name, body.get(name)
    yield "status.cloud", _get(body.get("status"), "cloud")
    for name in _URLS:
        url = _get(body.get("urls"), name)
        if url is not None or name != "vanity":
            yield f"urls.{name}.status", _get(url, "status")
            yield f"urls.{name}.url", _get(url, "url")


def _get(value: Json, key: str) -> Json:
    return value.get(key) if isinstance(value, Mapping) else None


def _with(cloud: Cloud, keys: list[str], value: str) -> Cloud:
    key, *rest = keys
    if not rest:
        return {**cloud, key: value}
    child = cloud.get(key)
    return {**cloud, key: _with(child if isinstance(child, Mapping) else {}, rest, value)}
