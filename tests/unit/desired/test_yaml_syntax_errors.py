"""Errors in YAML and in text: how they are explained, and their locations."""

import pytest
import yaml

from allocsync.desired import yaml_parser
from allocsync.desired.source_text import SourceText, decode, excerpt, path
from allocsync.desired.yaml_parser import MappingNode, ReducedNode
from allocsync.errors import Problem
from tests.support.loading import HEAD, Messages
from tests.support.parsed_yaml import parse, to_plain_values


def test_the_number_of_documents_is_limited() -> None:
    assert not parse("--- a\n" * yaml_parser.MAX_DOCUMENTS)[1]
    assert parse("--- a\n" * (yaml_parser.MAX_DOCUMENTS + 1))[1] == [
        "f:1001:1: more than 1,000 documents in one file; split it"
    ]


def test_only_mappings_two_levels_down_are_passed_to_reduce() -> None:
    reduced_keys: list[tuple[str, ...]] = []

    def reduce(keys: list[str], block: MappingNode) -> ReducedNode:
        reduced_keys.append(tuple(keys))
        return ReducedNode(block.offset, "small")

    text = "a: {b: {c: {d: e}}, f: {}, g: [{h: i}]}\nj: &j {k: l}\nm: {n: *j}\n"
    (document,), _ = yaml_parser.parse(SourceText("f", text), reduce=reduce)  # type: ignore[arg-type] # a list is accepted, too
    assert reduced_keys == [("a", "b"), ("a", "f")]
    assert to_plain_values(document) == {
        "a": {"b": "small", "f": "small", "g": [{"h": "i"}]},
        "j": {"k": "l"},
        "m": {"n": {"k": "l"}},
    }


def test_the_python_parser_gives_the_same_result_as_libyaml(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: &x {b: 1.10, c: !!str ~}\nd: {<<: *x, e: [~, 'f']}\n---\n- g\n"
    fast = parse(text)
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert parse(text) == fast
    assert "\t" not in text
    assert parse("a: 1\n\tb: 2")[1] == ["f:2:1: a tab; indent with spaces"]
    assert len(parse('a: "\\UFFFFFFFF"')[1]) == 1


FIELDS = "fields: user project region version status urls mode"
TAB = "a tab; indent with spaces"
VALUES = "a second `: ` in one value; put the value in quotes, or check the indentation"
INDENTATION = "this does not match the lines above; check indentation"
ESCAPE = "not a valid escape sequence; in single quotes a backslash stands for itself"
ANCHOR_NAME = "`&` or `*` needs a name of letters, digits, `-` and `_` after it"
TAG = "`!` begins a YAML tag, which is not supported; put the value in quotes"
DIRECTIVE = "`%` begins a YAML directive, which is not supported; remove the line"
DOCUMENT_END = "the document ends before this; begin another with `---`, or check the indentation"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: 1\n\tb: 2\n", "2:1", TAB),
        ("a:\n\t- b\n", "2:1", TAB),
        ("a: @b\n", "1:4", "a value cannot begin with @; put it in quotes"),
        ("a: `b`\n", "1:4", "a value cannot begin with `; put it in quotes"),
        ("a: %b\n", "1:4", "a value cannot begin with %; put it in quotes"),
        ("a: b: c\n", "1:5", VALUES),
        ("a: 1\n b: 2\n", "2:3", VALUES),
        ("a: 1\nb\nc: 2\n", "3:1", "a key without `:`; write `key: value`, and check the indentation"),
        ("a: 'b\nc: d\n", "3:1", "the quotes that open at f:1:4 are never closed"),
        ("a: 'b\n---\nc", "2:1", "the quotes that open at f:1:4 are not closed before this"),
        ('a: "\\q"\n', "1:5", ESCAPE),
        ('a: "\\xzz"\n', "1:7", ESCAPE),
        ('a: "\\ud800"\n', "1:7", ESCAPE),
        ("a: [b, c\nd: e\n", "2:2", "the list that opens at f:1:4 lacks a `,` or its closing `]`"),
        ("a: {b: c\nd: e\n", "2:2", "the mapping that opens at f:1:4 lacks a `,` or its closing `}`"),
        ("a: - b\n", "1:4", "a list item `- ` is not allowed here; check the indentation"),
        ("a:\n  - b\n  c: d\n", "3:3", INDENTATION),
        ("a:\n    b: 1\n  c: 2\n", "3:3", INDENTATION),
        ("- a\nb: c\n", "2:1", INDENTATION),
        ("a: 'b' c\n", "1:8", INDENTATION),
        ("a: ]", "1:4", "a value is missing here"),
        ("a: |x\n  b\n", "1:5", "the text after `|` or `>` begins on the next line"),
        ("a: |0\n  b\n", "1:5", "only `+`, `-` or a digit from 1 to 9 may follow `|` or `>`"),
        ("a: &\n", "1:5", ANCHOR_NAME),
        ("a: *\n", "1:5", ANCHOR_NAME),
        ("a: !<x\n", "1:7", TAG),
        ("a: !x!y z\n", "1:4", TAG),
        ("%YAML x\n---\na\n", "1:7", DIRECTIVE),
        ("%YAML 3.0\n---\na\n", "1:1", DIRECTIVE),
        ("a: b\n%c d\n", "2:3", DIRECTIVE),
        ("[a]\nb\n", "2:1", DOCUMENT_END),
        ("a: b\n...\nc", "3:1", DOCUMENT_END),
        ("a: ? b", "1:4", "this is not valid YAML from here on; check quotes, brackets"),
    ],
)
def test_invalid_yaml_is_explained_in_plain_words(text: str, place: str, message: str) -> None:
    (problem,) = parse(text)[1]
    assert problem.startswith(f"f:{place}: {message}")


def test_mistakes_before_the_first_syntax_error_are_reported() -> None:
    assert len(parse("a: 1\na: 2\nb: !x 1\nc: [")[1]) == 3


# Text and locations.


@pytest.mark.parametrize(
    ("data", "place", "message"),
    [
        pytest.param(b"a: \xff", "1:4", "byte 0xff is not UTF-8; save the file as UTF-8", id="latin"),
        pytest.param(b"a: 1\r\nb: \xc3\xa4\xe4", "2:5", "byte 0xe4 is not UTF-8", id="after a real umlaut"),
        pytest.param(
            "a: 1".encode("utf-16"), "1:1", "this is UTF-16 text; save the file as UTF-8", id="utf-16"
        ),
        pytest.param(
            "a: 1".encode("utf-32"), "1:1", "this is UTF-32 text; save the file as UTF-8", id="utf-32"
        ),
        pytest.param(b"\xef\xbb\xbfa: \0", "1:4", "a NUL is not allowed in YAML", id="nul after a mark"),
        pytest.param(
            b"a\nb: \x1b[2J", "2:4", "the control character U+001B is not allowed in YAML", id="escape"
        ),
        pytest.param(
            "a: \ufffe".encode(), "1:4", "the control character U+FFFE is not allowed", id="not a character"
        ),
    ],
)
def test_data_that_is_not_utf_8_text_is_reported_at_its_location(
    data: bytes, place: str, message: str
) -> None:
    problem = decode("f", data)
    assert isinstance(problem, Problem)
    assert str(problem).startswith(f"f:{place}: {message}")


def test_a_byte_order_mark_is_accepted_and_shifts_no_location(messages: Messages) -> None:
    assert messages(b"\xef\xbb\xbfapiVersion: allocsync/v1\nallocations: {}\nx: 1\n") == [
        "3:1: x: unknown field (fields: apiVersion defaults allocations)"
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_locations_are_those_that_an_editor_shows(messages: Messages, end: str) -> None:
    # An astral character is one column; NEL and LS end lines of YAML 1.1 but not of an editor.
    lines = ["# \U0001f600 \x85 \u2028", HEAD.strip(), "allocations:", '  "\U0001f600é": {x: 1, y: 2}', ""]
    assert messages(end.join(lines)) == [
        f"4:10: allocations.\U0001f600é.x: unknown field ({FIELDS})",
        f"4:16: allocations.\U0001f600é.y: unknown field ({FIELDS})",
    ]


def test_a_location_is_always_inside_the_file() -> None:
    text = SourceText("f", "ab\nc")
    assert [text.place(at) for at in (-1, 0, 2, 3, 4, 5, 99)] == [
        "f:1:1",
        "f:1:1",
        "f:1:3",
        "f:2:1",
        "f:2:2",
        "f:2:2",
        "f:2:2",
    ]


def test_messages_shorten_ids_and_escape_control_characters() -> None:
    assert path(["allocations", "7b0c4c5e-1f0e", "urls", "x"]) == "allocations.7b0c4c5e….urls.x"
    assert path(["allocations", "7b0c4c5e"]) == "allocations.7b0c4c5e"
    assert path(["defaults", "something-long"]) == "defaults.something-long"
    assert excerpt("\x1b[2J\n") == "\\x1b[2J\\n"
    assert excerpt("x" * 61) == "x" * 60 + "…"
