"""The rules of an AllocationCloud: what is valid, what an update makes of one, how two of them differ. Pure.

The rules:
- An update replaces the whole object, as in the API, except `updated` and `schema`: they belong to the
  server, and their values in the body are ignored.
- A null in an optional field means that the field is absent. Null and absent are no difference.
- A difference is reported field by field where the API defines the fields, and as one value elsewhere.
- A cloud without `schema_problems` is an AllocationCloud by the API's own schema; unknown fields are allowed.

Left out: where clouds are stored (`reference_server.store`) and what goes wrong on the way
(`reference_server.faults`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from allocsync.model.cloud import STATUSES, Cloud, Json, NumberLiteral, field_value

SERVER_OWNED = ("updated", "schema")
_URLS = ("urls.base", "urls.id", "urls.vanity")
# The objects that are compared field by field. Any other value is compared as a whole.
_OBJECTS = ("status", "urls", *_URLS)
_SCHEMAS = ("schema", "updated.schema", *(f"{name}.schema" for name in _OBJECTS))
_OPTIONAL = ("region", "version", "updated", "urls.vanity", *_SCHEMAS)
_INTEGER = re.compile(r"-?\d+", re.ASCII)
_PATH_PART = re.compile(r"(?:[^.\\]|\\.)*", re.DOTALL)
_SMALLEST_STEP = timedelta(microseconds=1)


def schema_problems(cloud: Cloud, *, stored: Json = None) -> list[str]:
    """Return the reasons why this is not an AllocationCloud, or an empty list if it is one.

    A null counts as a value here. A status that the API does not define is accepted if `stored` has it at the
    same place, because later versions of the API may define more.
    """
    text_fields = ["id", "user", "project", *(name for name in ("region", "version") if name in cloud)]
    text_fields += [f"{name}.url" for name in _url_paths(cloud)]
    if "updated" in cloud:
        text_fields.append("updated.value")
    problems = [
        f"{name} must be a string" for name in text_fields if not isinstance(value_at(cloud, name), str)
    ]
    for name in ("status.cloud", *(f"{name}.status" for name in _url_paths(cloud))):
        value = value_at(cloud, name)
        if not isinstance(value, str) or (value not in STATUSES and value != value_at(stored, name)):
            problems.append(f"{name} must be one of {' '.join(STATUSES)}")
    problems += [
        f"{name} needs migration and semantic" for name in _SCHEMAS if not _is_valid_schema(cloud, name)
    ]
    return problems


def without_nulls(cloud: Cloud) -> dict[str, Json]:
    """Return the cloud without the nulls in optional fields of the API. Other nulls stay."""
    kept = dict(cloud)
    for path in _OPTIONAL:
        if value_at(kept, path) is None and _has_field(kept, path):
            kept = _with_value(kept, path.split("."), None)
    return kept


def replace_cloud(before: Cloud, body: Cloud) -> dict[str, Json]:
    """Return the cloud after an update: the body, with the fields of the server as they were before."""
    after = {name: value for name, value in without_nulls(body).items() if name not in SERVER_OWNED}
    return {name: before[name] for name in SERVER_OWNED if name in before} | after


def with_new_updated(before: Cloud, after: Cloud, now: datetime) -> dict[str, Json]:
    """Return `after` with `updated` set to `now`, but always later than its last value."""
    last = value_at(before, "updated.value")
    moment = now.astimezone(UTC)
    try:
        previous = datetime.fromisoformat(last).astimezone(UTC) if isinstance(last, str) else None
        if previous is not None and moment <= previous:
            moment = previous + _SMALLEST_STEP
    except (ValueError, OverflowError):
        pass  # the seed has a value that is not a time, or is out of range; `now` differs from it anyway
    text = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    schema = value_at(before, "updated.schema")
    updated: dict[str, Json] = {"value": text} if schema is None else {"value": text, "schema": schema}
    return {**after, "updated": updated}


def difference(before: Cloud, after: Cloud) -> dict[str, list[Json]]:
    """Return {path: [before, after]} for everything that differs except `updated`. None stands for absent.

    Paths are dotted (`urls.vanity.url`). In the name of an unknown field, a dot and a backslash are escaped
    with a backslash, so that no two fields have the same path.
    """
    return dict(_differences(before, after, None))


def with_change(cloud: Cloud, path: str, value: Json) -> dict[str, Json]:
    """Return the cloud with this value at a path of `difference`; None removes the field.

    Applying the entries of all differences in the log, in order, rebuilds the cloud.
    """
    return _with_value(cloud, _split_path(path), value)


def keep_unchanged(before: Cloud, after: Cloud, paths: Iterable[str]) -> Cloud:
    """Return `after` with the values of `before` at these paths, which must be paths of their difference.

    If `before` has no object around such a path, all of the new object is left out: a URL without its status
    is not a valid AllocationCloud.
    """
    changed = difference(before, after)
    for path in paths:
        parent, _, _ = path.rpartition(".")
        is_new_object = parent and value_at(before, parent) is None
        for each in [name for name in changed if is_new_object and name.startswith(f"{parent}.")] or [path]:
            after = with_change(after, each, changed[each][0])
    return after


def value_at(cloud: Json, path: str) -> Json:
    """Return the value at a dotted path of known names, or None if it or a part of the path is absent."""
    return field_value(cloud, path) if isinstance(cloud, Mapping) else None


def _url_paths(cloud: Cloud) -> tuple[str, ...]:
    return _URLS if _has_field(cloud, "urls.vanity") else _URLS[:2]


def _has_field(cloud: Cloud, path: str) -> bool:
    parent, _, key = path.rpartition(".")
    holder = value_at(cloud, parent) if parent else cloud
    return isinstance(holder, Mapping) and key in holder


def _is_valid_schema(cloud: Cloud, path: str) -> bool:
    if not _has_field(cloud, path):
        return True
    migration = value_at(cloud, f"{path}.migration")
    whole = isinstance(migration, NumberLiteral) and _INTEGER.fullmatch(migration.text) is not None
    return whole and isinstance(value_at(cloud, f"{path}.semantic"), str)


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


def _split_path(path: str) -> list[str]:
    keys: list[str] = []
    start = 0
    while start <= len(path):
        part = _PATH_PART.match(path, start)
        end = part.end() if part else len(path)
        keys.append(re.sub(r"\\(.)", r"\1", path[start:end], flags=re.DOTALL))
        start = end + 1
    return keys


def _with_value(cloud: Cloud, keys: list[str], value: Json) -> dict[str, Json]:
    key, *rest = keys
    if rest:
        child = cloud.get(key)
        value = _with_value(child if isinstance(child, Mapping) else {}, rest, value) or None
    if value is None:
        return {name: item for name, item in cloud.items() if name != key}
    return {**cloud, key: value}
