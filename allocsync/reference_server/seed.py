"""Reads clouds from a file in the shape of an answer of `GET /allocations`: JSON, or YAML.

The rule: a saved answer of a real server is a seed. JSON is taken to the letter. YAML is read safely, as JSON
would have it: numbers keep their literals, times stay text, and what the API calls a text is one even where
YAML sees a number (`version: 1.10` is "1.10"). Every entry needs an id of its own; what else an
AllocationCloud lacks is told (`doubts_about`) and not refused, since a client may have to cope with it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import yaml

from allocsync.api import json_codec
from allocsync.errors import AllocsyncError
from allocsync.model.cloud import DECLARABLE, Cloud, Json, NumberLiteral
from allocsync.reference_server.clouds import problems_of, without_nulls

_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?", re.ASCII)
_TEXTS = ("id", *DECLARABLE)


class _SeedLoader(yaml.SafeLoader):
    """YAML as JSON would have it: no times, true and false only, numbers that stay as they were written."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the library's own way to say it
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":bool"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def literal(self, node: yaml.ScalarNode) -> NumberLiteral:
        """The number as JSON writes it: as it stands where that is JSON, else its value."""
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
                None, None, f"{text} is no number that JSON has", node.start_mark
            ) from error


_SeedLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
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
        return clouds_of(json_codec.loads(data), str(path))
    except json_codec.CodecError as error:
        if data.lstrip()[:1] == b"{" and path.suffix.lower() == ".json":
            raise AllocsyncError(f"{path}: {error}") from error
    return clouds_of(_read_yaml(data, path), str(path))


def clouds_of(answer: Json, name: str) -> list[Cloud]:
    """The clouds of something in the shape of an answer of `GET /allocations`; `name` is for errors.

    Raises:
        AllocsyncError: it has another shape, an entry has no id, or an id comes twice.
    """
    rows = answer.get("iterable") if isinstance(answer, Mapping) else None
    if not isinstance(rows, list):
        raise AllocsyncError(f'{name}: not the shape of a GET /allocations answer ({{"iterable": [...]}})')
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        key = row.get("id") if isinstance(row, Mapping) else None
        if not isinstance(key, str) or not key:
            raise AllocsyncError(f"{name}: entry {number} of iterable has no id")
        if key in seen:
            raise AllocsyncError(f"{name}: entry {number} of iterable has the id {key!r} of an earlier one")
        seen.add(key)
    return rows


def doubts_about(clouds: Iterable[Cloud]) -> Iterator[str]:
    """A line for each cloud that is no AllocationCloud by the API's own schema."""
    for cloud in clouds:
        problems = problems_of(without_nulls(cloud))
        if problems:
            yield f"allocation {cloud['id']!r} is served as it is, though {'; '.join(problems)}"


def _read_yaml(data: bytes, path: Path) -> Json:
    loader: _SeedLoader | None = None
    try:
        loader = _SeedLoader(data)
        node = loader.get_single_node()
        for cloud in _sequence(_child(node, "iterable")):
            for name in _TEXTS:
                _read_as_text(cloud, name)
        # Once through the wire format: what JSON cannot say (a key that is no text, bytes, a loop of aliases)
        # is found here and not in an answer.
        return json_codec.loads(json_codec.dumps(None if node is None else loader.construct_document(node)))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise AllocsyncError(f"{path}: neither JSON nor YAML that JSON could say: {said}") from error
    finally:
        if loader is not None:
            loader.dispose()


def _read_as_text(cloud: yaml.Node, path: str) -> None:
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
