"""What a document of the desired state must hold: nodes in, declarations or problems out.

The rule: nothing is guessed and nothing is passed over. An unknown field is an error with a suggestion, null
is an error, and so is what only the server can say. What is wrong inside one allocation is that allocation's
problem (`Entry.problems`); what is wrong around them is the document's (`Document.problems`).

`read_body` is the shrink step of `source.parse`: most allocations are judged as soon as they have been read.
Left out: ids that stand in two places, and what becomes of problems (`desired.load`).
"""

import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from allocsync.desired.source_text import SourceText, shown
from allocsync.desired.yaml_parser import Block, Items, Node, Pair, Read, Scalar
from allocsync.errors import Problem
from allocsync.model.cloud import DECLARABLE, STATUSES, UNDECLARABLE_STATUSES
from allocsync.model.desired_state import Desired, Mode
from allocsync.model.ids import AllocationId

API_VERSION = "allocsync/v1"
MAX_ID_LENGTH = 256
MAX_TEXT_LENGTH = 8_192  # of a value; more is a file that went in by mistake
_SLASHES = re.compile(r"[/\\]")
_DOCUMENT_KEYS = ("apiVersion", "defaults", "allocations")
_SERVERS = ("updated", "schema")
_MODES = tuple(Mode)
STATUS_FIELDS = frozenset(name for name in DECLARABLE if name.partition(".")[2].endswith(("status", "cloud")))
_NULL = "null; leave the key out"

Fault: TypeAlias = Callable[[int, Sequence[str], str], None]


def _children() -> dict[str, tuple[str, ...]]:
    """The fields under each dotted field: `urls` has base, id, vanity; the body itself is the empty name."""
    found: dict[str, dict[str, None]] = {}
    for name in DECLARABLE:
        parts = name.split(".")
        for depth, part in enumerate(parts):
            found.setdefault(".".join(parts[:depth]), {})[part] = None
    return {parent: tuple(names) for parent, names in found.items()}


_FIELDS: Mapping[str, tuple[str, ...]] = _children()


def fields_under(parent: str) -> tuple[str, ...]:
    """The names that may stand under a dotted field, or, for the empty name, in an allocation."""
    return _FIELDS[parent]


@dataclass(frozen=True, slots=True)
class Body:
    """The declarations of one allocation, or of the defaults, and what is wrong with them."""

    leaves: Mapping[str, str]
    mode: Mode | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One allocation of a document: as declared, or None and why not."""

    id: AllocationId
    at: int
    desired: Desired | None
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its allocations, and what is wrong with the document itself."""

    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]


def read_body(source: SourceText, keys: Sequence[str], block: Block) -> Block | Read:
    """Judge an allocation's body as soon as its mapping has ended; other mappings are left as they are."""
    return Read(block.at, _body(source, keys, block)) if keys[0] == "allocations" else block


def read_document(source: SourceText, node: Node, *, default_mode: Mode) -> Document:
    """Judge one document whole; every problem, in no order."""
    problems: list[Problem] = []
    fault = partial(_note, source, problems)
    if not isinstance(node, Block):
        fault(node.at, (), f"a document is a mapping; begin with `apiVersion: {API_VERSION}`")
        return Document((), tuple(problems))
    if not _is_ours(node, fault):
        return Document((), tuple(problems))
    for name, pair in node.pairs.items():
        if name not in _DOCUMENT_KEYS:
            fault(pair.at, (name,), _not_among(name, _DOCUMENT_KEYS))
    defaults = _defaults(source, node, problems)
    allocations = _allocations(node, fault)
    entries = []
    for key, pair in allocations.items():
        wrong = wrong_id(key)
        if wrong:
            fault(pair.at, ("allocations", key), wrong)
        else:
            entries.append(_entry(source, key, pair, defaults, default_mode))
    return Document(tuple(entries), tuple(problems))


def _note(source: SourceText, problems: list[Problem], at: int, keys: Sequence[str], message: str) -> None:
    problems.append(source.problem(at, keys, message))


# The document.


def _is_ours(node: Block, fault: Fault) -> bool:
    """Whether the rest of the document can be judged: another apiVersion would make every field wrong."""
    pair = node.pairs.get("apiVersion")
    if pair is None:
        fault(node.at, (), f"apiVersion is missing; write `apiVersion: {API_VERSION}`")
        return True
    if isinstance(pair.node, Scalar) and pair.node.text == API_VERSION:
        return True
    given = shown(pair.node.text) if isinstance(pair.node, Scalar) else "this"
    fault(pair.node.at, ("apiVersion",), f"{given or 'nothing'} is not known here; write {API_VERSION}")
    return False


def _defaults(source: SourceText, node: Block, problems: list[Problem]) -> Body:
    pair = node.pairs.get("defaults")
    if pair is None:
        return Body({}, None, ())
    body = _body(source, ("defaults",), pair.node, pair.at)
    problems.extend(body.problems)
    return body


def _allocations(node: Block, fault: Fault) -> Mapping[str, Pair]:
    pair = node.pairs.get("allocations")
    if pair is None:
        fault(node.at, (), "allocations is missing; write `allocations: {}` to declare none")
        return {}
    if isinstance(pair.node, Block):
        return pair.node.pairs
    is_null = isinstance(pair.node, Scalar) and pair.node.null
    what = "null; write `{}` to declare none" if is_null else "this must be a mapping from ids to allocations"
    fault(pair.at, ("allocations",), what)
    return {}


def wrong_id(key: str) -> str:
    """What is wrong with an id; an allocation without a usable id cannot be told from others."""
    if not key:
        return "an id cannot be empty"
    if len(key) > MAX_ID_LENGTH:
        return f"an id has at most {MAX_ID_LENGTH} characters and this has {len(key):,}"
    if " " in key or not key.isprintable():  # no other white space is printable
        return "an id cannot hold spaces, line breaks or control characters"
    if key in {".", ".."}:
        return "an id cannot be . or .. (a URL would lose it)"
    if "." in key and not {".", ".."}.isdisjoint(_SLASHES.split(key)):
        return "an id cannot hold . or .. between slashes (a proxy would take it for a path to another)"
    return ""


def _entry(source: SourceText, key: str, pair: Pair, defaults: Body, default_mode: Mode) -> Entry:
    allocation_id, keys = AllocationId(key), ("allocations", key)
    read = pair.node.value if isinstance(pair.node, Read) else None
    body = read if isinstance(read, Body) else _body(source, keys, pair.node, pair.at)
    if body.problems:
        return Entry(allocation_id, pair.at, None, body.problems)
    leaves = {**defaults.leaves, **body.leaves}
    mode = body.mode or defaults.mode
    if not leaves and mode is None and not defaults.problems:
        nothing = source.problem(pair.at, keys, "declares nothing; give it a field or a mode, or remove it")
        return Entry(allocation_id, pair.at, None, (nothing,))
    desired = Desired(
        id=allocation_id,
        leaves=tuple((name, leaves[name]) for name in DECLARABLE if name in leaves),
        mode=mode or default_mode,
        source=f"{source.file}:{source.line(pair.at)}",
    )
    return Entry(allocation_id, pair.at, desired)


# The body.


@dataclass(slots=True)
class _Reading:
    """A body while it is read."""

    fault: Fault
    leaves: dict[str, str] = field(default_factory=dict)
    mode: Mode | None = None


def _body(source: SourceText, keys: Sequence[str], node: Node, at: int | None = None) -> Body:
    """Read a body; `at` is where its key stands, where that is known."""
    problems: list[Problem] = []
    reading = _Reading(partial(_note, source, problems))
    if isinstance(node, Block):
        _fields(reading, keys, "", node)
    elif isinstance(node, Scalar) and node.null:
        what = "null; leave the key out" if len(keys) == 1 else "null; write `{}` or leave the key out"
        reading.fault(node.at if at is None else at, keys, what)
    else:
        reading.fault(node.at, keys, f"this must be a mapping (fields: {' '.join(_FIELDS[''])} mode)")
    return Body(reading.leaves, reading.mode, tuple(problems))


def _fields(reading: _Reading, keys: Sequence[str], parent: str, block: Block) -> None:
    known = _FIELDS[parent]
    for name, pair in block.pairs.items():
        if name in known:
            _field(reading, (*keys, name), f"{parent}.{name}" if parent else name, pair)
        elif name == "mode" and not parent:
            reading.mode = _mode(reading, (*keys, name), pair)
        else:
            reading.fault(pair.at, (*keys, name), _unknown(name, parent))


def _field(reading: _Reading, keys: Sequence[str], name: str, pair: Pair) -> None:
    node = pair.node
    if isinstance(node, Scalar) and node.null:
        reading.fault(pair.at, keys, _NULL)
    elif name in _FIELDS:
        if isinstance(node, Block):
            _fields(reading, keys, name, node)
        else:
            reading.fault(node.at, keys, f"this must be a mapping (fields: {' '.join(_FIELDS[name])})")
    elif not isinstance(node, Scalar):
        reading.fault(node.at, keys, f"this must be a single value, not a {_kind(node)}")
    elif len(node.text) > MAX_TEXT_LENGTH:
        reading.fault(
            node.at,
            keys,
            f"a value has at most {MAX_TEXT_LENGTH:,} characters and this has {len(node.text):,}",
        )
    elif name in STATUS_FIELDS and (wrong := _wrong_status(node.text)):
        reading.fault(node.at, keys, wrong)
    else:
        reading.leaves[name] = node.text


def _mode(reading: _Reading, keys: Sequence[str], pair: Pair) -> Mode | None:
    node = pair.node
    if isinstance(node, Scalar) and node.text in _MODES:
        return Mode(node.text)
    if not isinstance(node, Scalar):
        reading.fault(node.at, keys, f"this must be a single value, not a {_kind(node)}")
    elif node.null:
        reading.fault(pair.at, keys, _NULL)
    else:
        choices = f"is not a mode ({' '.join(_MODES)})"
        reading.fault(node.at, keys, f"{shown(node.text)} {choices}{_suggest(node.text, _MODES)}")
    return None


def _wrong_status(status: str) -> str:
    if status in UNDECLARABLE_STATUSES:
        return f"{status} cannot be declared: the server passes through it and nobody can want it"
    if status in STATUSES:
        return ""
    wanted = [name for name in STATUSES if name not in UNDECLARABLE_STATUSES]
    return (
        f"{shown(status) or 'an empty text'} is not a status ({' '.join(STATUSES)}); "
        f"{' and '.join(UNDECLARABLE_STATUSES)} cannot be declared{_suggest(status, wanted)}"
    )


def _unknown(name: str, parent: str) -> str:
    if name in _SERVERS:
        return "the server owns this; leave it out"
    if name == "id" and not parent:
        return "the id is the key that this stands under; leave it out"
    fields = [*_FIELDS[parent], *([] if parent else ["mode"])]
    elsewhere = [full for full in (*DECLARABLE, *_FIELDS) if full.rpartition(".")[2] == name]
    if elsewhere and not _suggest(name, fields):
        return f"unknown field; did you mean {elsewhere[0]}?"
    return _not_among(name, fields)


def _not_among(name: str, fields: Collection[str]) -> str:
    return "unknown field" + (_suggest(name, fields) or f" (fields: {' '.join(fields)})")


def _kind(node: Node) -> str:
    return "list" if isinstance(node, Items) else "mapping"


def _suggest(name: str, known: Collection[str]) -> str:
    """`; did you mean region?`, or nothing; case and dashes are no difference."""
    folded = {one.casefold(): one for one in known}
    asked = name[:MAX_ID_LENGTH].casefold().replace("-", "")
    close = difflib.get_close_matches(asked, folded, n=1)
    return f"; did you mean {folded[close[0]]}?" if close else ""
