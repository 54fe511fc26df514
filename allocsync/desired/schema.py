"""Nodes into desired allocations: what may be declared, and every mistake at once.

The rules: an allocation with a mistake is quarantined, with its messages, and the others go on; a mistake of
the document (its version, its shape, its defaults) rejects the whole generation, because nobody can say what
was meant. null is an error: a field that is not wanted is left out.

Left out: which files there are and ids in two of them (`load`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from allocsync.desired.source import Block, Node, Pair, Scalar
from allocsync.desired.text import SourceText, shown
from allocsync.errors import Problem
from allocsync.planning.model import (
    DECLARABLE,
    STATUSES,
    UNDECLARABLE_STATUSES,
    AllocationId,
    Desired,
    Mode,
)

API_VERSION = "allocsync/v1"
SERVER_OWNED = ("updated", "schema")
MAX_ID_LENGTH = 256
MAX_VALUE_LENGTH = 4_096
_DOCUMENT_KEYS = ("apiVersion", "defaults", "allocations")
_MODE = "mode"
Tree = Mapping[str, "Tree | None"]


def _tree() -> Tree:
    tree: dict[str, dict[str, object] | None] = {_MODE: None}
    for name in DECLARABLE:
        *parents, last = name.split(".")
        place: dict[str, object] = tree  # type: ignore[assignment]  # the same shape, one level down at a time
        for parent in parents:
            place = place.setdefault(parent, {})  # type: ignore[assignment]  # likewise
        place[last] = None
    return tree  # type: ignore[return-value]  # likewise


# What may stand in an allocation: a key leads to more keys, or (None) to a value.
BODY = _tree()


@dataclass(slots=True)
class Declared:
    """One allocation as one document declares it; `desired` is None when it has problems."""

    id: AllocationId
    source: SourceText
    at: int
    desired: Desired | None
    problems: tuple[Problem, ...]


@dataclass(slots=True)
class Document:
    """What one document declares; `fatal` problems reject the generation."""

    allocations: list[Declared] = field(default_factory=list)
    fatal: list[Problem] = field(default_factory=list)


def read_document(node: Node, source: SourceText, *, default_mode: Mode) -> Document:
    """Everything that a document declares, and everything that is wrong with it."""
    document = Document()
    if not isinstance(node, Block):
        message = f"a document is a mapping that begins with `apiVersion: {API_VERSION}`"
        document.fatal.append(source.problem(node.at, (), message))
        return document
    document.fatal.extend(_unknown(node, _DOCUMENT_KEYS, (), source))
    document.fatal.extend(_version(node, source))
    defaults, problems = _body(node.pairs.get("defaults"), ("defaults",), source)
    document.fatal.extend(problems)
    allocations = node.pairs.get("allocations")
    if allocations is None:
        message = "`allocations` is missing; write `allocations: {}` to declare none"
        document.fatal.append(source.problem(node.at, (), message))
    elif not isinstance(allocations.node, Block):
        message = "a mapping of ids is needed; write `allocations: {}` to declare none"
        document.fatal.append(source.problem(allocations.node.at, ("allocations",), message))
    else:
        for key, pair in allocations.node.pairs.items():
            document.allocations.append(_allocation(key, pair, defaults, source, default_mode))
    return document


def _version(node: Block, source: SourceText) -> Iterator[Problem]:
    pair = node.pairs.get("apiVersion")
    if pair is None:
        yield source.problem(node.at, (), f"`apiVersion: {API_VERSION}` is missing")
    elif not isinstance(pair.node, Scalar) or pair.node.text != API_VERSION:
        said = shown(pair.node.text) if isinstance(pair.node, Scalar) else "this"
        yield source.problem(pair.node.at, ("apiVersion",), f"{said} is not known; write {API_VERSION}")


def _allocation(
    key: str, pair: Pair, defaults: Mapping[str, str], source: SourceText, default_mode: Mode
) -> Declared:
    where = ("allocations", key)
    problems = [source.problem(pair.at, where, message) for message in _id_problems(key)]
    values, wrong = _body(pair, where, source)
    problems.extend(wrong)
    merged = {**defaults, **values}
    mode = Mode(merged.pop(_MODE, default_mode))
    if not merged and not values and not problems:
        problems.append(source.problem(pair.at, where, "declares nothing; name a field, or leave the id out"))
    key_id = AllocationId(key)
    if problems:
        return Declared(key_id, source, pair.at, None, tuple(problems))
    leaves = tuple((name, merged[name]) for name in DECLARABLE if name in merged)
    desired = Desired(key_id, leaves, mode, f"{source.file}:{source.line(pair.at)}")
    return Declared(key_id, source, pair.at, desired, ())


def _id_problems(key: str) -> Iterator[str]:
    if not key or len(key) > MAX_ID_LENGTH:
        yield f"an id has 1 to {MAX_ID_LENGTH} characters"
    elif key in {".", ".."} or not key.isprintable() or any(char.isspace() for char in key):
        yield "an id has no spaces or control characters, and is neither . nor .."


def _body(
    pair: Pair | None, where: tuple[str, ...], source: SourceText
) -> tuple[dict[str, str], list[Problem]]:
    """The values by dotted field, `mode` among them."""
    values: dict[str, str] = {}
    problems: list[Problem] = []
    if pair is not None:
        _walk(pair, BODY, where, len(where), source, values, problems)
    return values, problems


def _walk(  # noqa: PLR0917 - one recursion, and what it gathers
    pair: Pair,
    tree: Tree,
    where: tuple[str, ...],
    root: int,
    source: SourceText,
    values: dict[str, str],
    problems: list[Problem],
) -> None:
    node = pair.node
    if isinstance(node, Scalar) and node.null:
        problems.append(source.problem(pair.at, where, "null; leave the key out to not own it"))
        return
    if not isinstance(node, Block):
        message = f"a mapping is needed, with some of: {', '.join(tree)}"
        problems.append(source.problem(node.at, where, message))
        return
    problems.extend(_unknown(node, tuple(tree), where, source))
    for key, child in node.pairs.items():
        if key not in tree:
            continue
        below = tree[key]
        if below is not None:
            _walk(child, below, (*where, key), root, source, values, problems)
            continue
        name = ".".join((*where[root:], key))
        wrong = _value_problem(name, child.node)
        if wrong is not None:
            problems.append(source.problem(child.node.at, (*where, key), wrong))
        elif isinstance(child.node, Scalar):
            values[name] = child.node.text


def _unknown(
    node: Block, known: tuple[str, ...], where: tuple[str, ...], source: SourceText
) -> Iterator[Problem]:
    for key, pair in node.pairs.items():
        if key in known:
            continue
        if key in SERVER_OWNED and where:
            message = "the server owns this field; leave it out"
        else:
            close = get_close_matches(key, known, n=1)
            message = "unknown field; " + (
                f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
            )
        yield source.problem(pair.at, (*where, key), message)


def _value_problem(name: str, node: Node) -> str | None:
    if not isinstance(node, Scalar):
        return "one value is needed, not a list or a mapping"
    if node.null:
        return "null; leave the key out to not own it"
    text = node.text
    if len(text) > MAX_VALUE_LENGTH:
        return f"longer than {MAX_VALUE_LENGTH:,} characters"
    if name == _MODE and text not in list(Mode):
        return f"{shown(text)} is not a mode ({' '.join(Mode)}){_suggestion(text, tuple(Mode))}"
    if name.rpartition(".")[2] in {"status", "cloud"}:
        if text in UNDECLARABLE_STATUSES:
            return f"{text} cannot be declared: the server passes through it by itself"
        if text not in STATUSES:
            refused = " and ".join(UNDECLARABLE_STATUSES)
            return (
                f"{shown(text)} is not a status ({' '.join(STATUSES)}); {refused} cannot be declared"
                f"{_suggestion(text, STATUSES)}"
            )
    return None


def _suggestion(text: str, known: tuple[str, ...]) -> str:
    close = get_close_matches(text.upper() if known is STATUSES else text.lower(), known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
