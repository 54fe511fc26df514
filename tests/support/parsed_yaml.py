"""What a text is read as, in plain values."""

from collections.abc import Callable
from typing import TypeAlias

from allocsync.desired import yaml_parser
from allocsync.desired.source_text import SourceText
from allocsync.desired.yaml_parser import Block, Items, Node, Read, Scalar
from allocsync.model.desired_state import Desired

Messages: TypeAlias = Callable[[str | bytes], list[str]]
Single: TypeAlias = Callable[[str], Desired]

HEAD = "apiVersion: allocsync/v1\n"


def parse(text: str) -> tuple[list[object], list[str]]:
    documents, problems = yaml_parser.parse(SourceText("f", text), shrink=lambda _, block: block)
    return [plain(node) for node in documents], [str(problem) for problem in problems]


def plain(node: Node) -> object:
    match node:
        case Scalar():
            return None if node.null else node.text
        case Items():
            return [plain(item) for item in node.items]
        case Block():
            return {key: plain(pair.node) for key, pair in node.pairs.items()}
        case Read():
            return node.value
