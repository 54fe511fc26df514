"""The YAML parser: what it reads, what it rejects, and the locations of both."""

import pytest

from allocsync.desired import yaml_parser
from allocsync.desired.source_text import SourceText
from allocsync.desired.yaml_parser import MappingNode
from tests.support.parsed_yaml import parse


@pytest.mark.parametrize(
    "text", ["1.10", "no", "0x1F", "1_000", "2026-11-23", "1e400", "08", "=", "Off", ".inf"]
)
def test_every_scalar_is_read_as_written(text: str) -> None:
    assert parse(f"a: {text}") == ([{"a": text}], [])


@pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
def test_an_unquoted_null_is_null(text: str) -> None:
    assert parse(f"a: {text}") == ([{"a": None}], [])


@pytest.mark.parametrize("text", ["''", '"~"', "'null'", "!!str", "!!str null", "nUll", "|-\n  null"])
def test_a_quoted_or_tagged_null_is_text(text: str) -> None:
    documents, problems = parse(f"a: {text}")
    assert not problems
    assert documents != [{"a": None}]


def test_documents_lists_and_nested_mappings_are_parsed() -> None:
    assert parse("a: [1, {b: 2}]\n---\n- c\n- - d\n---\n") == (
        [{"a": ["1", {"b": "2"}]}, ["c", ["d"]], None],
        [],
    )


def test_a_duplicate_key_is_reported_with_both_locations() -> None:
    assert parse("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\na: 4\n")[1] == [
        "f:5:3: b.c: declared twice; first at f:3:3",
        "f:6:1: a: declared twice; first at f:1:1",
    ]


def test_a_quoted_key_is_the_same_key() -> None:
    assert parse("a: 1\n'a': 2\n")[1] == ["f:2:1: a: declared twice; first at f:1:1"]


def test_the_first_of_two_duplicate_keys_is_kept() -> None:
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
def test_tags_other_than_str_are_rejected(text: str, problem: str) -> None:
    (found,) = parse(text)[1]
    assert found.startswith(problem)


def test_a_str_tag_is_accepted() -> None:
    assert parse("a: !!str 1.10") == ([{"a": "1.10"}], [])


@pytest.mark.parametrize("text", ["? [a]\n: 1", "{[a]: 1}", "? {a: b}\n: 1", "? - a\n: {b: c}"])
def test_a_key_that_is_not_text_is_reported_once_and_its_value_is_ignored(text: str) -> None:
    documents, problems = parse(text)
    assert documents == [{}]
    assert len(problems) == 1
    assert problems[0].endswith("a key must be text, not a list or a mapping; put it in quotes or remove it")


@pytest.mark.parametrize("text", ["~: 1", "null: 1", "? \n: 1"])
def test_a_null_key_is_rejected(text: str) -> None:
    documents, problems = parse(f"{text}\nb: 2")
    assert documents == [{"b": "2"}]
    assert len(problems) == 1
    assert "a key must be text, not null" in problems[0]


def test_an_alias_has_the_latest_value_of_its_anchor() -> None:
    assert parse("a: &x 1\nb: *x\nc: &x [2]\nd: *x\n? *x\n: no") == (
        [{"a": "1", "b": "1", "c": ["2"], "d": ["2"]}],
        ["f:5:3: a key must be text, not a list or a mapping; put it in quotes or remove it"],
    )


def test_an_alias_may_be_a_key() -> None:
    assert parse("a: &x b\n*x : c") == ([{"a": "b", "b": "c"}], [])


def test_an_alias_without_an_anchor_in_its_document_is_rejected() -> None:
    assert parse("a: *x")[1] == ["f:1:4: a: *x has no anchor: there is no &x above"]
    assert parse("a: &x 1\n---\na: *x")[1] == ["f:3:4: a: *x has no anchor: there is no &x above"]


def test_an_alias_inside_its_own_anchor_is_rejected() -> None:
    assert parse("a: &x {b: *x}")[1] == ["f:1:11: a.b: *x is inside the value of its own anchor"]
    assert parse("z: &x 1\na: &x [*x]")[1] == ["f:2:8: a: *x is inside the value of its own anchor"]


def test_merged_pairs_do_not_override_own_pairs() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc:\n  <<: [*a, *b]\n  x: own\n"
    assert parse(text)[0][0] == {
        "a": {"x": "1", "y": "1"},
        "b": {"y": "2", "z": "2"},
        "c": {"x": "own", "y": "1", "z": "2"},
    }


def test_a_merged_pair_keeps_its_original_location() -> None:
    (document,), _ = yaml_parser.parse(
        SourceText("f", "a: &a {x: 1}\nb: {<<: *a}"), reduce=lambda _, block: block
    )
    assert isinstance(document, MappingNode)
    merged = document.pairs["b"].node
    assert isinstance(merged, MappingNode)
    assert merged.pairs["x"].offset == len("a: &a {")


@pytest.mark.parametrize("text", ["a: {<<: b}", "a: {<<: [b]}", "a: {<<: }", "a: {<<: [{}, [{}]]}"])
def test_a_merge_of_anything_but_mappings_is_rejected(text: str) -> None:
    (problem,) = parse(text)[1]
    assert problem == "f:1:5: a.<<: `<<` takes a mapping, or a list of mappings"


def test_two_merges_in_one_mapping_are_a_duplicate_key() -> None:
    assert parse("a: &a {b: 1}\nc:\n  <<: *a\n  <<: *a\n")[1] == [
        "f:4:3: c.<<: declared twice; first at f:3:3"
    ]


def test_a_quoted_merge_key_is_an_ordinary_key() -> None:
    assert parse("'<<': a") == ([{"<<": "a"}], [])


def test_nested_aliases_do_not_multiply_the_cost() -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))]
    _, problems = yaml_parser.parse(SourceText("f", "\n".join(lines)), reduce=lambda _, block: block)
    assert not problems


def test_the_number_of_merged_fields_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_parser, "MAX_MERGED", 50)
    fields = ", ".join(f"k{n}: v" for n in range(9))
    merges = "\n".join(f"b{n}: {{<<: *a}}" for n in range(5))
    assert not parse(f"a: &a {{{fields}}}\n{merges}")[1]
    (problem,) = parse(f"a: &a {{{fields}}}\n{merges}\nc: {{<<: *a}}\nd: {{e: 1, e: 2}}")[1]
    assert problem.startswith("f:7:5: c: the `<<` keys of this file copy more than 50 fields")


def test_merges_of_empty_mappings_count_towards_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_parser, "MAX_MERGED", 50)
    assert len(parse("a: &a {}\nl: &l [" + "*a, " * 26 + "]\nb: {<<: *l}\nc: {<<: *l}")[1]) == 1


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}")])
def test_the_nesting_depth_is_limited(opening: str, closing: str) -> None:
    assert not parse(opening * yaml_parser.MAX_DEPTH + closing * yaml_parser.MAX_DEPTH)[1]
    (problem,) = parse(opening * 100_000)[1]
    assert "nested deeper than 32 levels" in problem
