"""Checks documents of the desired state: nodes become declarations or problems.

The rules: nothing is guessed and nothing is ignored. An unknown field is an error with a suggestion; null is
an error, and so is a value that only the server may set. An error inside one allocation belongs to its entry
(`Entry.problems`); any other error belongs to the document (`Document.problems`).

`read_body` is the `reduce` function for `yaml_parser.parse`: most allocations are checked as soon as they
are parsed, so that their nodes can be freed.

Left out: duplicate ids across documents, and what follows from a problem (`desired.loader`).
"""

import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from allocsync.desired.source_text import SourceText, excerpt
from allocsync.desired.yaml_parser import ListNode, MappingNode, Node, Pair, ReducedNode, ScalarNode
from allocsync.errors import Problem
from allocsync.model.cloud import DECLARABLE, STATUSES, UNDECLARABLE_STATUSES
from allocsync.model.desired_state import Desired, Mode
from allocsync.model.ids import AllocationId

API_VERSION = "allocsync/v1"
MAX_ID_LENGTH = 256
MAX_TEXT_LENGTH = 8_192  # of a value; a longer one is a whole file pasted by mistake
_SLASHES = re.compile(r"[/\\]")
_DOCUMENT_KEYS = ("apiVersion", "defaults", "allocations")
_SERVER_FIELDS = ("updated", "schema")
_MODES = tuple(Mode)
STATUS_FIELDS = frozenset(name for name in DECLARABLE if name.partition(".")[2].endswith(("status", "cloud")))
_NULL_PROBLEM = "null; leave the key out"

ReportProblem: TypeAlias = Callable[[int, Sequence[str], str], None]


def _group_fields() -> dict[str, tuple[str, ...]]:
    """The names under each dotted field (`urls`: base, id, vanity); an empty name stands for the body."""
    found: dict[str, dict[str, None]] = {}
    for name in DECLARABLE:
        parts = name.split(".")
        for depth, part in enumerate(parts):
            found.setdefault(".".join(parts[:depth]), {})[part] = None
    return {parent: tuple(names) for parent, names in found.items()}


_FIELDS: Mapping[str, tuple[str, ...]] = _group_fields()


def fields_under(parent: str) -> tuple[str, ...]:
    """The names allowed under a dotted field or, for an empty name, in an allocation."""
    return _FIELDS[parent]


@dataclass(frozen=True, slots=True)
class Body:
    """The declared fields and mode of one allocation, or of the defaults, and the errors in them."""

    fields: Mapping[str, str]
    mode: Mode | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One allocation of a document; `desired` is None if there are problems. `offset` is that of its key."""

    id: AllocationId
    offset: int
    desired: Desired | None
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its allocations, and the errors outside them."""

    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]


def read_body(source: SourceText, keys: Sequence[str], block: MappingNode) -> MappingNode | ReducedNode:
    """Check the body of an allocation; return any other mapping unchanged. See `yaml_parser.parse`."""
    return ReducedNode(block.offset, _read_body(source, keys, block)) if keys[0] == "allocations" else block


def read_document(source: SourceText, node: Node, *, default_mode: Mode) -> Document:
    """Check one document; its problems are complete and in no particular order.

    Of a document with an unsupported apiVersion only that problem is reported.
    """
    problems: list[Problem] = []
    report = partial(_add_problem, source, problems)
    if not isinstance(node, MappingNode):
        report(node.offset, (), f"a document is a mapping; begin with `apiVersion: {API_VERSION}`")
        return Document((), tuple(problems))
    if not _has_supported_version(node, report):
        return Document((), tuple(problems))
    for name, pair in node.pairs.items():
        if name not in _DOCUMENT_KEYS:
            report(pair.offset, (name,), _unknown_name(name, _DOCUMENT_KEYS))
    defaults = _read_defaults(source, node, problems)
    allocations = _find_allocations(node, report)
    entries = []
    for key, pair in allocations.items():
        wrong = id_problem(key)
        if wrong:
            report(pair.offset, ("allocations", key), wrong)
        else:
            entries.append(_read_entry(source, key, pair, defaults, default_mode))
    return Document(tuple(entries), tuple(problems))


def _add_problem(
    source: SourceText, problems: list[Problem], offset: int, keys: Sequence[str], message: str
) -> None:
    problems.append(source.problem(offset, keys, message))


# The document.


def _has_supported_version(node: MappingNode, report: ReportProblem) -> bool:
    """Report a wrong or missing apiVersion; return whether to check the rest of the document.

    With another apiVersion every field would be an error. A missing one does not prevent the check.
    """
    pair = node.pairs.get("apiVersion")
    if pair is None:
        report(node.offset, (), f"apiVersion is missing; write `apiVersion: {API_VERSION}`")
        return True
    if isinstance(pair.node, ScalarNode) and pair.node.text == API_VERSION:
        return True
    given = (excerpt(pair.node.text) or "an empty text") if isinstance(pair.node, ScalarNode) else "this"
    report(pair.node.offset, ("apiVersion",), f"{given} is not a supported version; write {API_VERSION}")
    return False


def _read_defaults(source: SourceText, node: MappingNode, problems: list[Problem]) -> Body:
    pair = node.pairs.get("defaults")
    if pair is None:
        return Body({}, None, ())
    body = _read_body(source, ("defaults",), pair.node, pair.offset)
    problems.extend(body.problems)
    return body


def _find_allocations(node: MappingNode, report: ReportProblem) -> Mapping[str, Pair]:
    pair = node.pairs.get("allocations")
    if pair is None:
        report(node.offset, (), "allocations is missing; write `allocations: {}` to declare none")
        return {}
    if isinstance(pair.node, MappingNode):
        return pair.node.pairs
    is_null = isinstance(pair.node, ScalarNode) and pair.node.is_null
    what = "null; write `{}` to declare none" if is_null else "this must be a mapping from ids to allocations"
    report(pair.offset, ("allocations",), what)
    return {}


def id_problem(key: str) -> str:
    """Why an id cannot be declared, or an empty text."""
    if not key:
        return "an id cannot be empty"
    if len(key) > MAX_ID_LENGTH:
        return f"an id has at most {MAX_ID_LENGTH} characters and this has {len(key):,}"
    if " " in key or not key.isprintable():  # no other white space is printable
        return "an id cannot contain spaces, line breaks or control characters"
    if key in {".", ".."}:
        return "an id cannot be . or .. (URLs drop such a part)"
    if "." in key and not {".", ".."}.isdisjoint(_SLASHES.split(key)):
        return "an id cannot contain . or .. between slashes (a proxy would resolve it to another path)"
    return ""


def _read_entry(source: SourceText, key: str, pair: Pair, defaults: Body, default_mode: Mode) -> Entry:
    allocation_id, keys = AllocationId(key), ("allocations", key)
    read = pair.node.value if isinstance(pair.node, ReducedNode) else None
    body = read if isinstance(read, Body) else _read_body(source, keys, pair.node, pair.offset)
    if body.problems:
        return Entry(allocation_id, pair.offset, None, body.problems)
    fields = {**defaults.fields, **body.fields}
    mode = body.mode or defaults.mode
    if not fields and mode is None and not defaults.problems:
        nothing = source.problem(
            pair.offset, keys, "declares nothing; give it a field or a mode, or remove it"
        )
        return Entry(allocation_id, pair.offset, None, (nothing,))
    desired = Desired(
        id=allocation_id,
        fields=tuple((name, fields[name]) for name in DECLARABLE if name in fields),
        mode=mode or default_mode,
        source=f"{source.file}:{source.line(pair.offset)}",
    )
    return Entry(allocation_id, pair.offset, desired)


# The body.


@dataclass(slots=True)
class _BodyReader:
    """A body that is being read."""

    report: ReportProblem
    fields: dict[str, str] = field(default_factory=dict)
    mode: Mode | None = None


def _read_body(source: SourceText, keys: Sequence[str], node: Node, offset: int | None = None) -> Body:
    """Read a body; `offset` is that of its key, if known."""
    problems: list[Problem] = []
    reader = _BodyReader(partial(_add_problem, source, problems))
    if isinstance(node, MappingNode):
        _read_fields(reader, keys, "", node)
    elif isinstance(node, ScalarNode) and node.is_null:
        what = "null; leave the key out" if len(keys) == 1 else "null; write `{}` or leave the key out"
        reader.report(node.offset if offset is None else offset, keys, what)
    else:
        reader.report(node.offset, keys, f"this must be a mapping (fields: {' '.join(_FIELDS[''])} mode)")
    return Body(reader.fields, reader.mode, tuple(problems))


def _read_fields(reader: _BodyReader, keys: Sequence[str], parent: str, block: MappingNode) -> None:
    known = _FIELDS[parent]
    for name, pair in block.pairs.items():
        if name in known:
            _read_field(reader, (*keys, name), f"{parent}.{name}" if parent else name, pair)
        elif name == "mode" and not parent:
            reader.mode = _read_mode(reader, (*keys, name), pair)
        else:
            reader.report(pair.offset, (*keys, name), _unknown_field(name, parent))


def _read_field(reader: _BodyReader, keys: Sequence[str], name: str, pair: Pair) -> None:
    node = pair.node
    if isinstance(node, ScalarNode) and node.is_null:
        reader.report(pair.offset, keys, _NULL_PROBLEM)
    elif name in _FIELDS:
        if isinstance(node, MappingNode):
            _read_fields(reader, keys, name, node)
        else:
            reader.report(node.offset, keys, f"this must be a mapping (fields: {' '.join(_FIELDS[name])})")
    elif not isinstance(node, ScalarNode):
        reader.report(node.offset, keys, f"this must be a single value, not a {_kind(node)}")
    elif len(node.text) > MAX_TEXT_LENGTH:
        reader.report(
            node.offset,
            keys,
            f"a value has at most {MAX_TEXT_LENGTH:,} characters and this has {len(node.text):,}",
        )
    elif name in STATUS_FIELDS and (wrong := _status_problem(node.text)):
        reader.report(node.offset, keys, wrong)
    else:
        reader.fields[name] = node.text


def _read_mode(reader: _BodyReader, keys: Sequence[str], pair: Pair) -> Mode | None:
    node = pair.node
    if isinstance(node, ScalarNode) and node.text in _MODES:
        return Mode(node.text)
    if not isinstance(node, ScalarNode):
        reader.report(node.offset, keys, f"this must be a single value, not a {_kind(node)}")
    elif node.is_null:
        reader.report(pair.offset, keys, _NULL_PROBLEM)
    else:
        choices = f"is not a mode ({' '.join(_MODES)})"
        reader.report(node.offset, keys, f"{excerpt(node.text)} {choices}{_suggest(node.text, _MODES)}")
    return None


def _status_problem(status: str) -> str:
    if status in UNDECLARABLE_STATUSES:
        return f"{status} cannot be declared: only the server sets it"
    if status in STATUSES:
        return ""
    wanted = [name for name in STATUSES if name not in UNDECLARABLE_STATUSES]
    return (
        f"{excerpt(status) or 'an empty text'} is not a status ({' '.join(STATUSES)}); "
        f"{' and '.join(UNDECLARABLE_STATUSES)} cannot be declared{_suggest(status, wanted)}"
    )


def _unknown_field(name: str, parent: str) -> str:
    if name in _SERVER_FIELDS:
        return "the server sets this field; leave it out"
    if name == "id" and not parent:
        return "the id is the key of the allocation; leave this field out"
    fields = [*_FIELDS[parent], *([] if parent else ["mode"])]
    elsewhere = [full for full in (*DECLARABLE, *_FIELDS) if full.rpartition(".")[2] == name]
    if elsewhere and not _suggest(name, fields):
        return f"unknown field; did you mean {elsewhere[0]}?"
    return _unknown_name(name, fields)


def _unknown_name(name: str, fields: Collection[str]) -> str:
    return "unknown field" + (_suggest(name, fields) or f" (fields: {' '.join(fields)})")


def _kind(node: Node) -> str:
    return "list" if isinstance(node, ListNode) else "mapping"


def _suggest(name: str, known: Collection[str]) -> str:
    """`; did you mean region?`, or an empty text; case and dashes are ignored."""
    folded = {one.casefold(): one for one in known}
    asked = name[:MAX_ID_LENGTH].casefold().replace("-", "")
    close = difflib.get_close_matches(asked, folded, n=1)
    return f"; did you mean {folded[close[0]]}?" if close else ""
