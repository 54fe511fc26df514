"""The rules of a cloud, as properties: differences replay, nulls mean absent, `updated` increases."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
from hypothesis import given
from hypothesis import strategies as st

from allocsync.api import json_codec
from allocsync.model.cloud import STATUSES, Cloud, NumberLiteral
from allocsync.reference_server.clouds import (
    difference,
    replace_cloud,
    schema_problems,
    value_at,
    with_change,
    with_new_updated,
    without_nulls,
)
from allocsync.reference_server.sample import sample_clouds
from tests.integration.reference_server.conftest import CLOUDS, valid

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.text(max_size=3)
    | st.sampled_from(["1", "1.0", "1e400"]).map(NumberLiteral),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
names = st.text(max_size=3) | st.sampled_from(["status.cloud", "urls.vanity", "a.b", "a\\", "a\\.b", ".", ""])
unknown = st.dictionaries(
    names.filter(lambda name: name not in {"id", "user", "project", "status", "urls", "updated", "schema"}),
    values,
    max_size=3,
)
urls = st.builds(
    lambda more, status, url: {**more, "status": status, "url": url},
    unknown,
    st.sampled_from(STATUSES),
    st.text(max_size=3),
)


@st.composite
def clouds(draw: st.DrawFn) -> Cloud:
    """Draw a cloud with a fixed id and any other content that the API allows."""
    cloud: dict[str, Any] = draw(unknown) | {
        "id": "x",
        "user": draw(st.text(max_size=2)),
        "project": "p",
        "status": draw(unknown) | {"cloud": draw(st.sampled_from(STATUSES))},
        "urls": draw(unknown) | {"base": draw(urls), "id": draw(urls)},
    }
    cloud["urls"].pop("vanity", None)
    if draw(st.booleans()):
        cloud["urls"]["vanity"] = draw(urls)
    for name in ("region", "version"):
        cloud.pop(name, None)
        if draw(st.booleans()):
            cloud[name] = draw(st.text(max_size=2))
    return cloud


@given(clouds(), clouds())
def test_applying_a_difference_gives_the_new_cloud(before: Cloud, after: Cloud) -> None:
    replayed = before
    for path, (_, value) in difference(before, after).items():
        replayed = with_change(replayed, path, value)
    assert difference(replayed, after) == {}


@given(clouds(), clouds())
def test_the_reverse_difference_swaps_the_values(before: Cloud, after: Cloud) -> None:
    there, back = difference(before, after), difference(after, before)
    assert {path: values[::-1] for path, values in there.items()} == back


@given(clouds())
def test_a_valid_cloud_has_no_problems_and_no_difference_to_itself(cloud: Cloud) -> None:
    assert difference(cloud, cloud) == {}
    assert schema_problems(cloud) == []


@given(st.lists(clouds(), min_size=1, max_size=5))
def test_consecutive_updates_can_be_replayed_from_their_differences(row: list[Cloud]) -> None:
    current = replayed = row[0]
    for body in row:
        after = replace_cloud(current, body)
        for path, (_, value) in difference(current, after).items():
            replayed = with_change(replayed, path, value)
        current = after
    assert difference(replayed, current) == {}


@given(values | clouds())
def test_a_cloud_without_problems_passes_the_independent_schema(body: Any) -> None:  # noqa: ANN401 - JSON
    if isinstance(body, dict) and not schema_problems(body):
        valid(_with_plain_numbers(body))


def test_a_broken_field_is_a_problem_exactly_if_the_schema_rejects_it() -> None:
    whole = _with_plain_numbers(CLOUDS[1])
    wrong: tuple[Any, ...] = (None, 1, "text", [], {})
    paths = ["id", "user", "project", "region", "version", "status", "status.cloud", "urls", "urls.base"]
    paths += ["urls.base.url", "urls.id.status", "urls.vanity", "urls.vanity.url", "updated", "updated.value"]
    paths += ["schema", "schema.migration", "schema.semantic"]
    for path in paths:
        for value in wrong:
            broken = with_change(whole, path, value) if value is not None else _without_field(whole, path)
            try:
                valid(broken)
                fits = True
            except jsonschema.ValidationError:
                fits = False
            problems = schema_problems(_with_literals(broken))
            # An invalid time and a new `semantic` are accepted.
            assert fits == (not problems) or path in ("updated.value", "schema.semantic"), (
                path,
                value,
                problems,
            )


def _without_field(whole: Cloud, path: str) -> Cloud:
    parent, _, name = path.rpartition(".")
    holder = value_at(whole, parent) if parent else whole
    assert isinstance(holder, dict)
    left = {key: value for key, value in holder.items() if key != name}
    return with_change(whole, parent, left) if parent else left


def _with_literals(value: Cloud) -> Cloud:
    read = json_codec.loads(json.dumps(value))
    assert isinstance(read, dict)
    return read


def test_nulls_are_dropped_from_optional_fields_only() -> None:
    cloud: Any = {"region": None, "note": None, "urls": {"vanity": None, "base": {"schema": None, "x": None}}}
    assert without_nulls(cloud) == {"note": None, "urls": {"base": {"x": None}}}


@given(st.datetimes(timezones=st.just(UTC)), st.integers(0, 3))
def test_updated_increases_with_every_change_whatever_the_clock_does(now: datetime, times: int) -> None:
    cloud: Cloud = CLOUDS[0]
    seen = [value_at(cloud, "updated.value")]
    for _ in range(times):
        cloud = with_new_updated(cloud, cloud, now)
        seen.append(value_at(cloud, "updated.value"))
        valid({**_with_plain_numbers(CLOUDS[0]), "updated": cloud["updated"]})
    moments = [datetime.fromisoformat(str(value)) for value in seen]
    assert moments == sorted(set(moments))


def _with_plain_numbers(cloud: Cloud) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json_codec.dumps(cloud).replace(b"1e400", b"1"))
    return plain


def test_updated_is_the_current_time_after_a_value_that_is_not_a_time() -> None:
    cloud = {**CLOUDS[0], "updated": {"value": "yesterday", "readable": "Yesterday"}}
    assert with_new_updated(cloud, cloud, NOW)["updated"] == {"value": "2026-11-23T12:00:00.000000Z"}
    later = with_new_updated(cloud, cloud, NOW + timedelta(microseconds=5))
    assert value_at(later, "updated.value") == "2026-11-23T12:00:00.000005Z"


def test_samples_are_valid_and_depend_only_on_the_seed() -> None:
    samples = sample_clouds(200, 4)
    assert [schema_problems(cloud) for cloud in samples] == [[]] * 200
    assert samples == sample_clouds(200, 4) != sample_clouds(200, 5)
    vanities = [str(value_at(cloud, "urls.vanity.url")) for cloud in samples]
    assert {"None", "https"} <= {url[:5].rstrip(":") for url in vanities}
    assert any(url != "None" and not url.startswith("https") for url in vanities)
    assert len({cloud["id"] for cloud in samples}) == 200
