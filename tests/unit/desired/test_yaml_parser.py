"""YAML as text with places: what is read, what is refused, and where a refusal points."""

import pytest

from allocsync.desired import yaml_parser
from allocsync.desired.source_text import SourceText
from allocsync.desired.yaml_parser import MappingNode
from tests.support.parsed_yaml import parse


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
        pytest.param("a: !!int 1", "f:1:4: a: the tag !!int is not supported", id="int"),
        pytest.param(
            "a: !!python/object:os.system x", "f:1:4: a: the tag !!python/object:os.system is", id="python"
        ),
        pytest.param("a: !own {b: 1}", "f:1:4: a: the tag !own is not supported", id="own"),
        pytest.param("a: !!seq []", "f:1:4: a: the tag !!seq is not supported", id="seq"),
        pytest.param("a: ! b", "f:1:4: a: the tag ! is not supported", id="bare"),
        pytest.param("!!bool a: b", "f:1:1: the tag !!bool is not supported", id="on a key"),
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
    assert problems[0].endswith("a key must be text, not a list or a mapping; put it in quotes or remove it")


@pytest.mark.parametrize("text", ["~: 1", "null: 1", "? \n: 1"])
def test_a_null_key_is_refused(text: str) -> None:
    documents, problems = parse(f"{text}\nb: 2")
    assert documents == [{"b": "2"}]
    assert len(problems) == 1
    assert "a key must be text, not null" in problems[0]


def test_an_alias_is_what_its_anchor_named_last() -> None:
    assert parse("a: &x 1\nb: *x\nc: &x [2]\nd: *x\n? *x\n: no") == (
        [{"a": "1", "b": "1", "c": ["2"], "d": ["2"]}],
        ["f:5:3: a key must be text, not a list or a mapping; put it in quotes or remove it"],
    )


def test_an_alias_may_be_a_key() -> None:
    assert parse("a: &x b\n*x : c") == ([{"a": "b", "b": "c"}], [])


def test_an_alias_of_nothing_is_refused_also_when_another_document_has_the_anchor() -> None:
    assert parse("a: *x")[1] == ["f:1:4: a: *x has no anchor: there is no &x above"]
    assert parse("a: &x 1\n---\na: *x")[1] == ["f:3:4: a: *x has no anchor: there is no &x above"]


def test_an_alias_inside_what_it_names_is_refused() -> None:
    assert parse("a: &x {b: *x}")[1] == ["f:1:11: a.b: *x is inside the value of its own anchor"]
    assert parse("z: &x 1\na: &x [*x]")[1] == ["f:2:8: a: *x is inside the value of its own anchor"]


def test_a_merge_puts_pairs_under_those_that_are_written() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc:\n  <<: [*a, *b]\n  x: own\n"
    assert parse(text)[0][0] == {
        "a": {"x": "1", "y": "1"},
        "b": {"y": "2", "z": "2"},
        "c": {"x": "own", "y": "1", "z": "2"},
    }


def test_a_merged_pair_keeps_the_place_where_it_is_written() -> None:
    (document,), _ = yaml_parser.parse(
        SourceText("f", "a: &a {x: 1}\nb: {<<: *a}"), reduce=lambda _, block: block
    )
    assert isinstance(document, MappingNode)
    merged = document.pairs["b"].node
    assert isinstance(merged, MappingNode)
    assert merged.pairs["x"].offset == len("a: &a {")


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
    _, problems = yaml_parser.parse(SourceText("f", "\n".join(lines)), reduce=lambda _, block: block)
    assert not problems


def test_what_merges_copy_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_parser, "MAX_MERGED", 50)
    fields = ", ".join(f"k{n}: v" for n in range(9))
    merges = "\n".join(f"b{n}: {{<<: *a}}" for n in range(5))
    assert not parse(f"a: &a {{{fields}}}\n{merges}")[1]
    (problem,) = parse(f"a: &a {{{fields}}}\n{merges}\nc: {{<<: *a}}\nd: {{e: 1, e: 2}}")[1]
    assert problem.startswith("f:7:5: c: the `<<` keys of this file copy more than 50 fields")


def test_passing_over_empty_mappings_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_parser, "MAX_MERGED", 50)
    assert len(parse("a: &a {}\nl: &l [" + "*a, " * 26 + "]\nb: {<<: *l}\nc: {<<: *l}")[1]) == 1


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}")])
def test_nesting_is_bounded(opening: str, closing: str) -> None:
    assert not parse(opening * yaml_parser.MAX_DEPTH + closing * yaml_parser.MAX_DEPTH)[1]
    (problem,) = parse(opening * 100_000)[1]
    assert "nested deeper than 32 levels" in problem
