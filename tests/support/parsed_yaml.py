"""What a text is read as, in plain values."""

from collections.abc import Callable
from typing import TypeAlias

from allocsync.desired import yaml_parser
from allocsync.desired.source_text import SourceText
from allocsync.desired.yaml_parser import ListNode, MappingNode, Node, ReducedNode, ScalarNode
from allocsync.model.desired_state import Desired

Messages: TypeAlias = Callable[[str | bytes], list[str]]
Single: TypeAlias = Callable[[str], Desired]

HEAD = "apiVersion: allocsync/v1\n"


def parse(text: str) -> tuple[list[object], list[str]]:
    documents, problems = yaml_parser.parse(SourceText("f", text), reduce=lambda _, block: block)
    return [plain(node) for node in documents], [str(problem) for problem in problems]


def plain(node: Node) -> object:
    match node:
        case ScalarNode():
            return None if node.is_null else node.text
        case ListNode():
            return [plain(item) for item in node.items]
        case MappingNode():
            return {key: plain(pair.node) for key, pair in node.pairs.items()}
        case ReducedNode():
            return node.value
