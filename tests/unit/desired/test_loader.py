"""Loading files: a revision, or all errors at once. Each file of the corpus in `bad/` lists its errors."""

import json
from pathlib import Path

import pytest

from allocsync.desired import files
from allocsync.desired.loader import examine, load
from allocsync.model.cloud import DECLARABLE
from allocsync.model.desired_state import Desired, Mode
from allocsync.model.ids import AllocationId
from tests.support.loading import BAD, HEAD, Single, Write, loaded_from


def test_the_corpus_of_bad_files_is_not_empty() -> None:
    assert len(BAD) >= 80


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_a_bad_file_gives_the_errors_in_its_first_comments(file: Path) -> None:
    # Some files cannot begin with comments, because of their mistake: a file beside them has the errors.
    expected_file = file.with_suffix(".says")
    comments = []
    for line in (expected_file if expected_file.exists() else file).read_text(errors="replace").splitlines():
        if not line.startswith("# ") or line == "# later":
            break
        comments.append(line.removeprefix("# ").replace("FILE", str(file)))
    problems = examine(files.read(file), default_mode=Mode.ENFORCE).problems
    assert [str(problem).removeprefix(f"{file}:") for problem in problems] == comments


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_no_error_uses_the_vocabulary_of_the_parser(file: Path) -> None:
    for problem in examine(files.read(file), default_mode=Mode.ENFORCE).problems:
        for word in ("token", "block", "flow", "scalar", "node", "context", "expected"):
            assert word not in problem.message


def test_the_documented_example_loads(single: Single) -> None:
    text = """\
# yaml-language-server: $schema=allocations.schema.json
apiVersion: allocsync/v1
defaults:                      # merged under every allocation of this document
  region: us-central1
allocations:
  7b0c4c5e-1f0e-4c53-9a3b-0a4b8f2f7d11:      # the allocation's id
    version: 1.10
    urls:
      vanity: {url: https://mark.pieces.cloud, status: RUNNING}
    mode: enforce
"""
    desired = single(text)
    assert desired == Desired(
        id=AllocationId("7b0c4c5e-1f0e-4c53-9a3b-0a4b8f2f7d11"),
        fields=(
            ("region", "us-central1"),
            ("version", "1.10"),
            ("urls.vanity.status", "RUNNING"),
            ("urls.vanity.url", "https://mark.pieces.cloud"),
        ),
        mode=Mode.ENFORCE,
    )
    assert desired.source.endswith("allocations/a.yaml:6")


def test_every_declarable_field_can_be_declared_and_is_loaded_in_order(single: Single) -> None:
    body: dict[str, object] = {}
    for name in reversed(DECLARABLE):
        *parents, last = name.split(".")
        inner = body
        for parent in parents:
            inner = inner.setdefault(parent, {})  # type: ignore[assignment] # the dict just put there
        inner[last] = "RUNNING" if last in {"status", "cloud"} else f"a {name}"
    desired = single(json.dumps({"apiVersion": "allocsync/v1", "allocations": {"a": body}}))
    assert tuple(name for name, _ in desired.fields) == DECLARABLE
    assert dict(desired.fields)["urls.id.url"] == "a urls.id.url"


@pytest.mark.parametrize("status", ["RUNNING", "FAILED", "SUCCEEDED", "DISCONNECTED"])
def test_a_lasting_status_can_be_declared(single: Single, status: str) -> None:
    assert single(HEAD + f"allocations: {{a: {{status: {{cloud: {status}}}}}}}").fields == (
        ("status.cloud", status),
    )


def test_an_empty_text_can_be_declared_and_is_not_null(single: Single) -> None:
    assert single(HEAD + "allocations: {a: {region: ''}}").fields == (("region", ""),)


# Defaults and modes.


def test_an_allocation_overrides_the_defaults_field_by_field(single: Single) -> None:
    text = (
        "defaults: {region: r, version: 1, urls: {vanity: {status: RUNNING, url: default}}, mode: observe}\n"
        "allocations: {a: {version: 2, urls: {vanity: {url: own}}}}\n"
    )
    desired = single(HEAD + text)
    assert desired.mode is Mode.OBSERVE
    assert dict(desired.fields) == {
        "region": "r",
        "version": "2",
        "urls.vanity.status": "RUNNING",
        "urls.vanity.url": "own",
    }


def test_defaults_may_follow_the_allocations_and_apply_to_an_empty_body(single: Single) -> None:
    assert single(HEAD + "allocations: {a: {}}\ndefaults: {region: r}").fields == (("region", "r"),)


def test_defaults_apply_to_their_own_document_only(write: Write) -> None:
    file = write(
        HEAD
        + "defaults: {region: r}\nallocations: {a: {version: 1}}\n---\n"
        + HEAD
        + "allocations: {b: {version: 1}}\n"
    )
    allocations = loaded_from(file).revision.allocations
    assert [dict(desired.fields) for desired in allocations.values()] == [
        {"region": "r", "version": "1"},
        {"version": "1"},
    ]


def test_the_mode_of_the_allocation_overrides_the_defaults_and_these_the_settings(write: Write) -> None:
    file = write(
        HEAD
        + "defaults: {mode: observe}\nallocations: {a: {mode: suspend}, b: {}}\n---\n"
        + HEAD
        + "allocations: {c: {region: r}}"
    )
    allocations = load(file, default_mode=Mode.SUSPEND).revision.allocations
    assert [desired.mode for desired in allocations.values()] == [Mode.SUSPEND, Mode.OBSERVE, Mode.SUSPEND]


def test_a_mode_alone_is_a_declaration(single: Single) -> None:
    assert single(HEAD + "allocations: {a: {mode: suspend}}") == Desired(AllocationId("a"), (), Mode.SUSPEND)


# Anchors.


def test_an_alias_and_a_merge_count_at_the_line_where_they_are_used(write: Write) -> None:
    text = "allocations:\n  a: &a\n    region: r\n  b: *a\n  c: {<<: *a, version: 1}\n"
    allocations = loaded_from(write(HEAD + text)).revision.allocations
    assert [dict(desired.fields) for desired in allocations.values()] == [
        {"region": "r"},
        {"region": "r"},
        {"region": "r", "version": "1"},
    ]
    assert [desired.source.rpartition(":")[2] for desired in allocations.values()] == ["3", "5", "6"]


def test_a_mistake_in_an_anchored_value_quarantines_every_allocation_that_uses_it(write: Write) -> None:
    file = write(
        HEAD + "allocations:\n  a: &a {regoin: r}\n  b: *a\n  c: {<<: *a, version: 1}\n  d: {version: 1}\n"
    )
    loaded = loaded_from(file)
    assert list(loaded.revision.quarantined) == ["a", "b", "c"]
    assert list(loaded.revision.allocations) == ["d"]


# What is rejected whole, what is quarantined.


def test_allocations_may_come_from_a_merged_mapping(single: Single) -> None:
    assert single(HEAD + "allocations:\n  <<: {a: {region: r}}\n").fields == (("region", "r"),)
