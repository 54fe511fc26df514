"""The JSON Schema of the desired state finds what a schema can find, and accepts whatever loads."""

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
# Stands for a value that is not text: this schema depends on its type only.
PLACEHOLDERS: dict[str, object] = {"null": None, "bool": True, "int": 1, "float": 1.5}

# The mistakes of the corpus that no schema can find, each with the reason.
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
INVISIBLE_TO_SCHEMA = {
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


def to_json(node: yaml.Node, seen: dict[int, object]) -> object:
    """Convert YAML as a reader does for a validator: keys as text, values by their type."""
    if id(node) in seen:
        return seen[id(node)]
    if isinstance(node, yaml.ScalarNode):
        return PLACEHOLDERS.get(node.tag.rpartition(":")[2], node.value)
    if isinstance(node, yaml.SequenceNode):
        items: list[object] = []
        seen[id(node)] = items  # shared as aliases are, so that an alias bomb stays small
        items.extend(to_json(item, seen) for item in node.value)
        return items
    found: dict[str, object] = {}
    seen[id(node)] = found
    merged = []
    for key, value in node.value:
        if key.tag.endswith(":merge"):
            merged.append(to_json(value, seen))
        else:
            found[str(key.value)] = to_json(value, seen)
    for each in merged:
        for block in each if isinstance(each, list) else [each]:
            for key, value in (block if isinstance(block, dict) else {"<<": block}).items():
                found.setdefault(key, value)
    return found


def matches_schema(text: str) -> bool:
    documents = yaml.compose_all(text, Loader=yaml.SafeLoader)
    return all(SCHEMA.is_valid(to_json(node, {})) for node in documents)


def loads(text: str) -> bool:
    files = FileSet("f", (File("f", text.encode()),))
    return not examine(files, default_mode=Mode.ENFORCE).problems


def test_the_schema_is_valid_and_describes_every_field() -> None:
    Draft7Validator.check_schema(desired_schema())
    assert set(DESCRIPTIONS) == {
        ".".join(name.split(".")[:depth]) for name in DECLARABLE for depth in range(1, name.count(".") + 2)
    }
    assert list(MODES) == list(Mode)


@pytest.mark.parametrize(
    "file",
    [ROOT / "config" / "allocations.yaml", ROOT / "deploy" / "kubernetes" / "base" / "allocations.yaml"],
    ids=lambda file: file.parent.name,
)
def test_the_sample_files_load_and_match_the_schema(file: Path) -> None:
    assert loads(file.read_text())
    assert matches_schema(file.read_text())


def test_the_sample_of_the_demo_matches_the_schema() -> None:
    assert matches_schema(sample_text(sample_clouds(24, 1)))


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_the_schema_rejects_every_mistake_that_a_schema_can_see(file: Path) -> None:
    try:
        seen = not matches_schema(file.read_bytes().decode())
    except (yaml.YAMLError, UnicodeDecodeError):
        assert file.stem in NOT_YAML
    else:
        assert file.stem not in NOT_YAML
        assert seen is (file.stem not in INVISIBLE_TO_SCHEMA)


def test_every_listed_exception_is_in_the_corpus() -> None:
    assert NOT_YAML | set(INVISIBLE_TO_SCHEMA) <= {file.stem for file in BAD}


VALUES = [
    *("1.10", "7", "no", "on", "true", "0x1F", "010", "1e3", "2026-11-23", "1:30", ".nan", "="),
    *("'~'", "'null'", "''", "!!str ~"),
]


@pytest.mark.parametrize("value", VALUES)
def test_the_loader_and_the_schema_accept_numbers_and_booleans_as_text(value: str) -> None:
    key = value if value.strip("'!") == value else "b"
    text = HEAD + f"allocations: {{a: {{version: {value}}}, {key}: {{user: x}}}}"
    assert loads(text)
    assert matches_schema(text)


@pytest.mark.parametrize("value", ["~", "null", "Null", "NULL", "", "[a]", "{a: b}"])
def test_the_loader_and_the_schema_reject_null_and_collections(value: str) -> None:
    text = HEAD + f"allocations:\n  a:\n    version: {value}\n"
    assert not loads(text)
    assert not matches_schema(text)


# Whatever loads matches the schema.

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
def nearly_valid_documents(draw: st.DrawFn) -> str:
    """A document that is valid or nearly valid."""
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


@given(nearly_valid_documents())
@example(HEAD + "--- ~\n---\n" + HEAD + "allocations: {}\n")
@example("---\n" + HEAD + "allocations: {}\n---\n")
def test_every_document_that_loads_matches_the_schema(text: str) -> None:
    if loads(text):
        assert matches_schema(text), text


def test_the_id_pattern_excludes_only_unprintable_characters_spaces_and_a_single_dot() -> None:
    excluded = [chr(code) for code in range(0x10000) if not re.search(ID_PATTERN, chr(code))]
    assert len(excluded) > 100
    assert [char for char in excluded if char.isprintable()] == [" ", "."]


def test_the_loader_and_the_schema_reject_malformed_ids() -> None:
    for key in ("", ".", "..", "a b", "a\\n", "\\0", "a\\u200b", "x" * 257):
        text = HEAD + f'allocations: {{"{key}": {{user: x}}}}'
        assert not loads(text), key
        assert not matches_schema(text), key


def test_an_empty_allocation_needs_defaults() -> None:
    assert not matches_schema(HEAD + "allocations: {a: {}}")
    assert matches_schema(HEAD + "defaults: {region: r}\nallocations: {a: {}}")
