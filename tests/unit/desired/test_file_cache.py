"""Loading with a cache gives exactly the same result as loading all files anew."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.desired import file_cache, files
from allocsync.desired.file_cache import FileCache
from allocsync.desired.files import File, FileSet
from allocsync.desired.loader import Examined, Loader, examine
from allocsync.model.desired_state import Mode
from tests.support.loading import HEAD

FILES = ("a.yaml", "b.yaml", "c.yml", "\x1b.yaml")
BODIES = ("{region: r}", "{region: s}", "{mode: observe}", "{regoin: r}", "{}", "~", "[]")
INVALID_FILES = (
    b"",
    b"---\n",
    b"\xff",
    b"\xff\xfe",
    b"a: [",
    b"- a\n",
    b"apiVersion: allocsync/v2\n",
    HEAD.encode(),
    (HEAD + "allocations: {}\n").encode(),
    (HEAD + "allocations: {a b: {region: r}}\n").encode(),
)

bodies = st.sampled_from(BODIES)
documents = st.builds(
    lambda declared, defaults: (
        HEAD
        + f"defaults: {defaults}\nallocations:\n"
        + "".join(f"  {key}: {body}\n" for key, body in declared)
    ),
    st.lists(st.tuples(st.sampled_from(("a", "A", "b", "é", "É", "c")), bodies), min_size=1, max_size=3),
    st.sampled_from(("{}", "{version: v}", "{mode: suspend}", "{nonsense: n}")),
)
texts = st.lists(documents, min_size=1, max_size=2).map(lambda each: "---\n".join(each).encode())
contents = texts | st.sampled_from(INVALID_FILES)
file_sets = st.dictionaries(st.sampled_from(FILES), contents | st.just("cannot be read"), max_size=len(FILES))
histories = st.lists(st.tuples(file_sets, st.booleans(), st.sampled_from(("", "it is gone"))), max_size=6)

# Few ids in each file, and rarely one of another file, so that most sets are valid and differ in bodies.
declarations = [
    st.dictionaries(st.sampled_from(ids), bodies, min_size=1, max_size=2).map(
        lambda declared: "".join(
            [HEAD, "allocations:\n", *(f"  {key}: {body}\n" for key, body in declared.items())]
        ).encode()
    )
    for ids in ("aab", "ccd", "eefA")
]
edits_of_the_same_ids = st.lists(
    st.fixed_dictionaries({}, optional=dict(zip(FILES, declarations, strict=False))), min_size=2, max_size=8
)


def file_set(contents_by_name: Mapping[str, bytes | str], error: str = "") -> FileSet:
    found = [
        File(name, given) if isinstance(given, bytes) else File(name, error=given)
        for name, given in sorted(contents_by_name.items())
    ]
    return FileSet("d", tuple(found), error)


def assert_identical(found: Examined, fresh: Examined) -> None:
    """Assert equality including the order of mappings and the locations of declarations."""
    assert found == fresh
    assert repr(found) == repr(fresh)


@given(histories, st.sampled_from(Mode))
def test_a_cached_load_equals_a_fresh_load_after_any_edits(
    history: list[tuple[dict[str, bytes | str], bool, str]], mode: Mode
) -> None:
    cached = Loader(default_mode=mode)
    contents_by_name: dict[str, bytes | str] = {}
    for edit, replaces, error in history:
        contents_by_name = dict(edit) if replaces else {**contents_by_name, **edit}
        found = file_set(contents_by_name, error)
        assert_identical(cached.examine(found), examine(found, default_mode=mode))


@given(edits_of_the_same_ids, st.sampled_from(Mode))
def test_a_cached_load_equals_a_fresh_load_after_edits_of_the_same_ids(
    history: list[dict[str, bytes]], mode: Mode
) -> None:
    cached = Loader(default_mode=mode)
    contents_by_name: dict[str, bytes] = {}
    for edit in history:
        contents_by_name |= edit
        found = file_set(contents_by_name)
        assert_identical(cached.examine(found), examine(found, default_mode=mode))


def test_a_quarantined_id_that_becomes_similar_to_another_is_reported() -> None:
    cached = Loader(default_mode=Mode.ENFORCE)
    for other, holds in (("x", True), ("B", False)):
        written = f"{HEAD}allocations:\n  a: {{region: r}}\n  {other}: {{regoin: r}}\n".encode()
        found = cached.examine(file_set({"a.yaml": written, "b.yaml": declaring("b")}))
        assert (found.loaded is not None) is holds
    assert "looks like the id at a.yaml:4:3" in str(found.problems[-1])


@given(st.lists(documents, min_size=1, max_size=3), st.sampled_from(Mode))
def test_the_revision_is_a_hash_of_all_declarations_as_json(written: list[str], mode: Mode) -> None:
    found = examine(
        file_set({f"{at}.yaml": text.encode() for at, text in enumerate(written)}), default_mode=mode
    )
    if found.loaded is None:
        return
    revision = found.loaded.revision
    declared = [[key, each.mode, each.fields] for key, each in sorted(revision.allocations.items())]
    quarantined_entries = [
        [key, sorted([problem.path, problem.message] for problem in found.problems if str(problem) in said)]
        for key, said in sorted(revision.quarantined.items())
    ]
    text = json.dumps([declared, quarantined_entries], separators=(",", ":"))
    assert revision.id == sha256(text.encode()).hexdigest()


def declaring(key: str) -> bytes:
    return f"{HEAD}allocations:\n  {key}: {{region: r}}\n".encode()


def test_an_unchanged_file_is_not_parsed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed_names = []

    def count(file: File, default_mode: Mode) -> file_cache.ParsedFile:
        parsed_names.append(Path(file.name).name)
        return parse_file(file, default_mode)

    parse_file = file_cache._parse_file  # noqa: SLF001 - counts how often a file is parsed
    monkeypatch.setattr(file_cache, "_parse_file", count)
    cached = FileCache(default_mode=Mode.ENFORCE)
    for key in "abc":
        (tmp_path / f"{key}.yaml").write_bytes(declaring(key))
    cached.parse(files.read(tmp_path))
    assert parsed_names == ["a.yaml", "b.yaml", "c.yaml"]
    (tmp_path / "b.yaml").write_bytes(declaring("d"))
    (tmp_path / "c.yaml").touch()
    cached.parse(files.read(tmp_path))
    assert parsed_names[3:] == ["b.yaml"]


def test_the_cache_drops_files_that_are_no_longer_in_the_set() -> None:
    cached = FileCache(default_mode=Mode.ENFORCE)
    first = cached.parse(file_set({"a.yaml": declaring("a"), "b.yaml": declaring("b")}))
    cached.parse(file_set({"b.yaml": declaring("b")}))
    again = cached.parse(file_set({"a.yaml": declaring("a"), "b.yaml": declaring("b")}))
    assert again[0] is not first[0]
    assert again[1] is first[1]
