"""What an AllocationCloud must be, what an update makes of one, and how two of them differ. Pure.

The rules: an update replaces the object, as the API takes whole objects; `updated` and `schema` stay the
server's; an explicit null for an optional field means absent, and null and absent are no difference. A
difference is told leaf by leaf where the API knows the leaves, and as one value where it does not. What has
no `problems_of` is an AllocationCloud by the API's own schema, with fields that nobody here knows.

Left out: where clouds are kept (`store`) and what goes wrong on the way (`faults`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from allocsync.model.cloud import STATUSES, Cloud, Json, NumberLiteral

SERVER_OWNED = ("updated", "schema")
_URLS = ("urls.base", "urls.id", "urls.vanity")
# The objects whose fields are compared one by one; any other value is compared as a whole.
_OBJECTS = ("status", "urls", *_URLS)
_SCHEMAS = ("schema", "updated.schema", *(f"{name}.schema" for name in _OBJECTS))
_OPTIONAL = ("region", "version", "updated", "urls.vanity", *_SCHEMAS)
_INTEGER = re.compile(r"-?\d+", re.ASCII)
_PART = re.compile(r"(?:[^.\\]|\\.)*", re.DOTALL)
_TICK = timedelta(microseconds=1)


def problems_of(cloud: Cloud, *, stored: Json = None) -> list[str]:
    """Why this is no AllocationCloud, field by field; empty when it is one. Nulls count as values here.

    A status that the API's list lacks is let be where `stored` has it already: the list has grown before.
    """
    texts = ["id", "user", "project", *(name for name in ("region", "version") if name in cloud)]
    texts += [f"{name}.url" for name in _urls_of(cloud)]
    if "updated" in cloud:
        texts.append("updated.value")
    found = [f"{name} must be a text" for name in texts if not isinstance(get(cloud, name), str)]
    for name in ("status.cloud", *(f"{name}.status" for name in _urls_of(cloud))):
        value = get(cloud, name)
        if not isinstance(value, str) or (value not in STATUSES and value != get(stored, name)):
            found.append(f"{name} must be one of {' '.join(STATUSES)}")
    found += [f"{name} needs migration and semantic" for name in _SCHEMAS if not _is_schema(cloud, name)]
    return found


def without_nulls(cloud: Cloud) -> dict[str, Json]:
    """The cloud with no null where the API has an optional field; a null in any other field stays."""
    kept = dict(cloud)
    for path in _OPTIONAL:
        if get(kept, path) is None and _has(kept, path):
            kept = _with(kept, path.split("."), None)
    return kept


def replacement(before: Cloud, body: Cloud) -> dict[str, Json]:
    """The cloud after an update: what was posted, but what is the server's as it was."""
    after = {name: value for name, value in without_nulls(body).items() if name not in SERVER_OWNED}
    return {name: before[name] for name in SERVER_OWNED if name in before} | after


def stamped(before: Cloud, after: Cloud, now: datetime) -> dict[str, Json]:
    """The cloud with `updated` moved to now, and past the last value even where the clock was set back."""
    last = get(before, "updated.value")
    moment = now.astimezone(UTC)
    try:
        previous = datetime.fromisoformat(last).astimezone(UTC) if isinstance(last, str) else None
        if previous is not None and moment <= previous:
            moment = previous + _TICK
    except (ValueError, OverflowError):
        pass  # the seed's time is none that can be compared: now is another one in any case
    text = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    schema = get(before, "updated.schema")
    updated: dict[str, Json] = {"value": text} if schema is None else {"value": text, "schema": schema}
    return {**after, "updated": updated}


def difference(before: Cloud, after: Cloud) -> dict[str, list[Json]]:
    """{path: [before, after]} of everything that differs, `updated` aside; null where there was nothing.

    Paths are dotted (`urls.vanity.url`). A dot in the name of an unknown field is written with a backslash
    before it, as is a backslash, so that no two fields have the same path.
    """
    return dict(_differences(before, after, None))


def with_change(cloud: Cloud, path: str, value: Json) -> dict[str, Json]:
    """The cloud after one entry of a `difference`; a null takes the field away. This replays a log."""
    return _with(cloud, _keys(path), value)


def spare(before: Cloud, after: Cloud, paths: Iterable[str]) -> Cloud:
    """`after` with what is at these paths of the difference as it was before.

    A url that is new comes whole or not at all: half of one would be no AllocationCloud.
    """
    changed = difference(before, after)
    for path in paths:
        parent, _, _ = path.rpartition(".")
        whole = parent and get(before, parent) is None
        for each in [name for name in changed if whole and name.startswith(f"{parent}.")] or [path]:
            after = with_change(after, each, changed[each][0])
    return after


def get(cloud: Json, path: str) -> Json:
    """The value at a dotted path of known names, None where there is none."""
    value = cloud
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _urls_of(cloud: Cloud) -> tuple[str, ...]:
    return _URLS if _has(cloud, "urls.vanity") else _URLS[:2]


def _has(cloud: Cloud, path: str) -> bool:
    parent, _, key = path.rpartition(".")
    holder = get(cloud, parent) if parent else cloud
    return isinstance(holder, Mapping) and key in holder


def _is_schema(cloud: Cloud, path: str) -> bool:
    if not _has(cloud, path):
        return True
    migration = get(cloud, f"{path}.migration")
    whole = isinstance(migration, NumberLiteral) and _INTEGER.fullmatch(migration.text) is not None
    return whole and isinstance(get(cloud, f"{path}.semantic"), str)


def _differences(before: Json, after: Json, path: str | None) -> Iterator[tuple[str, list[Json]]]:
    if before == after or path == "updated":
        return
    if path is not None and not (
        path in _OBJECTS and _is_object_or_absent(before) and _is_object_or_absent(after)
    ):
        yield path, [before, after]
        return
    left = before if isinstance(before, Mapping) else {}
    right = after if isinstance(after, Mapping) else {}
    for key in dict.fromkeys((*left, *right)):
        name = key.replace("\\", r"\\").replace(".", r"\.")
        yield from _differences(left.get(key), right.get(key), name if path is None else f"{path}.{name}")


def _is_object_or_absent(value: Json) -> bool:
    return value is None or isinstance(value, Mapping)


def _keys(path: str) -> list[str]:
    keys: list[str] = []
    start = 0
    while start <= len(path):
        part = _PART.match(path, start)
        end = part.end() if part else len(path)
        keys.append(re.sub(r"\\(.)", r"\1", path[start:end], flags=re.DOTALL))
        start = end + 1
    return keys


def _with(cloud: Cloud, keys: list[str], value: Json) -> dict[str, Json]:
    key, *rest = keys
    if rest:
        child = cloud.get(key)
        value = _with(child if isinstance(child, Mapping) else {}, rest, value) or None
    if value is None:
        return {name: item for name, item in cloud.items() if name != key}
    return {**cloud, key: value}
