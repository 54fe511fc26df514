"""Properties of loading any input: errors with locations inside the file, and stable revisions."""

import random
import re
from collections.abc import Mapping

import yaml
from hypothesis import given
from hypothesis import strategies as st

from allocsync.desired.files import File, FileSet
from allocsync.desired.loader import Examined, examine, require_loaded
from allocsync.desired.similar_ids import fold
from allocsync.errors import DesiredError, Problem
from allocsync.model.cloud import DECLARABLE
from allocsync.model.desired_state import Desired, Mode, Revision
from allocsync.model.ids import AllocationId
from tests.support.loading import HEAD

VALID = """\
# comment
apiVersion: allocsync/v1
defaults: &d {region: us-central1, mode: observe}
allocations:
  7b0c4c5e-1f0e-4c53-9a3b-0a4b8f2f7d11: &a
    version: 1.10
    urls:
      vanity: {url: "https://mark.pieces.cloud", status: RUNNING}
    mode: enforce
  b: *a
---
apiVersion: allocsync/v1
allocations:
  \U0001f600é: {<<: {user: 'x', project: !!str ~}, status: {cloud: FAILED}}
  d:
    region: |
      folded
"""
PIECES = [
    *"\n\r\t :-?[]{}&*!|>'\"%@`#,~.<\\\0\x85\u2028\ufeff\x1b",
    "<<: ",
    "&a ",
    "*a",
    "*d ",
    "---\n",
    "...\n",
    "!!int ",
]
PIECES += [
    "null",
    "allocations:",
    "apiVersion: allocsync/v1\n",
    "mode: ",
    "status",
    "\r\n",
    "  ",
    "\U0001f600",
    "? ",
]
_LINE_END = re.compile(r"\r\n|\r|\n")


def examined(*data: bytes, default_mode: Mode = Mode.ENFORCE) -> Examined:
    files = tuple(File(f"{number}.yaml", each) for number, each in enumerate(data))
    return examine(FileSet("d", files), default_mode=default_mode)


def revision_of(*texts: str) -> Revision:
    return require_loaded(examined(*(text.encode() for text in texts))).revision


def is_inside(data: bytes, line: int, column: int) -> bool:
    lines = _LINE_END.split(data.removeprefix(b"\xef\xbb\xbf").decode(errors="replace"))
    return 1 <= line <= len(lines) and 1 <= column <= len(lines[line - 1]) + 1


def assert_loads_or_reports(*data: bytes) -> None:
    """Load twice, and assert equal results and printable errors with locations inside the files."""
    found = examined(*data)
    for problem in found.problems:
        number = int(problem.file.partition(".")[0])
        assert is_inside(data[number], problem.line, problem.column), problem
        assert str(problem).isprintable(), problem
        assert problem.message
    assert list(found.problems) == sorted(set(found.problems))
    assert examined(*data) == found
    try:
        loaded = require_loaded(found)
    except DesiredError as error:
        reported: tuple[Problem, ...] | None = error.problems
    else:
        reported = None
        revision = loaded.revision
        assert bool(revision.quarantined) is bool(loaded.problems)
        assert not set(revision.quarantined) & set(revision.allocations)
    assert reported is None or reported == found.problems != ()


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=3))
def test_any_bytes_load_or_give_errors_inside_the_file(data: list[bytes]) -> None:
    assert_loads_or_reports(*data)


@given(st.text(max_size=200))
def test_any_text_loads_or_gives_errors_inside_the_file(text: str) -> None:
    assert_loads_or_reports(text.encode(errors="surrogatepass"))
    assert_loads_or_reports((HEAD + text).encode(errors="surrogatepass"))


@given(st.lists(st.sampled_from(PIECES), max_size=40))
def test_any_pieces_of_yaml_load_or_give_errors_inside_the_file(pieces: list[str]) -> None:
    assert_loads_or_reports("".join(pieces).encode())


@given(
    st.lists(
        st.tuples(
            st.integers(0, len(VALID)), st.integers(0, 30), st.sampled_from(PIECES) | st.text(max_size=3)
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_mutated_yaml_loads_or_gives_errors_inside_the_file(
    edits: list[tuple[int, int, str]], end: str
) -> None:
    text = VALID
    for at, removed, added in edits:
        text = text[:at] + added + text[at + removed :]
    assert_loads_or_reports(text.replace("\n", end).encode(errors="surrogatepass"))


def test_the_document_that_is_mutated_is_valid() -> None:
    assert not examined(VALID.encode()).problems


# Declared states.

# YAML 1.1 folds the next line character and the line and paragraph separators in unescaped text.
texts = st.text(
    st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029"), max_size=12
) | st.sampled_from(
    [
        "1.10",
        "no",
        "~",
        "null",
        "",
        "on",
        "0x1F",
        "<<",
        "=",
        "2026-11-23",
        "- a",
        "a: b",
        "#",
        "*a",
        "\n",
    ]
)
ids = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=40).filter(
    lambda key: key.isprintable() and {".", ".."}.isdisjoint(re.split(r"[/\\]", key))
)
statuses = st.sampled_from(["RUNNING", "FAILED", "SUCCEEDED", "DISCONNECTED"])


def field_value(name: str) -> st.SearchStrategy[str]:
    return statuses if name.endswith((".status", ".cloud")) else texts


fields = st.fixed_dictionaries({}, optional={name: field_value(name) for name in DECLARABLE}).filter(bool)
modes = st.sampled_from(Mode)
# Without ids that are easily confused: those are an error, which has tests of its own.
states = st.dictionaries(ids, st.tuples(fields, modes), max_size=6).filter(
    lambda state: len({fold(key) for key in state}) == len(state)
)


def body(declared: Mapping[str, str], mode: Mode, rng: random.Random) -> dict[str, object]:
    """Nest the fields of an allocation, with its keys in random order."""
    nested: dict[str, object] = {"mode": mode.value}
    for name in rng.sample(sorted(declared), len(declared)):
        *parents, last = name.split(".")
        inner = nested
        for parent in parents:
            inner = inner.setdefault(parent, {})  # type: ignore[assignment] # the dict just put there
        inner[last] = declared[name]
    keys = rng.sample(sorted(nested), len(nested))
    return {key: nested[key] for key in keys}


def write_document(state: Mapping[str, tuple[Mapping[str, str], Mode]], rng: random.Random) -> str:
    """Write the state as one document, with PyYAML in a random style."""
    keys = rng.sample(sorted(state), len(state))
    document = {
        "apiVersion": "allocsync/v1",
        "allocations": {key: body(*state[key], rng) for key in keys},
    }
    return yaml.safe_dump(
        document,
        sort_keys=False,
        allow_unicode=rng.random() < 0.5,
        default_flow_style=rng.choice([None, True, False]),
        default_style=rng.choice([None, '"', "'"]),
        width=rng.choice([20, 1000]),
        explicit_start=True,
    )


@given(states, st.randoms(use_true_random=False))
def test_a_written_document_loads_as_the_same_declarations(
    state: dict[str, tuple[dict[str, str], Mode]], rng: random.Random
) -> None:
    revision = revision_of(write_document(state, rng))
    assert revision.allocations == {
        key: Desired(
            AllocationId(key), tuple((name, declared[name]) for name in DECLARABLE if name in declared), mode
        )
        for key, (declared, mode) in state.items()
    }
    assert list(revision.allocations) == sorted(state)


@given(states, st.randoms(use_true_random=False), st.data())
def test_the_revision_does_not_depend_on_the_order_of_keys_documents_and_files(
    state: dict[str, tuple[dict[str, str], Mode]], rng: random.Random, data: st.DataObject
) -> None:
    expected = revision_of(write_document(state, rng)).id
    files = data.draw(st.integers(1, 4))
    parsed_files: list[list[str]] = [[] for _ in range(files)]
    for key, value in state.items():
        parsed_files[rng.randrange(files)].append(write_document({key: value}, rng))
    for parsed in parsed_files:
        parsed.append(write_document({}, rng))
        rng.shuffle(parsed)
    assert revision_of(*("".join(parsed) for parsed in parsed_files)).id == expected


@given(states, states, st.randoms(use_true_random=False))
def test_two_states_have_the_same_revision_only_if_they_declare_the_same(
    one: dict[str, tuple[dict[str, str], Mode]],
    other: dict[str, tuple[dict[str, str], Mode]],
    rng: random.Random,
) -> None:
    digests = {revision_of(write_document(state, rng)).id for state in (one, other)}
    assert (len(digests) == 1) is (one == other)


@given(states, fields, st.randoms(use_true_random=False))
def test_defaults_equal_the_same_fields_in_every_allocation(
    state: dict[str, tuple[dict[str, str], Mode]], defaults: dict[str, str], rng: random.Random
) -> None:
    default_body = body(defaults, Mode.OBSERVE, rng)
    with_defaults = write_document(state, rng) + yaml.safe_dump({"defaults": default_body}, width=1000)
    with_defaults_applied = {key: ({**defaults, **declared}, mode) for key, (declared, mode) in state.items()}
    if not with_defaults.startswith("--- {"):
        assert revision_of(with_defaults).id == revision_of(write_document(with_defaults_applied, rng)).id


@given(states.filter(bool), st.randoms(use_true_random=False))
def test_a_mistake_in_one_allocation_does_not_affect_the_others(
    state: dict[str, tuple[dict[str, str], Mode]], rng: random.Random
) -> None:
    bad = rng.choice(sorted(state))
    document = yaml.safe_load(write_document(state, rng))
    document["allocations"][bad]["regoin"] = "r"
    found = examined(yaml.safe_dump(document).encode()).loaded
    assert found is not None
    expected = revision_of(write_document(state, rng)).allocations
    assert found.revision.allocations == {key: declared for key, declared in expected.items() if key != bad}
    assert list(found.revision.quarantined) == [bad]
