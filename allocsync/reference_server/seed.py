"""Reads clouds from a seed file, which has the shape of a `GET /allocations` response, in JSON or YAML.

The rules:
- A saved response of a real server is a seed. JSON is taken unchanged.
- YAML is read safely and gives what the same JSON would give: numbers keep their literals, times stay
  strings, and a field that is a string in the API is one even if YAML reads a number (`version: 1.10` is
  "1.10").
- Every entry needs an id of its own. Other departures from an AllocationCloud are reported
  (`schema_warnings`) and accepted, because a client may have to handle them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import yaml

from allocsync.api import json_codec
from allocsync.errors import AllocsyncError
from allocsync.model.cloud import DECLARABLE, Cloud, Json, NumberLiteral
from allocsync.reference_server.clouds import schema_problems, without_nulls

_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?", re.ASCII)
_TEXT_FIELDS = ("id", *DECLARABLE)


class _SeedLoader(yaml.SafeLoader):
    """Loads YAML as if it were JSON: no times, only true and false as booleans, numbers as literals."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML defines resolvers this way
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":bool"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_literal(self, node: yaml.ScalarNode) -> NumberLiteral:
        """Return the number as a JSON literal: as written if that is valid JSON, else by its value."""
        text = str(self.construct_scalar(node))
        if _NUMBER.fullmatch(text):
            return NumberLiteral(text)
        integer = node.tag.endswith(":int")
        try:
            return json_codec.number_literal(
                self.construct_yaml_int(node) if integer else self.construct_yaml_float(node)
            )
        except ValueError as error:
            raise yaml.constructor.ConstructorError(
                None, None, f"{text} is not a number in JSON", node.start_mark
            ) from error


_SeedLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_SeedLoader.add_constructor("tag:yaml.org,2002:int", _SeedLoader.construct_literal)
_SeedLoader.add_constructor("tag:yaml.org,2002:float", _SeedLoader.construct_literal)


def read_seed(path: Path) -> list[Cloud]:
    """Return the clouds of a seed file, in its order.

    Raises:
        AllocsyncError: the file cannot be read, or does not have the shape of a `GET /allocations` response.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AllocsyncError(f"{path}: {error.strerror}") from error
    try:
        return parse_clouds(json_codec.loads(data), str(path))
    except json_codec.CodecError as error:
        if data.lstrip()[:1] == b"{" and path.suffix.lower() == ".json":
            raise AllocsyncError(f"{path}: {error}") from error
    return parse_clouds(_read_yaml(data, path), str(path))


def parse_clouds(answer: Json, name: str) -> list[Cloud]:
    """Return the clouds of a `GET /allocations` response; `name` stands for it in errors.

    Raises:
        AllocsyncError: it has another shape, an entry has no id, or an id is used twice.
    """
    rows = answer.get("iterable") if isinstance(answer, Mapping) else None
    if not isinstance(rows, list):
        raise AllocsyncError(f'{name}: not a response of GET /allocations ({{"iterable": [...]}})')
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        key = row.get("id") if isinstance(row, Mapping) else None
        if not isinstance(key, str) or not key:
            raise AllocsyncError(f"{name}: entry {number} of iterable has no id")
        if key in seen:
            raise AllocsyncError(
                f"{name}: entry {number} of iterable has the same id as an earlier entry: {key!r}"
            )
        seen.add(key)
    return rows


def schema_warnings(clouds: Iterable[Cloud]) -> Iterator[str]:
    """Yield one line for each cloud that is not an AllocationCloud by the API's own schema."""
    for cloud in clouds:
        problems = schema_problems(without_nulls(cloud))
        if problems:
            yield f"allocation {cloud['id']!r} is not valid but served as it is: {'; '.join(problems)}"


def _read_yaml(data: bytes, path: Path) -> Json:
    loader: _SeedLoader | None = None
    try:
        loader = _SeedLoader(data)
        node = loader.get_single_node()
        for cloud in _sequence(_child(node, "iterable")):
            for name in _TEXT_FIELDS:
                _mark_as_text(cloud, name)
        # Written as JSON and read back, so that what JSON cannot hold (a key that is not a string, bytes, a
        # loop of aliases) is found here and not in a response.
        return json_codec.loads(json_codec.dumps(None if node is None else loader.construct_document(node)))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise AllocsyncError(
            f"{path}: neither JSON nor YAML that can be written as JSON: {reason}"
        ) from error
    finally:
        if loader is not None:
            loader.dispose()


def _mark_as_text(cloud: yaml.Node, path: str) -> None:
    node: yaml.Node | None = cloud
    for key in path.split("."):
        node = _child(node, key)
    if isinstance(node, yaml.ScalarNode) and node.tag.endswith((":int", ":float", ":bool")):
        node.tag = "tag:yaml.org,2002:str"


def _child(node: yaml.Node | None, key: str) -> yaml.Node | None:
    rows = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in rows if name.value == key), None)


def _sequence(node: yaml.Node | None) -> list[yaml.Node]:
    return node.value if isinstance(node, yaml.SequenceNode) else []
