"""No identifier, file name, option, help text or heading uses a word that has been replaced.

The rule: the replaced words that nothing else means are searched in the syntax trees, the names of files and
folders, what `--help` prints, and the headings of documents. What may stay is listed with its reason.

Left out: words with other meanings in plain English, such as "look" or "hold" in prose.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from allocsync.cli.root import allocsync
from tests.support.documents import ROOT, documents

# `_lane`, `lanes`, `GhostList` and `look_at` have such a word; `plane` has none.
REPLACED = re.compile(
    r"(?i)(?<![a-z])(lanes?|ghosts?|keepers?|restraints?|rails?|generations?|contested|leaf|look_?at|look at)"
    r"(?![a-z])"
)
CONDITIONS = re.compile(r"\b(Held|Refused|Contested|HELD|REFUSED|CONTESTED)\b")
# Identifiers that may stay. Stored keys and values of the wire are strings, which are not searched.
ALLOWED = {
    "ConnectionRefusedError": "a name of Python",
    "ECONNREFUSED": "a name of Python",
}
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")


def _source_files() -> list[Path]:
    folders = (ROOT / "allocsync", ROOT / "tests")
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [path.relative_to(ROOT) for path in files if "__pycache__" not in path.parts]


def _words(name: str) -> str:
    """The words of an identifier, separated: `LateWrite` and `late_write` become `late write`."""
    return " ".join(WORD.findall(name)).lower()


def _identifiers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.alias(name=name):
                yield name
            case ast.keyword(arg=str(name)) | ast.alias(asname=str(name)) | ast.MatchAs(name=str(name)):
                yield name


def _replaced(name: str) -> bool:
    return name not in ALLOWED and bool(REPLACED.search(_words(name)) or CONDITIONS.search(name))


@pytest.mark.parametrize(
    "name", ["lane", "_lanes", "GhostList", "HELD", "Contested", "look_at", "LookAt", "RAIL"]
)
def test_a_replaced_word_is_found_in_an_identifier(name: str) -> None:
    assert _replaced(name)


@pytest.mark.parametrize("name", ["plane", "next_read_at", "trailing", "managed_allocation", "held_lock"])
def test_other_identifiers_are_not_reported(name: str) -> None:
    assert not _replaced(name)


def test_no_identifier_uses_a_replaced_word() -> None:
    found = {
        f"{path}: {name}"
        for path in _source_files()
        if path.suffix == ".py"
        for name in _identifiers(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if _replaced(name)
    }
    assert not found, "\n".join(sorted(found))


def test_no_file_or_folder_is_named_by_a_replaced_word() -> None:
    found = {str(path) for path in _source_files() for part in path.parts if REPLACED.search(_words(part))}
    assert not found


def test_no_help_text_uses_a_replaced_word() -> None:
    context = click.Context(allocsync, info_name="allocsync")
    texts = {"allocsync": allocsync.get_help(context)}
    for name in allocsync.list_commands(context):
        command = allocsync.get_command(context, name)
        assert command is not None
        texts[name] = command.get_help(click.Context(command, info_name=name, parent=context))
    assert not {name: found[0] for name, text in texts.items() if (found := REPLACED.search(text))}


def test_no_heading_of_a_document_uses_a_replaced_word() -> None:
    headings = [
        f"{path}: {line}"
        for path in documents()
        for line in (ROOT / path).read_text(encoding="utf-8").splitlines()
        if line.startswith("#") and REPLACED.search(line)
    ]
    assert not headings
