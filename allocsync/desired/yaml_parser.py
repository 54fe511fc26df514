"""Parses YAML into nodes with locations: every scalar is text, and a mapping has each key once.

It uses the events of the YAML parser and no layer above: no value is interpreted (`1.10` stays "1.10", `no`
stays "no"), no object is created, no location is lost, and 100,000 allocations take seconds.

The rule: every error in a file is reported, not only the first, until the text is no longer valid YAML.
Bounds: nesting, the number of documents, and the fields that merge keys copy. An alias shares its node and
costs nothing.

Rejected, with an error: tags other than `!!str`, keys that are null, a list or a mapping, aliases
without an anchor.

Left out: what a document must contain (`desired.schema`), and the parser's own errors
(`desired.yaml_syntax_errors`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple, NoReturn, TypeAlias

import yaml

from allocsync.desired import yaml_syntax_errors
from allocsync.desired.source_text import SourceText, excerpt
from allocsync.errors import Problem

MAX_DEPTH = 32
MAX_DOCUMENTS = 1_000
MAX_MERGED = 2_000_000  # pairs that all `<<` keys of one file copy or skip
_STR_TAG = "tag:yaml.org,2002:str"
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_MERGE_KEY = "<<"
_SPECIAL_TEXTS = _NULLS | {_MERGE_KEY}  # texts with a special meaning if not quoted
_REDUCED_DEPTH = 2  # two levels down: under `allocations`, then under an id


# Named tuples, because a file of 100,000 allocations has millions of these and C code creates them.
class ScalarNode(NamedTuple):
    """A single value; `is_null` if it is written, without quotes, as `~`, `null` or nothing."""

    offset: int
    text: str
    is_null: bool


class ListNode(NamedTuple):
    """A list."""

    offset: int
    items: "Sequence[Node]"


class Pair(NamedTuple):
    """A value, and the offset of its key."""

    offset: int
    node: "Node"


class MappingNode(NamedTuple):
    """A mapping in the order of its keys; pairs from `<<` come after its own."""

    offset: int
    pairs: Mapping[str, Pair]


class ReducedNode(NamedTuple):
    """The result of `reduce` for a mapping."""

    offset: int
    value: object


Node: TypeAlias = ScalarNode | ListNode | MappingNode | ReducedNode
Reduce: TypeAlias = Callable[[Sequence[str], MappingNode], MappingNode | ReducedNode]


@dataclass(slots=True)
class _OpenCollection:
    """A list or a mapping that is not complete."""

    offset: int
    anchor: str | None
    items: list[Node] = field(default_factory=list)
    pairs: dict[str, Pair] | None = None  # None in a list
    key: ScalarNode | None = None  # the key whose value is next
    is_merge: bool = False  # that key is `<<`
    is_dropped: bool = False  # the key was rejected: its value is parsed and dropped
    merged: list[Pair] = field(default_factory=list)


# Called millions of times, so it is C code. The type allows no mark, but every event has one.
_offset_of: Callable[[yaml.Event], int] = attrgetter("start_mark.index")


class _LimitExceeded(Exception):  # noqa: N818 - stops parsing; not reported as such
    """The file exceeds a bound: the rest is not parsed. The problem is reported already."""


def parse(source: SourceText, *, reduce: Reduce) -> tuple[tuple[Node, ...], tuple[Problem, ...]]:
    """Parse the documents of one file, and find every error in it as YAML; raises nothing.

    `reduce(keys, mapping)` is called for each mapping two levels down, with the two keys that lead to it. It
    may return something smaller, so that the nodes of a large file never exist all at once.
    """
    builder = _TreeBuilder(source, reduce)
    # libyaml is a build option of PyYAML; without it the same events are produced, more slowly.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        builder.read(loader(source.text))
    except _LimitExceeded:
        pass
    except (
        yaml.YAMLError,
        ValueError,
        OverflowError,
    ) as error:  # PyYAML raises the latter two for some escapes
        offset, message = yaml_syntax_errors.explain(error, source)
        builder.problems.append(source.problem(offset, (), message))
    return tuple(builder.documents), tuple(builder.problems)


class _TreeBuilder:
    def __init__(self, source: SourceText, reduce: Reduce) -> None:
        self.documents: list[Node] = []
        self.problems: list[Problem] = []
        self._source = source
        self._reduce = reduce
        self._stack: list[_OpenCollection] = []
        self._anchors: dict[str, Node] = {}
        self._merged = 0

    def read(self, loader: yaml.SafeLoader | yaml.CSafeLoader) -> None:
        # By type, because a large file has millions of events and a chain of isinstance would be slow.
        handlers: dict[type[yaml.Event], Callable[[Any], None]] = {
            yaml.ScalarEvent: self._add_scalar,
            yaml.MappingStartEvent: self._open_collection,
            yaml.SequenceStartEvent: self._open_collection,
            yaml.MappingEndEvent: self._close_collection,
            yaml.SequenceEndEvent: self._close_collection,
            yaml.AliasEvent: self._add_alias,
            yaml.DocumentStartEvent: self._start_document,
            yaml.DocumentEndEvent: _ignore,
            yaml.StreamStartEvent: _ignore,
            yaml.StreamEndEvent: _ignore,
        }
        for event in iter(loader.get_event, None):
            handlers[event.__class__](event)

    # Handling events.

    def _start_document(self, event: yaml.DocumentStartEvent) -> None:
        self._anchors.clear()
        if len(self.documents) == MAX_DOCUMENTS:
            self._stop(_offset_of(event), f"more than {MAX_DOCUMENTS:,} documents in one file; split it")

    def _add_scalar(self, event: yaml.ScalarEvent) -> None:
        text, tag = event.value, event.tag
        if tag is None and event.anchor is None and text not in _SPECIAL_TEXTS:
            self._attach(ScalarNode(_offset_of(event), text, False))
            return
        plain = tag is None and not event.style
        node = ScalarNode(_offset_of(event), text, plain and text in _NULLS)
        if tag is not None and tag != _STR_TAG:
            self._report_tag(node.offset, tag)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._attach(node, is_merge=plain and text == _MERGE_KEY)

    def _open_collection(self, event: yaml.CollectionStartEvent) -> None:
        offset = _offset_of(event)
        if len(self._stack) == MAX_DEPTH:
            self._stop(offset, f"nested deeper than {MAX_DEPTH} levels; allocations need four")
        if event.tag is not None:
            self._report_tag(offset, event.tag)
        pairs: dict[str, Pair] | None = {} if isinstance(event, yaml.MappingStartEvent) else None
        self._stack.append(_OpenCollection(offset, event.anchor, pairs=pairs))

    def _close_collection(self, _: yaml.CollectionEndEvent) -> None:
        top = self._stack.pop()
        if top.pairs is None:
            self._add_collection(ListNode(top.offset, tuple(top.items)), top.anchor)
            return
        for pair in top.merged:
            self._merge_into(top.pairs, pair)
        block = MappingNode(top.offset, top.pairs)
        is_reduced = (
            len(self._stack) == _REDUCED_DEPTH and len(keys := self._current_keys()) == _REDUCED_DEPTH
        )
        is_reduced = (
            is_reduced and not self._stack[-1].is_merge
        )  # the value of `<<` is not one allocation but a mapping of them
        self._add_collection(block, top.anchor, self._reduce(keys, block) if is_reduced else block)

    def _add_alias(self, event: yaml.AliasEvent) -> None:
        name = event.anchor or ""
        offset = _offset_of(event)
        node: Node = self._anchors.get(name) or ScalarNode(offset, name, is_null=False)
        if any(name == opened.anchor for opened in self._stack):
            self._report(offset, f"*{excerpt(name)} is inside the value of its own anchor")
        elif name not in self._anchors:
            self._report(offset, f"*{excerpt(name)} has no anchor: there is no &{excerpt(name)} above")
        self._attach(node._replace(offset=offset))  # errors in it are reported where it is used

    # Building nodes.

    def _add_collection(
        self, node: ListNode | MappingNode, anchor: str | None, reduced: Node | None = None
    ) -> None:
        if anchor is not None:
            self._anchors[anchor] = node  # not reduced: an alias may be used elsewhere
        self._attach(node if reduced is None else reduced)

    def _attach(self, node: Node, *, is_merge: bool = False) -> None:
        if not self._stack:
            self.documents.append(node)
            return
        top = self._stack[-1]
        if top.pairs is None:
            top.items.append(node)
        elif top.key is None:
            self._add_key(top, top.pairs, node, is_merge=is_merge)
        else:
            if top.is_merge:
                top.merged.append(Pair(top.key.offset, node))
            elif not top.is_dropped:
                top.pairs[top.key.text] = Pair(top.key.offset, node)
            top.key = None

    def _add_key(
        self, top: _OpenCollection, pairs: Mapping[str, Pair], node: Node, *, is_merge: bool
    ) -> None:
        top.is_merge, top.is_dropped = is_merge, False
        if not isinstance(node, ScalarNode) or node.is_null:
            found = "null" if isinstance(node, ScalarNode) else "a list or a mapping"
            self._report(node.offset, f"a key must be text, not {found}; put it in quotes or remove it")
            top.key, top.is_dropped = ScalarNode(node.offset, "?", is_null=False), True
            return
        first = top.merged[0] if is_merge and top.merged else pairs.get(node.text)
        if first is not None:
            self._report(
                node.offset, f"declared twice; first at {self._source.place(first.offset)}", node.text
            )
            top.is_merge, top.is_dropped = False, True
        top.key = node

    def _merge_into(self, pairs: dict[str, Pair], merged: Pair) -> None:
        """Add the pairs of the mappings that `<<` names; own pairs, and mappings named earlier, win."""
        node = merged.node
        for block in node.items if isinstance(node, ListNode) else (node,):
            if not isinstance(block, MappingNode):
                self._report(merged.offset, "`<<` takes a mapping, or a list of mappings", _MERGE_KEY)
                return
            self._merged += 1 + len(block.pairs)
            if self._merged > MAX_MERGED:
                self._stop(
                    merged.offset,
                    f"the `<<` keys of this file copy more than {MAX_MERGED:,} fields; use defaults",
                )
            for key, pair in block.pairs.items():
                pairs.setdefault(key, pair)

    # Reporting problems.

    def _report_tag(self, offset: int, tag: str) -> None:
        name = tag.replace("tag:yaml.org,2002:", "!!")
        self._report(
            offset, f"the tag {excerpt(name)} is not supported; remove it (every value is read as text)"
        )

    def _report(self, offset: int, message: str, *keys: str) -> None:
        self.problems.append(self._source.problem(offset, (*self._current_keys(), *keys), message))

    def _current_keys(self) -> list[str]:
        return [opened.key.text for opened in self._stack if opened.key is not None]

    def _stop(self, offset: int, message: str) -> NoReturn:
        self._report(offset, message)
        raise _LimitExceeded


def _ignore(_: yaml.Event) -> None:
    """The ends of documents and the stream itself carry no content."""
