"""Parses YAML with the parser of the desired state, into plain values."""

from allocsync.desired import yaml_parser
from allocsync.desired.source_text import SourceText
from allocsync.desired.yaml_parser import ListNode, MappingNode, Node, ReducedNode, ScalarNode


def parse(text: str) -> tuple[list[object], list[str]]:
    documents, problems = yaml_parser.parse(SourceText("f", text), reduce=lambda _, block: block)
    return [to_plain_values(node) for node in documents], [str(problem) for problem in problems]


def to_plain_values(node: Node) -> object:
    match node:
        case ScalarNode():
            return None if node.is_null else node.text
        case ListNode():
            return [to_plain_values(item) for item in node.items]
        case MappingNode():
            return {key: to_plain_values(pair.node) for key, pair in node.pairs.items()}
        case ReducedNode():
            return node.value
