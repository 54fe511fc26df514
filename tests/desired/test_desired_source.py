"""YAML as text with places: what is read, what is refused, and where a refusal points."""

from collections.abc import Callable
from typing import TypeAlias

import pytest
import yaml

from allocsync.desired import source
from allocsync.desired.source import Block, Items, Node, Read, Scalar
from allocsync.desired.text import SourceText, decode, path, shown
from allocsync.errors import Problem
from allocsync.planning.model import Desired

Messages: TypeAlias = Callable[[str | bytes], list[str]]
Single: TypeAlias = Callable[[str], Desired]

HEAD = "apiVersion: allocsync/v1\n"


def parse(text: str) -> tuple[list[object], list[str]]:
    documents, problems = source.parse(SourceText("f", text), shrink=lambda _, block: block)
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


@pytest.mark.parametrize(
    "text", ["1.10", "no", "0x1F", "1_000", "2026-11-23", "1e400", "08", "=", "Off", ".inf"]
)
def test_every_scalar_is_the_text_that_was_written(text: str) -> None:
    assert parse(f"a: {text}") == ([{"a": text}], [])


@pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
def test_plain_null_is_recognised(text: str) -> None:
    assert parse(f"a: {text}") == ([{"a": None}], [])


@pytest.mark.parametrize("text", ["''", '"~"', "'null'", "!!str", "!!str null", "nUll", "|-\n  null"])
def test_what_is_quoted_or_tagged_as_text_is_not_null(text: str) -> None:
    documents, problems = parse(f"a: {text}")
    assert not problems
    assert documents != [{"a": None}]


def test_documents_lists_and_nested_mappings_are_read() -> None:
    assert parse("a: [1, {b: 2}]\n---\n- c\n- - d\n---\n") == (
        [{"a": ["1", {"b": "2"}]}, ["c", ["d"]], None],
        [],
    )


def test_a_duplicate_key_names_both_places() -> None:
    assert parse("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\na: 4\n")[1] == [
        "f:5:3: b.c: declared twice; first at f:3:3",
        "f:6:1: a: declared twice; first at f:1:1",
    ]


def test_the_same_key_in_quotes_is_the_same_key() -> None:
    assert parse("a: 1\n'a': 2\n")[1] == ["f:2:1: a: declared twice; first at f:1:1"]


def test_the_first_of_two_declarations_is_the_one_that_stays() -> None:
    assert parse("a: {x: 1}\na: {y: 2}\n")[0] == [{"a": {"x": "1"}}]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("a: !!int 1", "f:1:4: a: the tag !!int is not used here", id="int"),
        pytest.param(
            "a: !!python/object:os.system x", "f:1:4: a: the tag !!python/object:os.system is", id="python"
        ),
        pytest.param("a: !own {b: 1}", "f:1:4: a: the tag !own is not used here", id="own"),
        pytest.param("a: !!seq []", "f:1:4: a: the tag !!seq is not used here", id="seq"),
        pytest.param("a: ! b", "f:1:4: a: the tag ! is not used here", id="bare"),
        pytest.param("!!bool a: b", "f:1:1: the tag !!bool is not used here", id="on a key"),
    ],
)
def test_other_tags_than_str_are_refused(text: str, problem: str) -> None:
    (found,) = parse(text)[1]
    assert found.startswith(problem)


def test_a_str_tag_is_read_as_what_it_says() -> None:
    assert parse("a: !!str 1.10") == ([{"a": "1.10"}], [])


@pytest.mark.parametrize("text", ["? [a]\n: 1", "{[a]: 1}", "? {a: b}\n: 1", "? - a\n: {b: c}"])
def test_a_key_that_is_no_text_is_refused_once_and_its_value_passed_over(text: str) -> None:
    documents, problems = parse(text)
    assert documents == [{}]
    assert len(problems) == 1
    assert problems[0].endswith(
        "a key must be text and this is a list or a mapping; put it in quotes or remove it"
    )


@pytest.mark.parametrize("text", ["~: 1", ": 1", "null: 1", "? \n: 1"])
def test_a_null_key_is_refused(text: str) -> None:
    documents, problems = parse(f"{text}\nb: 2")
    assert documents == [{"b": "2"}]
    assert len(problems) == 1
    assert "a key must be text and this is null" in problems[0]


def test_an_alias_is_what_its_anchor_named_last() -> None:
    assert parse("a: &x 1\nb: *x\nc: &x [2]\nd: *x\n*x : no") == (
        [{"a": "1", "b": "1", "c": ["2"], "d": ["2"]}],
        ["f:5:1: a key must be text and this is a list or a mapping; put it in quotes or remove it"],
    )


def test_an_alias_may_be_a_key() -> None:
    assert parse("a: &x b\n*x : c") == ([{"a": "b", "b": "c"}], [])


def test_an_alias_of_nothing_is_refused_also_when_another_document_has_the_anchor() -> None:
    assert parse("a: *x")[1] == ["f:1:4: a: *x names nothing: no &x stands above"]
    assert parse("a: &x 1\n---\na: *x")[1] == ["f:3:4: a: *x names nothing: no &x stands above"]


def test_an_alias_inside_what_it_names_is_refused() -> None:
    assert parse("a: &x {b: *x}")[1] == ["f:1:11: a.b: *x stands inside what it names"]
    assert parse("z: &x 1\na: &x [*x]")[1] == ["f:2:8: a: *x stands inside what it names"]


def test_a_merge_puts_pairs_under_those_that_are_written() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc:\n  <<: [*a, *b]\n  x: own\n"
    assert parse(text)[0][0] == {
        "a": {"x": "1", "y": "1"},
        "b": {"y": "2", "z": "2"},
        "c": {"x": "own", "y": "1", "z": "2"},
    }


def test_a_merged_pair_keeps_the_place_where_it_is_written() -> None:
    (document,), _ = source.parse(SourceText("f", "a: &a {x: 1}\nb: {<<: *a}"), shrink=lambda _, block: block)
    assert isinstance(document, Block)
    merged = document.pairs["b"].node
    assert isinstance(merged, Block)
    assert merged.pairs["x"].at == len("a: &a {")


@pytest.mark.parametrize("text", ["a: {<<: b}", "a: {<<: [b]}", "a: {<<: }", "a: {<<: [{}, [{}]]}"])
def test_a_merge_of_what_is_no_mapping_is_refused(text: str) -> None:
    (problem,) = parse(text)[1]
    assert problem == "f:1:5: a.<<: `<<` takes a mapping, or a list of mappings"


def test_two_merges_in_one_mapping_are_a_duplicate_key() -> None:
    assert parse("a: &a {b: 1}\nc:\n  <<: *a\n  <<: *a\n")[1] == [
        "f:4:3: c.<<: declared twice; first at f:3:3"
    ]


def test_a_quoted_merge_key_is_a_key() -> None:
    assert parse("'<<': a") == ([{"<<": "a"}], [])


def test_many_aliases_of_aliases_cost_nothing() -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))]
    _, problems = source.parse(SourceText("f", "\n".join(lines)), shrink=lambda _, block: block)
    assert not problems


def test_what_merges_copy_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_MERGED", 50)
    fields = ", ".join(f"k{n}: v" for n in range(9))
    merges = "\n".join(f"b{n}: {{<<: *a}}" for n in range(5))
    assert not parse(f"a: &a {{{fields}}}\n{merges}")[1]
    (problem,) = parse(f"a: &a {{{fields}}}\n{merges}\nc: {{<<: *a}}\nd: {{e: 1, e: 2}}")[1]
    assert problem.startswith("f:7:5: c: the `<<` of this file copy more than 50 fields")


def test_passing_over_empty_mappings_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_MERGED", 50)
    assert len(parse("a: &a {}\nl: &l [" + "*a, " * 26 + "]\nb: {<<: *l}\nc: {<<: *l}")[1]) == 1


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}")])
def test_nesting_is_bounded(opening: str, closing: str) -> None:
    assert not parse(opening * source.MAX_DEPTH + closing * source.MAX_DEPTH)[1]
    (problem,) = parse(opening * 100_000)[1]
    assert "nested deeper than 32 levels" in problem


def test_documents_are_bounded() -> None:
    assert not parse("--- a\n" * source.MAX_DOCUMENTS)[1]
    assert parse("--- a\n" * (source.MAX_DOCUMENTS + 1))[1] == [
        "f:1001:1: more than 1,000 documents in one file; split it"
    ]


def test_mappings_two_levels_down_are_shown_to_shrink_and_no_others() -> None:
    shown_to: list[tuple[str, ...]] = []

    def shrink(keys: list[str], block: Block) -> Read:
        shown_to.append(tuple(keys))
        return Read(block.at, "small")

    text = "a: {b: {c: {d: e}}, f: {}, g: [{h: i}]}\nj: &j {k: l}\nm: {n: *j}\n"
    (document,), _ = source.parse(SourceText("f", text), shrink=shrink)  # type: ignore[arg-type] # a list will do
    assert shown_to == [("a", "b"), ("a", "f")]
    assert plain(document) == {
        "a": {"b": "small", "f": "small", "g": [{"h": "i"}]},
        "j": {"k": "l"},
        "m": {"n": {"k": "l"}},
    }


def test_the_slower_parser_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: &x {b: 1.10, c: !!str ~}\nd: {<<: *x, e: [~, 'f']}\n---\n- g\n"
    fast = parse(text)
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert parse(text) == fast
    assert "\t" not in text
    assert parse("a: 1\n\tb: 2")[1] == ["f:2:1: a tab; indent with spaces"]
    assert len(parse('a: "\\UFFFFFFFF"')[1]) == 1


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: 1\n\tb: 2\n", "2:1", "a tab; indent with spaces"),
        ("a:\n\t- b\n", "2:1", "a tab; indent with spaces"),
        ("a: @b\n", "1:4", "a value cannot begin with @; put it in quotes"),
        ("a: `b`\n", "1:4", "a value cannot begin with `; put it in quotes"),
        ("a: %b\n", "1:4", "a value cannot begin with %; put it in quotes"),
        ("a: b: c\n", "1:5", "a second `: ` in one line; put the value in quotes, or check the indentation"),
        (
            "a: 1\n b: 2\n",
            "2:3",
            "a second `: ` in one line; put the value in quotes, or check the indentation",
        ),
        ("a: 1\nb\nc: 2\n", "3:1", "a key without `:`; write `key: value`, and check the indentation"),
        ("a: 'b\nc: d\n", "3:1", "a quoted text that begins above is not closed"),
        ("a: 'b\n---\nc", "2:1", "a quoted text that begins above is not closed before this `---` or `...`"),
        (
            'a: "\\q"\n',
            "1:5",
            "an escape that does not exist; in single quotes a backslash is only a backslash",
        ),
        (
            'a: "\\xzz"\n',
            "1:5",
            "an escape that does not exist; in single quotes a backslash is only a backslash",
        ),
        (
            "a: [b, c\nd: e\n",
            "2:2",
            "a list in brackets goes wrong here; a `,` or the closing `]` is missing",
        ),
        (
            "a: {b: c\nd: e\n",
            "2:2",
            "a mapping in braces goes wrong here; a `,` or the closing `}` is missing",
        ),
        ("a: - b\n", "1:4", "a list item `- ` cannot stand here; check the indentation"),
        ("a:\n  - b\n  c: d\n", "3:3", "this line does not fit those above"),
        ("a:\n    b: 1\n  c: 2\n", "3:3", "this line does not fit those above"),
        ("- a\nb: c\n", "2:1", "this line does not fit those above"),
        ("a: b\n...\nc\n...\nd: [", "5:5", "a value is missing here"),
        ("a: |x\n  b\n", "1:5", "after `|` or `>` the text begins on the next line"),
        ("a: |0\n  b\n", "1:5", "after `|` or `>` only `+`, `-` or a digit from 1 to 9 may stand"),
        ("a: &\n", "1:5", "after `&` or `*` a name of letters, digits, `-` and `_` must stand"),
        ("a: *\n", "1:5", "after `&` or `*` a name of letters, digits, `-` and `_` must stand"),
        ("a: !<x\n", "1:7", "`!` begins a tag, and tags are not used here; put the value in quotes"),
        ("%YAML x\n---\na\n", "1:7", "`%` begins a directive, and none is used here; remove the line"),
        ("%YAML 3.0\n---\na\n", "1:1", "`%` begins a directive, and none is used here; remove the line"),
        ("a: b\n%c d\n", "2:1", "a value cannot begin with %; put it in quotes"),
        ("a: !x!y z\n", "1:4", "`!` begins a tag, and tags are not used here; put the value in quotes"),
        ("[a]\nb\n", "2:1", "something stands before the document's `---`, or outside the indentation above"),
    ],
)
def test_what_is_no_yaml_is_said_in_plain_words(text: str, place: str, message: str) -> None:
    (problem,) = parse(text)[1]
    assert problem.startswith(f"f:{place}: {message}")


def test_mistakes_before_the_text_stops_being_yaml_are_reported_too() -> None:
    assert len(parse("a: 1\na: 2\nb: !x 1\nc: [")[1]) == 3


# Text and places.


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
        pytest.param(b"\xef\xbb\xbfa: \0", "1:4", "a NUL cannot stand in YAML", id="nul after a mark"),
        pytest.param(
            b"a\nb: \x1b[2J", "2:4", "the control character U+001B cannot stand in YAML", id="escape"
        ),
        pytest.param(
            "a: \ufffe".encode(), "1:4", "the control character U+FFFE cannot", id="not a character"
        ),
    ],
)
def test_what_is_no_text_is_refused_where_it_stands(data: bytes, place: str, message: str) -> None:
    problem = decode("f", data)
    assert isinstance(problem, Problem)
    assert str(problem).startswith(f"f:{place}: {message}")


def test_a_byte_order_mark_is_accepted_and_moves_no_place(messages: Messages) -> None:
    assert messages(b"\xef\xbb\xbfapiVersion: allocsync/v1\nallocations: {}\nx: 1\n") == [
        "3:1: x: unknown field"
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_places_are_where_an_editor_shows_them(messages: Messages, end: str) -> None:
    # An astral character is one column; NEL and LS end lines of YAML 1.1 but not of an editor.
    lines = ["# \U0001f600 \x85 \u2028", HEAD.strip(), "allocations:", '  "\U0001f600é": {x: 1, y: 2}', ""]
    assert messages(end.join(lines)) == [
        "4:9: allocations.\U0001f600é.x: unknown field",
        "4:15: allocations.\U0001f600é.y: unknown field",
    ]


def test_a_place_never_leaves_the_file() -> None:
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


def test_ids_are_shortened_and_nothing_steers_a_terminal() -> None:
    assert path(["allocations", "7b0c4c5e-1f0e", "urls", "x"]) == "allocations.7b0c4c5e….urls.x"
    assert path(["allocations", "7b0c4c5e"]) == "allocations.7b0c4c5e"
    assert path(["defaults", "something-long"]) == "defaults.something-long"
    assert shown("\x1b[2J\n") == "\\x1b[2J\\n"
    assert shown("x" * 61) == "x" * 60 + "…"
