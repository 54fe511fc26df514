"""The JSON Schema of the desired state: it sees what a schema can see, and never refuses what loads."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from allocsync.cli.commands.demo import sample_text
from allocsync.desired.files import File, FileSet
from allocsync.desired.json_schema import DESCRIPTIONS, ID_PATTERN, MODES, desired_schema
from allocsync.desired.loader import examine
from allocsync.model.cloud import DECLARABLE
from allocsync.model.desired_state import Mode
from allocsync.reference_server.sample import sample_clouds
from tests.support.loading import BAD, HEAD

ROOT = Path(__file__).parents[3]
SCHEMA = Draft7Validator(desired_schema())
# What stands for a value that is no text: only its type matters to this schema.
TYPED: dict[str, object] = {"null": None, "bool": True, "int": 1, "float": 1.5}

# The mistakes of the corpus that no schema can see, each with the reason.
NOT_YAML = frozenset(
    {
        "alias_of_nothing",
        *("alias_with_a_star_only", "byte_order_mark_then_tab", "colour_codes", "comma_missing"),
        *("conflict_markers", "half_written_braces", "half_written_key", "half_written_quotes", "latin_1"),
        *("nul", "percent_line", "tab_before_a_field", "text_after_the_end", "utf_16"),
        *("value_begins_with_at", "windows_path"),
        "indentation",
        "tab",
        "unclosed_quotes",
        "value_with_colon",
    }
)
UNSEEN = {
    "duplicate_field": "a parser keeps one of the two",
    **dict.fromkeys(("duplicate_api_version", "duplicate_defaults", "duplicate_id"), "likewise"),
    **dict.fromkeys(("duplicate_in_braces", "duplicate_merge"), "likewise"),
    **dict.fromkeys(("id_accents", "id_case"), "a schema sees one key at a time"),
    "id_null": "a key is text to a validator",
    "octal_tag": "tags are gone once a value is read",
    "duplicate_id_in_two_documents": "a schema sees one document at a time",
    "only_comments": "there is no document",
    "tag": "tags are gone once a value is read",
}


def typed(node: yaml.Node, seen: dict[int, object]) -> object:
    """What a reader of YAML gives a validator: keys as text, values by their type."""
    if id(node) in seen:
        return seen[id(node)]
    if isinstance(node, yaml.ScalarNode):
        return TYPED.get(node.tag.rpartition(":")[2], node.value)
    if isinstance(node, yaml.SequenceNode):
        items: list[object] = []
        seen[id(node)] = items  # shared, as aliases are: else an alias bomb goes off here
        items.extend(typed(item, seen) for item in node.value)
        return items
    found: dict[str, object] = {}
    seen[id(node)] = found
    merged = []
    for key, value in node.value:
        if key.tag.endswith(":merge"):
            merged.append(typed(value, seen))
        else:
            found[str(key.value)] = typed(value, seen)
    for each in merged:
        for block in each if isinstance(each, list) else [each]:
            for key, value in (block if isinstance(block, dict) else {"<<": block}).items():
                found.setdefault(key, value)
    return found


def accepts(text: str) -> bool:
    documents = yaml.compose_all(text, Loader=yaml.SafeLoader)
    return all(SCHEMA.is_valid(typed(node, {})) for node in documents)


def loads(text: str) -> bool:
    files = FileSet("f", (File("f", text.encode()),))
    return not examine(files, default_mode=Mode.ENFORCE).problems


def test_the_schema_is_one() -> None:
    Draft7Validator.check_schema(desired_schema())
    assert set(DESCRIPTIONS) == {
        ".".join(name.split(".")[:depth]) for name in DECLARABLE for depth in range(1, name.count(".") + 2)
    }
    assert list(MODES) == list(Mode)


@pytest.mark.parametrize(
    "file",
    [ROOT / "config" / "allocations.yaml", ROOT / "deploy" / "kubernetes" / "allocations.yaml"],
    ids=lambda file: file.parent.name,
)
def test_the_samples_are_accepted(file: Path) -> None:
    assert loads(file.read_text())
    assert accepts(file.read_text())


def test_the_sample_of_the_demo_is_accepted() -> None:
    assert accepts(sample_text(sample_clouds(24, 1)))


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_a_mistake_that_a_schema_can_see_is_seen(file: Path) -> None:
    try:
        seen = not accepts(file.read_bytes().decode())
    except (yaml.YAMLError, UnicodeDecodeError):
        assert file.stem in NOT_YAML
    else:
        assert file.stem not in NOT_YAML
        assert seen is (file.stem not in UNSEEN)


def test_what_is_listed_as_unseen_is_in_the_corpus() -> None:
    assert NOT_YAML | set(UNSEEN) <= {file.stem for file in BAD}


VALUES = [
    *("1.10", "7", "no", "on", "true", "0x1F", "010", "1e3", "2026-11-23", "1:30", ".nan", "="),
    *("'~'", "'null'", "''", "!!str ~"),
]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_that_looks_like_a_number_or_a_truth_is_text_to_both(value: str) -> None:
    key = value if value.strip("'!") == value else "b"
    text = HEAD + f"allocations: {{a: {{version: {value}}}, {key}: {{user: x}}}}"
    assert loads(text)
    assert accepts(text)


@pytest.mark.parametrize("value", ["~", "null", "Null", "NULL", "", "[a]", "{a: b}"])
def test_null_and_collections_are_refused_by_both(value: str) -> None:
    text = HEAD + f"allocations:\n  a:\n    version: {value}\n"
    assert not loads(text)
    assert not accepts(text)


# What loads is accepted, whatever it is.

ids = st.text(min_size=1, max_size=8) | st.characters() | st.sampled_from(["..", ".", "a", "1.0", "x" * 256])
values = st.sampled_from([*VALUES, "~", "RUNNING", "PENDING", "enforce", "{}", "[]", "{status: FAILED}"])
names = st.sampled_from(
    [
        "user",
        "version",
        "status",
        "urls",
        "mode",
        "'mode'",
        "regoin",
        "<<",
        "status: {cloud",
        "urls: {id: {url",
    ]
)


@st.composite
def almost(draw: st.DrawFn) -> str:
    """A document that is right, or nearly so."""
    lines = []
    for key in draw(st.lists(ids, max_size=3)):
        quoted = yaml.dump(key, default_style='"', allow_unicode=False, width=10_000).strip()
        fields = []
        for _ in range(draw(st.integers(0, 2))):
            name = draw(names)
            fields.append(f"{name}: {draw(values)}{'}' * name.count('{')}")
        lines.append(f"  ? {quoted}\n  : {{{', '.join(fields)}}}\n")
    defaults = draw(st.sampled_from(["", "{}", "{region: 1}", "{mode: no}"]))
    head = HEAD + (f"defaults: {defaults}\n" if defaults else "")
    return head + "allocations:" + ("\n" + "".join(lines) if lines else " {}\n")


@given(almost())
@example(HEAD + "--- ~\n---\n" + HEAD + "allocations: {}\n")
@example("---\n" + HEAD + "allocations: {}\n---\n")
def test_what_loads_is_accepted(text: str) -> None:
    if loads(text):
        assert accepts(text), text


def test_only_what_cannot_be_printed_and_the_dot_is_kept_out_of_ids_by_the_pattern() -> None:
    kept_out = [chr(code) for code in range(0x10000) if not re.search(ID_PATTERN, chr(code))]
    assert len(kept_out) > 100
    assert [char for char in kept_out if char.isprintable()] == [" ", "."]


def test_an_id_is_refused_by_both_for_what_a_pattern_can_see() -> None:
    for key in ("", ".", "..", "a b", "a\\n", "\\0", "a\\u200b", "x" * 257):
        text = HEAD + f'allocations: {{"{key}": {{user: x}}}}'
        assert not loads(text), key
        assert not accepts(text), key


def test_an_empty_allocation_needs_defaults() -> None:
    assert not accepts(HEAD + "allocations: {a: {}}")
    assert accepts(HEAD + "defaults: {region: r}\nallocations: {a: {}}")
