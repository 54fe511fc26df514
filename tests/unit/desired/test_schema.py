"""What may be declared, and how each mistake is reported."""

from pathlib import Path

import pytest

from allocsync.desired import files
from allocsync.desired.loader import examine
from allocsync.model.desired_state import Mode
from tests.support.loading import BAD, HEAD, QUARANTINED, Messages, Single, Write, loaded_from, problems_of


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_a_mistake_inside_an_allocation_quarantines_it_and_any_other_rejects_the_set(file: Path) -> None:
    examined = examine(files.read(file), default_mode=Mode.ENFORCE)
    assert (examined.loaded is None) is (file.stem not in QUARANTINED)
    if examined.loaded is not None:
        assert examined.loaded.revision.quarantined


def test_a_bad_allocation_is_quarantined_and_the_others_load(write: Write) -> None:
    file = write(HEAD + "allocations:\n  good: {region: r}\n  bad:\n    regoin: r\n    version: ~\n")
    loaded = loaded_from(file)
    assert list(loaded.revision.allocations) == ["good"]
    errors = (
        f"{file}:5:5: allocations.bad.regoin: unknown field; did you mean region?",
        f"{file}:6:5: allocations.bad.version: null; leave the key out",
    )
    assert loaded.revision.quarantined == {"bad": errors}
    assert tuple(str(problem) for problem in loaded.problems) == errors


def test_an_id_in_two_files_is_reported_with_both_locations_even_if_one_is_quarantined(write: Write) -> None:
    first = write(HEAD + "allocations: {7b0c4c5e-1f0e: {region: r}}\n", "a.yml")
    second = write(HEAD + "allocations:\n  7b0c4c5e-1f0e: {regoin: r}\n", "b.yaml")
    assert problems_of(first.parent) == [
        f"{second}:3:3: allocations.7b0c4c5e…: declared twice; first at {first}:2:15",
        f"{second}:3:19: allocations.7b0c4c5e….regoin: unknown field; did you mean region?",
    ]


def test_all_errors_of_all_files_are_reported_in_order(write: Write) -> None:
    files = [
        write(HEAD + "allocations: {a: {region: ~}}\n", "a.yaml"),
        write("\tx", "b.yaml"),
        write(b"\xff", "c.yaml"),
        write(HEAD + "allocations: {a: {x: 1}}\n", "d.yaml"),
        write("", "e.yaml"),
    ]
    found = problems_of(files[0].parent)
    assert [sum(problem.startswith(str(file)) for problem in found) for file in files] == [
        1,
        1,
        1,
        2,
        1,
    ]  # d.yaml: a duplicate id, and an unknown field
    assert found == sorted(found)


def test_errors_in_the_defaults_are_reported_once(write: Write) -> None:
    file = write(HEAD + "defaults:\n  mode: x\nallocations: {a: {}, b: {}, c: {region: r}}\n")
    assert problems_of(file) == [f"{file}:3:9: defaults.mode: x is not a mode (enforce observe suspend)"]


def test_null_defaults_are_an_error(write: Write) -> None:
    file = write(HEAD + "defaults:\nallocations: {a: {region: r}}\n")
    assert problems_of(file) == [f"{file}:2:1: defaults: null; leave the key out"]


def test_an_explicitly_empty_set_is_a_revision(write: Write) -> None:
    loaded = loaded_from(write(HEAD + "allocations: {}\n"))
    assert not loaded.revision.allocations
    assert loaded.revision.files == 1


@pytest.mark.parametrize("text", ["", "\n\n", "# a comment\n", "---\n", "---\n---\n...\n", "\ufeff", "~"])
def test_a_file_that_declares_nothing_is_rejected(write: Write, text: str) -> None:
    file = write(text)
    (problem,) = problems_of(file)
    assert problem.startswith(f"{file}:1:1: this file declares nothing; write `apiVersion")


def test_an_empty_document_beside_another_is_ignored(single: Single) -> None:
    text = "---\n---\n" + HEAD + "allocations: {a: {region: r}}\n---\n# the end\n"
    assert single(text).fields == (("region", "r"),)


def test_a_long_value_with_control_characters_is_shortened_and_escaped(messages: Messages) -> None:
    (problem,) = messages(HEAD + 'allocations: {a: {mode: "\\e[2J' + "x" * 1000 + '"}}')
    assert problem.isprintable()
    assert len(problem) < 200


def test_a_field_name_of_a_megabyte_is_rejected_quickly(messages: Messages) -> None:
    (problem,) = messages(HEAD + "allocations: {a: {? " + "regionn" * 150_000 + "\n : b}}")
    assert "unknown field" in problem


# The digest.


def digest_of(write: Write, text: str) -> str:
    return loaded_from(write(HEAD + text)).revision.id


def test_the_revision_depends_on_the_declarations_only(write: Write) -> None:
    base = digest_of(write, "allocations: {a: {region: r, version: 1}}")
    assert len(base) == 64
    for same in (
        "# a comment\nallocations:\n  a:\n    version: '1'\n    region: r\n",
        "defaults: {region: r}\nallocations: {a: {version: 1}}",
        "allocations: {a: {region: r, version: 1, mode: enforce}}",
    ):
        assert digest_of(write, same) == base
    for other in (
        "allocations: {b: {region: r, version: 1}}",
        "allocations: {a: {region: r, version: 1.0}}",
        "allocations: {a: {region: r}}",
        "allocations: {a: {user: r, version: 1}}",
        "allocations: {a: {region: r, version: 1, mode: observe}}",
        "allocations: {a: {region: r, version: 1}, b: {}}",
        "allocations: {}",
    ):
        assert digest_of(write, other) != base


def test_the_revision_depends_on_the_errors_in_quarantined_entries_but_not_on_their_lines(
    write: Write,
) -> None:
    base = digest_of(write, "allocations: {a: {x: 1}, b: {region: r}}")
    assert digest_of(write, "# lower\n\nallocations: {b: {region: r}, a: {x: 1}}") == base
    assert digest_of(write, "allocations: {a: {y: 1}, b: {region: r}}") != base
    assert digest_of(write, "allocations: {b: {region: r}}") != base


def test_the_sample_file_loads() -> None:
    sample = Path(__file__).parents[3] / "config" / "allocations.yaml"
    loaded = loaded_from(sample)
    assert not loaded.problems
    assert len(loaded.revision.allocations) == 6


def test_a_value_above_the_length_limit_is_an_error(messages: Messages) -> None:
    (found,) = messages(HEAD + f"allocations: {{a: {{region: {'x' * 1_000_000}}}}}\n")
    assert found == "2:27: allocations.a.region: a value has at most 8,192 characters and this has 1,000,000"
    assert messages(HEAD + f"allocations: {{a: {{region: {'x' * 8_192}}}}}\n") == []
