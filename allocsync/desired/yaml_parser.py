"""YAML as nodes that know where they stand: every scalar is text, every mapping names a key once.

Built from the parser's event stream and nothing above it: no value is guessed (`1.10` stays "1.10", `no`
stays "no"), no object is made, no place is lost, and 100,000 allocations take seconds.

The rule: every mistake of a file is reported, not only the first, unless the text stops being YAML. Bounded:
nesting, documents and what merge keys copy; an alias shares its node, so it costs nothing however often used.

Refused, with the reason: tags other than !!str, keys that are not plain text, aliases of what is not there.
Left out: what a document must hold (`desired.schema`) and what parsers' complaints mean (`desired.syntax`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple, NoReturn, TypeAlias

import yaml

from allocsync.desired import yaml_errors
from allocsync.desired.source_text import SourceText, shown
from allocsync.errors import Problem

MAX_DEPTH = 32
MAX_DOCUMENTS = 1_000
MAX_MERGED = 2_000_000  # pairs that all `<<` of one file copy or pass over
_STR_TAG = "tag:yaml.org,2002:str"
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_MERGE = "<<"
_MARKED = _NULLS | {_MERGE}  # texts that mean something when they are written plainly
_SHRINKS_AT = 2  # levels: `allocations`, then an id


# Named tuples, not dataclasses: a file of 100,000 allocations has millions of these, and they are made in C.
class Scalar(NamedTuple):
    """A single value; `null` where it was written plainly as `~`, `null` or nothing at all."""

    at: int
    text: str
    null: bool


class Items(NamedTuple):
    """A list."""

    at: int
    items: "Sequence[Node]"


class Pair(NamedTuple):
    """A value and where its key stands."""

    at: int
    node: "Node"


class Block(NamedTuple):
    """A mapping, in the order of its keys; merged pairs come after its own."""

    at: int
    pairs: Mapping[str, Pair]


class Read(NamedTuple):
    """What `shrink` made of a mapping."""

    at: int
    value: object


Node: TypeAlias = Scalar | Items | Block | Read
Shrink: TypeAlias = Callable[[Sequence[str], Block], Block | Read]


@dataclass(slots=True)
class _Open:
    """A list or a mapping whose end has not been seen."""

    at: int
    anchor: str | None
    items: list[Node] = field(default_factory=list)
    pairs: dict[str, Pair] | None = None  # None in a list
    key: Scalar | None = None  # the key whose value comes next
    merges: bool = False  # that key is `<<`
    drops: bool = False  # that key was refused: its value is read and dropped
    merged: list[Pair] = field(default_factory=list)


# Read a million times, so by C. Every event has a mark; only the type says that it may lack one.
_at: Callable[[yaml.Event], int] = attrgetter("start_mark.index")


class _Stop(Exception):  # noqa: N818 - not an error of the program: a bound of the file was passed
    """Nothing after this is worth reading; the problem has been noted."""


def parse(source: SourceText, *, shrink: Shrink) -> tuple[tuple[Node, ...], tuple[Problem, ...]]:
    """Read the documents of one file, and everything that is wrong with it as YAML; raises nothing.

    `shrink(keys, block)` is shown each mapping that stands two levels down, and the two keys that lead to it;
    it may give something smaller in its place, so that the nodes of a large file never all live at once.
    """
    reader = _Reader(source, shrink)
    # libyaml is a build option of PyYAML; without it the same events come, slower.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        reader.read(loader(source.text))
    except _Stop:
        pass
    except (
        yaml.YAMLError,
        ValueError,
        OverflowError,
    ) as error:  # the latter two: PyYAML's own, for odd escapes
        at, message = yaml_errors.explain(error, source)
        reader.problems.append(source.problem(at, (), message))
    return tuple(reader.documents), tuple(reader.problems)


class _Reader:
    def __init__(self, source: SourceText, shrink: Shrink) -> None:
        self.documents: list[Node] = []
        self.problems: list[Problem] = []
        self._source = source
        self._shrink = shrink
        self._stack: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._merged = 0

    def read(self, loader: yaml.SafeLoader | yaml.CSafeLoader) -> None:
        # Looked up by type: a large file has millions of events, and a chain of isinstance is slow.
        readers: dict[type[yaml.Event], Callable[[Any], None]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._open,
            yaml.SequenceStartEvent: self._open,
            yaml.MappingEndEvent: self._close,
            yaml.SequenceEndEvent: self._close,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._begin,
            yaml.DocumentEndEvent: _ignore,
            yaml.StreamStartEvent: _ignore,
            yaml.StreamEndEvent: _ignore,
        }
        for event in iter(loader.get_event, None):
            readers[event.__class__](event)

    # Events.

    def _begin(self, event: yaml.DocumentStartEvent) -> None:
        self._anchors.clear()
        if len(self.documents) == MAX_DOCUMENTS:
            self._stop(_at(event), f"more than {MAX_DOCUMENTS:,} documents in one file; split it")

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        text, tag = event.value, event.tag
        if tag is None and event.anchor is None and text not in _MARKED:
            self._add(Scalar(_at(event), text, False))
            return
        plain = tag is None and not event.style
        node = Scalar(_at(event), text, plain and text in _NULLS)
        if tag is not None and tag != _STR_TAG:
            self._refuse_tag(node.at, tag)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._add(node, merges=plain and text == _MERGE)

    def _open(self, event: yaml.CollectionStartEvent) -> None:
        at = _at(event)
        if len(self._stack) == MAX_DEPTH:
            self._stop(at, f"nested deeper than {MAX_DEPTH} levels; allocations need four")
        if event.tag is not None:
            self._refuse_tag(at, event.tag)
        pairs: dict[str, Pair] | None = {} if isinstance(event, yaml.MappingStartEvent) else None
        self._stack.append(_Open(at, event.anchor, pairs=pairs))

    def _close(self, _: yaml.CollectionEndEvent) -> None:
        top = self._stack.pop()
        if top.pairs is None:
            self._add_collection(Items(top.at, tuple(top.items)), top.anchor)
            return
        for pair in top.merged:
            self._merge(top.pairs, pair)
        block = Block(top.at, top.pairs)
        shrinks = len(self._stack) == _SHRINKS_AT and len(keys := self._keys()) == _SHRINKS_AT
        shrinks = shrinks and not self._stack[-1].merges  # what `<<` names is no allocation but some
        self._add_collection(block, top.anchor, self._shrink(keys, block) if shrinks else block)

    def _alias(self, event: yaml.AliasEvent) -> None:
        name = event.anchor or ""
        at = _at(event)
        node: Node = self._anchors.get(name) or Scalar(at, name, null=False)
        if any(name == opened.anchor for opened in self._stack):
            self._refuse(at, f"*{shown(name)} stands inside what it names")
        elif name not in self._anchors:
            self._refuse(at, f"*{shown(name)} names nothing: no &{shown(name)} stands above")
        self._add(node._replace(at=at))  # what is wrong with it is wrong where it is used

    # What they build.

    def _add_collection(self, node: Items | Block, anchor: str | None, shrunk: Node | None = None) -> None:
        if anchor is not None:
            self._anchors[anchor] = node  # whole: an alias may stand where nothing is shrunk
        self._add(node if shrunk is None else shrunk)

    def _add(self, node: Node, *, merges: bool = False) -> None:
        if not self._stack:
            self.documents.append(node)
            return
        top = self._stack[-1]
        if top.pairs is None:
            top.items.append(node)
        elif top.key is None:
            self._add_key(top, top.pairs, node, merges=merges)
        else:
            if top.merges:
                top.merged.append(Pair(top.key.at, node))
            elif not top.drops:
                top.pairs[top.key.text] = Pair(top.key.at, node)
            top.key = None

    def _add_key(self, top: _Open, pairs: Mapping[str, Pair], node: Node, *, merges: bool) -> None:
        top.merges, top.drops = merges, False
        if not isinstance(node, Scalar) or node.null:
            what = "null" if isinstance(node, Scalar) else "a list or a mapping"
            self._refuse(node.at, f"a key must be text and this is {what}; put it in quotes or remove it")
            top.key, top.drops = Scalar(node.at, "?", null=False), True
            return
        first = top.merged[0] if merges and top.merged else pairs.get(node.text)
        if first is not None:
            self._refuse(node.at, f"declared twice; first at {self._source.place(first.at)}", node.text)
            top.merges, top.drops = False, True
        top.key = node

    def _merge(self, pairs: dict[str, Pair], merged: Pair) -> None:
        """Put under a mapping's own pairs those that its `<<` names; the first named wins."""
        node = merged.node
        for block in node.items if isinstance(node, Items) else (node,):
            if not isinstance(block, Block):
                self._refuse(merged.at, "`<<` takes a mapping, or a list of mappings", _MERGE)
                return
            self._merged += 1 + len(block.pairs)
            if self._merged > MAX_MERGED:
                self._stop(
                    merged.at, f"the `<<` of this file copy more than {MAX_MERGED:,} fields; use defaults"
                )
            for key, pair in block.pairs.items():
                pairs.setdefault(key, pair)

    # What they refuse.

    def _refuse_tag(self, at: int, tag: str) -> None:
        name = tag.replace("tag:yaml.org,2002:", "!!")
        self._refuse(at, f"the tag {shown(name)} is not used here; remove it (every value is read as text)")

    def _refuse(self, at: int, message: str, *keys: str) -> None:
        self.problems.append(self._source.problem(at, (*self._keys(), *keys), message))

    def _keys(self) -> list[str]:
        return [opened.key.text for opened in self._stack if opened.key is not None]

    def _stop(self, at: int, message: str) -> NoReturn:
        self._refuse(at, message)
        raise _Stop


def _ignore(_: yaml.Event) -> None:
    """Nothing is learned from the ends of documents and of the stream."""
