"""Compares desired state with live state: which declared fields differ, and the body of the update.

The rules: only declared fields are compared and changed; the rest of the live object goes into the update
exactly as received, unknown fields and number literals included. A field that is null counts as absent. A
live number never equals a declared text, because the API's schema says that the field is text.

Left out: whether an update may be sent (`reconcile`), and how it is shown (`planning.rendering`).
"""

from collections.abc import Mapping

from allocsync.model.change import Change
from allocsync.model.cloud import STATUSES, Cloud, Json, field_value
from allocsync.model.desired_state import Desired

URLS = ("urls.base", "urls.id", "urls.vanity")
OPTIONAL_URL = "urls.vanity"


class CannotMergeError(ValueError):
    """A declared field cannot be set: the live object has a value that is not an object on its path."""


def compare(desired: Desired, cloud: Cloud) -> tuple[Change, ...]:
    """The declared fields that differ, ordered as DECLARABLE."""
    return tuple(
        Change(field, live, wanted)
        for field, wanted in desired.fields
        if (live := field_value(cloud, field)) != wanted
    )


def merge(desired: Desired, cloud: Cloud) -> Cloud:
    """A copy of the live object with the declared fields set; the live object is not changed.

    Raises:
        CannotMergeError: a value on a declared path is not an object.
    """
    merged = dict(cloud)
    for field, wanted in desired.fields:
        _set_field(merged, field.split("."), field, wanted)
    return merged


def _set_field(parent: dict[str, Json], keys: list[str], field: str, wanted: str) -> None:
    key, *rest = keys
    if not rest:
        parent[key] = wanted
        return
    child = parent.get(key)
    if child is not None and not isinstance(child, Mapping):
        raise CannotMergeError(f"{field} cannot be set: the live {key} is not an object")
    # Copies only the objects on the path; everything else is shared with the live object and never changed.
    copy = dict(child) if child is not None else {}
    parent[key] = copy
    _set_field(copy, rest, field, wanted)


def update_body(desired: Desired, cloud: Cloud) -> tuple[Cloud, tuple[str, ...]]:
    """The body of the update, and why the API's schema would reject it (empty if it would not).

    If a declared field cannot be set, the body is the live object, not to be sent, and the reason says why.
    """
    try:
        body = merge(desired, cloud)
    except CannotMergeError as error:
        return cloud, (str(error),)
    return body, body_problems(body)


def body_problems(body: Cloud) -> tuple[str, ...]:
    """Why the API's schema would reject this body; empty if it would not.

    An unknown status is accepted, because servers add new ones over time.
    """
    problems = [
        f"{key} is missing or not a text" for key in ("id", "user", "project") if not _is_text(body, key)
    ]
    if not _is_text(body, "status.cloud"):
        problems.append(f"status.cloud is missing; declare it ({' '.join(STATUSES)})")
    for path in URLS:
        if path == OPTIONAL_URL and field_value(body, path) is None:
            continue
        problems.extend(
            f"{path} has no {part}; declare {path}.{part} too"
            for part in ("status", "url")
            if not _is_text(body, f"{path}.{part}")
        )
    return tuple(problems)


def pending(cloud: Cloud) -> tuple[str, ...]:
    """The status fields that are PENDING: the server is changing them, and an update would undo that."""
    fields = ("status.cloud", *(f"{path}.status" for path in URLS))
    return tuple(field for field in fields if field_value(cloud, field) == "PENDING")


def _is_text(body: Cloud, field: str) -> bool:
    return isinstance(field_value(body, field), str)
