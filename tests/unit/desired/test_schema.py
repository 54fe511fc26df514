"""What may be declared, and what each mistake is told as."""

from pathlib import Path

import pytest

from allocsync.desired import files
from allocsync.desired.loader import examine
from allocsync.model.desired_state import Mode
from tests.support.loading import BAD, HEAD, QUARANTINED, Messages, Single, Write, loaded_from, problems_of


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_a_mistake_inside_one_allocation_quarantines_it_and_any_other_rejects_the_set(file: Path) -> None:
    examined = examine(files.read(file), default_mode=Mode.ENFORCE)
    assert (examined.loaded is None) is (file.stem not in QUARANTINED)
    if examined.loaded is not None:
        assert examined.loaded.generation.quarantined


def test_one_bad_allocation_is_quarantined_and_the_rest_go_on(write: Write) -> None:
    file = write(HEAD + "allocations:\n  good: {region: r}\n  bad:\n    regoin: r\n    version: ~\n")
    loaded = loaded_from(file)
    assert list(loaded.generation.allocations) == ["good"]
    said = (
        f"{file}:5:5: allocations.bad.regoin: unknown field; did you mean region?",
        f"{file}:6:5: allocations.bad.version: null; leave the key out",
    )
    assert loaded.generation.quarantined == {"bad": said}
    assert tuple(str(problem) for problem in loaded.problems) == said


def test_an_id_in_two_files_names_both_places_also_when_one_is_in_quarantine(write: Write) -> None:
    first = write(HEAD + "allocations: {7b0c4c5e-1f0e: {region: r}}\n", "a.yml")
    second = write(HEAD + "allocations:\n  7b0c4c5e-1f0e: {regoin: r}\n", "b.yaml")
    assert problems_of(first.parent) == [
        f"{second}:3:3: allocations.7b0c4c5e…: declared twice; first at {first}:2:15",
        f"{second}:3:19: allocations.7b0c4c5e….regoin: unknown field; did you mean region?",
    ]


def test_every_error_of_every_file_comes_at_once_and_sorted(write: Write) -> None:
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
    ]  # d.yaml: twice declared, and a field that is not known
    assert found == sorted(found)


def test_defaults_errors_are_reported_once_at_the_defaults(write: Write) -> None:
    file = write(HEAD + "defaults:\n  mode: x\nallocations: {a: {}, b: {}, c: {region: r}}\n")
    assert problems_of(file) == [f"{file}:3:9: defaults.mode: x is not a mode (enforce observe suspend)"]


def test_null_defaults_are_an_error(write: Write) -> None:
    file = write(HEAD + "defaults:\nallocations: {a: {region: r}}\n")
    assert problems_of(file) == [f"{file}:2:1: defaults: null; leave the key out"]


def test_an_empty_set_that_says_so_is_a_generation(write: Write) -> None:
    loaded = loaded_from(write(HEAD + "allocations: {}\n"))
    assert not loaded.generation.allocations
    assert loaded.generation.files == 1


@pytest.mark.parametrize("text", ["", "\n\n", "# a comment\n", "---\n", "---\n---\n...\n", "\ufeff", "~"])
def test_a_file_that_holds_nothing_is_rejected(write: Write, text: str) -> None:
    file = write(text)
    (problem,) = problems_of(file)
    assert problem.startswith(f"{file}:1:1: this file declares nothing; write `apiVersion")


def test_an_empty_document_beside_a_real_one_is_let_be(single: Single) -> None:
    text = "---\n---\n" + HEAD + "allocations: {a: {region: r}}\n---\n# the end\n"
    assert single(text).leaves == (("region", "r"),)


def test_a_long_or_dirty_value_is_shown_short_and_clean(messages: Messages) -> None:
    (problem,) = messages(HEAD + 'allocations: {a: {mode: "\\e[2J' + "x" * 1000 + '"}}')
    assert problem.isprintable()
    assert len(problem) < 200


def test_a_misspelt_field_of_a_megabyte_is_refused_quickly(messages: Messages) -> None:
    (problem,) = messages(HEAD + "allocations: {a: {? " + "regionn" * 150_000 + "\n : b}}")
    assert "unknown field" in problem


# The digest.


def digest_of(write: Write, text: str) -> str:
    return loaded_from(write(HEAD + text)).generation.digest


def test_the_digest_is_of_what_is_declared(write: Write) -> None:
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


def test_the_digest_knows_what_is_quarantined_and_why_but_not_where(write: Write) -> None:
    base = digest_of(write, "allocations: {a: {x: 1}, b: {region: r}}")
    assert digest_of(write, "# lower\n\nallocations: {b: {region: r}, a: {x: 1}}") == base
    assert digest_of(write, "allocations: {a: {y: 1}, b: {region: r}}") != base
    assert digest_of(write, "allocations: {b: {region: r}}") != base


def test_the_sample_in_config_loads() -> None:
    sample = Path(__file__).parents[3] / "config" / "allocations.yaml"
    loaded = loaded_from(sample)
    assert not loaded.problems
    assert len(loaded.generation.allocations) == 6


def test_a_megabyte_for_a_value_is_a_file_that_went_in_by_mistake(messages: Messages) -> None:
    (found,) = messages(HEAD + f"allocations: {{a: {{region: {'x' * 1_000_000}}}}}\n")
    assert found == "2:27: allocations.a.region: a value has at most 8,192 characters and this has 1,000,000"
    assert messages(HEAD + f"allocations: {{a: {{region: {'x' * 8_192}}}}}\n") == []
