"""Comparing and merging touch only declared fields, whatever else a live cloud holds."""

import copy
from typing import Any

import pytest
from hypothesis import assume, given

from allocsync.api import json_codec
from allocsync.model.change import Change
from allocsync.model.cloud import DECLARABLE, NumberLiteral, field_value
from allocsync.model.desired_state import Desired
from allocsync.model.ids import AllocationId
from allocsync.planning.diff import CannotMergeError, body_problems, compare, merge, pending, update_body
from tests.support import strategies

ID = AllocationId("7b0c4c5e")


def merge_or_assume(desired: Desired, cloud: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    try:
        return merge(desired, cloud)
    except CannotMergeError:
        assume(False)
        raise


@given(strategies.clouds)
def test_a_cloud_that_holds_the_declared_values_does_not_differ(cloud: dict[str, Any]) -> None:
    own = tuple((name, value) for name in DECLARABLE if isinstance(value := field_value(cloud, name), str))
    assert compare(Desired(ID, own), cloud) == ()


@given(strategies.desired(), strategies.clouds)
def test_merging_sets_the_declared_fields_and_changes_nothing_else(
    desired: Desired, cloud: dict[str, Any]
) -> None:
    before = copy.deepcopy(cloud)
    body = merge_or_assume(desired, cloud)
    assert cloud == before
    assert compare(desired, body) == ()
    assert rest_as_text(body, desired) == rest_as_text(cloud, desired)
    assert [key for key in body if key in cloud] == list(cloud)


def rest_as_text(cloud: Any, desired: Desired) -> Any:  # noqa: ANN401 - JSON
    """The cloud as JSON text, without the declared fields and without objects that only held those."""
    rest = copy.deepcopy(dict(cloud))
    for name, _ in desired.fields:
        *parents, last = name.split(".")
        trail = [rest]
        for parent in parents:
            child = trail[-1].get(parent)
            if not isinstance(child, dict):
                break
            trail.append(child)
        else:
            trail[-1].pop(last, None)
        for parent, place in reversed(list(zip(parents, trail, strict=False))):
            if place.get(parent) in ({}, None):
                place.pop(parent, None)
    return json_codec.dumps(rest)


@given(strategies.desired(), strategies.clouds)
def test_comparing_names_exactly_the_fields_that_merging_changes(
    desired: Desired, cloud: dict[str, Any]
) -> None:
    body = merge_or_assume(desired, cloud)
    changed = {name for name, _ in desired.fields if field_value(body, name) != field_value(cloud, name)}
    assert {change.field for change in compare(desired, cloud)} == changed


@given(strategies.desired(), strategies.whole_clouds())
def test_a_body_without_problems_has_every_required_field(desired: Desired, cloud: dict[str, Any]) -> None:
    body: Any = merge_or_assume(desired, cloud)
    if body_problems(body):
        assert "vanity" not in cloud["urls"]  # only a new vanity URL can lack a field here
        return
    assert all(isinstance(body[name], str) for name in ("id", "user", "project"))
    assert isinstance(body["status"]["cloud"], str)
    for name in ("base", "id", *(["vanity"] if body["urls"].get("vanity") is not None else [])):
        assert isinstance(body["urls"][name]["status"], str)
        assert isinstance(body["urls"][name]["url"], str)


def test_a_live_number_differs_from_a_declared_text_with_the_same_digits() -> None:
    declared = Desired(ID, (("version", "1.10"),))
    assert compare(declared, {"version": NumberLiteral("1.10")}) == (
        Change("version", NumberLiteral("1.10"), "1.10"),
    )


def test_a_null_field_counts_as_absent() -> None:
    declared = Desired(ID, (("region", "a"),))
    assert compare(declared, {}) == compare(declared, {"region": None}) == (Change("region", None, "a"),)


def test_a_live_value_that_is_not_an_object_is_never_replaced_by_one() -> None:
    declared = Desired(ID, (("urls.base.url", "a"),))
    body, problems = update_body(declared, {"urls": ["kept"]})
    assert body == {"urls": ["kept"]}
    assert problems == ("urls.base.url cannot be set: the live urls is not an object",)


def test_a_new_vanity_url_needs_its_status() -> None:
    cloud: dict[str, Any] = {
        "id": "a",
        "user": "u",
        "project": "p",
        "status": {"cloud": "RUNNING"},
        "urls": {"base": {"status": "x", "url": "y"}, "id": {"status": "x", "url": "y"}},
    }
    body, problems = update_body(Desired(ID, (("urls.vanity.url", "mark.pieces.cloud"),)), cloud)
    assert field_value(body, "urls.vanity.url") == "mark.pieces.cloud"
    assert problems == ("urls.vanity has no status; declare urls.vanity.status too",)


@pytest.mark.parametrize(
    ("cloud", "found"),
    [
        ({}, ()),
        ({"status": {"cloud": "PENDING"}}, ("status.cloud",)),
        ({"urls": {"vanity": {"status": "PENDING"}}}, ("urls.vanity.status",)),
        ({"status": {"cloud": "RUNNING"}, "urls": "PENDING"}, ()),
    ],
)
def test_pending_status_fields_are_listed(cloud: dict[str, Any], found: tuple[str, ...]) -> None:
    assert pending(cloud) == found


def test_every_missing_field_of_a_body_is_reported_at_once() -> None:
    problems = body_problems({"urls": {"vanity": {}}})
    assert len(problems) == 3 + 1 + 2 + 2 + 2
