"""Reads clouds from a file in the shape of an answer of `GET /allocations`: JSON, or YAML.

The rule: a saved answer of a real server is a seed. JSON is taken to the letter. YAML is read safely, as JSON
would have it: numbers keep their literals, times stay text, and what the API calls a text is one even where
YAML sees a number (`version: 1.10` is "1.10"). A file with a mistake in it is refused as a whole.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from allocsync.api import wire
from allocsync.api.server.clouds import get, problems_of, with_change, without_nulls
from allocsync.errors import AllocsyncError
from allocsync.planning.model import DECLARABLE, Cloud, Json, NumberLiteral

_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?", re.ASCII)
_TEXTS = ("id", *DECLARABLE)
_PROBLEMS_SHOWN = 3


class _SeedLoader(yaml.SafeLoader):
    """YAML without times, and with numbers that stay as they were written."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the library's own way to say it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def literal(self, node: yaml.ScalarNode) -> NumberLiteral:
        """The number as JSON writes it: as it stands where that is JSON, else its value."""
        text = str(self.construct_scalar(node))
        if _NUMBER.fullmatch(text):
            return NumberLiteral(text)
        integer = node.tag.endswith(":int")
        try:
            return wire.number(self.construct_yaml_int(node) if integer else self.construct_yaml_float(node))
        except ValueError as error:
            raise yaml.constructor.ConstructorError(
                None, None, f"{text} is no number that JSON has", node.start_mark
            ) from error


_SeedLoader.add_constructor("tag:yaml.org,2002:int", _SeedLoader.literal)
_SeedLoader.add_constructor("tag:yaml.org,2002:float", _SeedLoader.literal)


def read_seed(path: Path) -> list[Cloud]:
    """The clouds of a seed file, in its order.

    Raises:
        AllocsyncError: it cannot be read, or is not the shape of an answer of `GET /allocations`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AllocsyncError(f"{path}: {error.strerror}") from error
    try:
        return clouds_of(wire.loads(data), str(path))
    except wire.WireError as error:
        if data.lstrip()[:1] == b"{" and path.suffix.lower() == ".json":
            raise AllocsyncError(f"{path}: {error}") from error
    return clouds_of(_read_yaml(data, path), str(path))


def clouds_of(answer: Json, name: str) -> list[Cloud]:
    """The clouds of something in the shape of an answer of `GET /allocations`; `name` is for errors.

    Raises:
        AllocsyncError: it has another shape, an entry is no AllocationCloud, or an id comes twice.
    """
    rows = answer.get("iterable") if isinstance(answer, Mapping) else None
    if not isinstance(rows, list):
        raise AllocsyncError(f'{name}: not the shape of a GET /allocations answer ({{"iterable": [...]}})')
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise AllocsyncError(f"{name}: entry {number} of iterable is not an object")
        problems = problems_of(without_nulls(row), stored=row)
        key = str(row.get("id"))
        if key in seen:
            problems = ["this id was there before"]
        if problems:
            said = "; ".join(problems[:_PROBLEMS_SHOWN])
            more = f"; and {len(problems) - _PROBLEMS_SHOWN} more" if len(problems) > _PROBLEMS_SHOWN else ""
            raise AllocsyncError(f"{name}: entry {number} of iterable, id {key!r}: {said}{more}")
        seen.add(key)
    return rows


def _read_yaml(data: bytes, path: Path) -> Json:
    try:
        read = yaml.load(data, Loader=_SeedLoader)  # noqa: S506 - it is a SafeLoader
        # Once through the wire format: what JSON cannot say (a key that is no text, bytes, a loop of aliases)
        # is found here and not in an answer.
        value = wire.loads(wire.dumps(read))
    except (yaml.YAMLError, wire.WireError) as error:
        said = " ".join(str(error).split())
        raise AllocsyncError(f"{path}: neither JSON nor YAML that JSON could say: {said}") from error
    except (TypeError, RecursionError) as error:
        raise AllocsyncError(f"{path}: this YAML holds what JSON cannot say: {error}") from error
    rows = value.get("iterable") if isinstance(value, Mapping) else None
    if not isinstance(rows, list):
        return value
    return {"iterable": [_texts(row) if isinstance(row, Mapping) else row for row in rows]}


def _texts(cloud: Cloud) -> Cloud:
    for path in _TEXTS:
        value = get(cloud, path)
        if isinstance(value, NumberLiteral):
            cloud = with_change(cloud, path, value.text)
    return cloud
