"""Exported live state: an export loads, and declares exactly the live values."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from allocsync.desired import files
from allocsync.desired.export import declarations, to_scalar
from allocsync.desired.loader import examine
from allocsync.desired.schema import MAX_TEXT_LENGTH
from allocsync.desired.similar_ids import DeclarableIds
from allocsync.model.cloud import DECLARABLE, STATUSES, UNDECLARABLE_STATUSES, NumberLiteral, field_value
from allocsync.model.desired_state import Mode
from allocsync.planning.diff import compare
from tests.support.hard_texts import HARD_TEXTS
from tests.support.tier import part_of

texts = st.text(max_size=12) | st.sampled_from(HARD_TEXTS)
values = texts | st.just("x" * 9000) | st.none() | st.just(NumberLiteral("1.10")) | st.booleans()
statuses = st.sampled_from(STATUSES)
urls = st.fixed_dictionaries({"status": statuses, "url": values})
clouds: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"id": texts, "user": texts, "project": texts, "status": st.fixed_dictionaries({"cloud": statuses})},
    optional={
        "region": values,
        "version": values,
        "urls": st.fixed_dictionaries({"base": urls, "id": urls}, optional={"vanity": urls}),
        "billing": st.just({"plan": "team"}),
    },
)


def loaded(text: str) -> Any:  # noqa: ANN401 - the result of the loader
    file = files.File("export.yaml", text.encode(errors="surrogatepass"))
    return examine(files.FileSet("export.yaml", (file,)), default_mode=Mode.ENFORCE)


def exported(clouds_to_export: list[Any]) -> list[str]:
    return list(
        declarations(clouds_to_export, id_problem=DeclarableIds().problem, max_characters=MAX_TEXT_LENGTH)
    )


def declarable(cloud: Any, name: str) -> bool:  # noqa: ANN401 - JSON
    value = field_value(cloud, name)
    passing = name.endswith((".status", ".cloud")) and value in UNDECLARABLE_STATUSES
    return isinstance(value, str) and not passing and len(value) < 9000


@settings(max_examples=part_of(1000))
@given(st.lists(clouds, max_size=4, unique_by=lambda cloud: cloud["id"]))
def test_an_export_loads_and_equals_the_live_state(clouds_to_export: list[Any]) -> None:
    found = loaded("\n".join(exported(clouds_to_export)) + "\n")
    assert [str(problem) for problem in found.problems] == []
    revision = found.loaded.revision
    ids = DeclarableIds()
    declarable_ids = {
        key for key in sorted(cloud["id"] for cloud in clouds_to_export) if not ids.problem(key)
    }
    assert set(revision.allocations) == declarable_ids
    for cloud in clouds_to_export:
        desired = revision.allocations.get(cloud["id"])
        if desired is not None:
            assert compare(desired, cloud) == ()
            assert {name for name, _ in desired.fields} == {
                name for name in DECLARABLE if declarable(cloud, name)
            }


def test_an_export_is_nested_readable_yaml() -> None:
    url = {"status": "RUNNING", "url": "https://mark.pieces.cloud"}
    cloud: Any = {
        "id": "7b0c4c5e-1f0e-4c53-9a3b-0a4b8f2f7d11",
        "user": "u",
        "project": "null",
        "version": "1.10",
        "status": {"cloud": "PENDING"},
        "urls": {"base": url, "id": {"status": "UNKNOWN", "url": "a b"}},
    }
    assert exported([cloud]) == [
        "apiVersion: allocsync/v1",
        "allocations:",
        "  7b0c4c5e-1f0e-4c53-9a3b-0a4b8f2f7d11:",
        "    user: u",
        '    project: "null"',
        '    version: "1.10"',
        "    # status.cloud is PENDING: only the server sets it",
        "    urls:",
        "      base:",
        "        status: RUNNING",
        "        url: https://mark.pieces.cloud",
        "    # urls.id.status is UNKNOWN: only the server sets it",
        "      id:",
        '        url: "a b"',
    ]


def test_a_value_that_cannot_be_declared_becomes_a_comment_with_the_reason() -> None:
    long = "x" * (MAX_TEXT_LENGTH + 1)
    cloud: Any = {"id": "key", "user": NumberLiteral("1.10"), "project": long}
    assert exported([cloud]) == [
        "apiVersion: allocsync/v1",
        "allocations:",
        "  # key: no field of it can be declared",
        '    # user is {"number": "1.10"}: only text can be declared',
        f"    # project is {'x' * 100}…: more than {MAX_TEXT_LENGTH:,} characters cannot be declared",
        "  {}",
    ]


def test_scalars_are_quoted_if_yaml_could_read_another_type() -> None:
    assert [
        to_scalar(text)
        for text in ("mars", "us-east1", "2026-11-23", "No", "1.10", "", "a:", "\x1b", "\U0001f600", '"')
    ] == [
        "mars",
        "us-east1",
        '"2026-11-23"',
        '"No"',
        '"1.10"',
        '""',
        '"a:"',
        '"\\x1b"',
        '"\U0001f600"',
        '"\\""',
    ]


def test_ids_that_are_easily_confused_are_not_declared_together() -> None:
    cloud = {"user": "u", "id": "KEY"}
    assert exported([{**cloud, "id": "key"}, cloud])[2:] == [
        "  KEY:",
        "    user: u",
        "  # key: it differs from KEY only in upper and lower case",
    ]
