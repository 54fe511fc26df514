"""Desired against live: which declared leaves differ, and the object that an update would send.

The rules: only declared leaves are compared and changed; everything else of the live object, unknown fields
and number literals included, goes into the update exactly as it came. A leaf that is absent or null counts as
absent. A live number never equals a declared text, because the schema says text.

Left out: whether an update may be sent (`reconcile`), and what is shown of it (`render`).
"""

from collections.abc import Mapping

from allocsync.model.change import Change
from allocsync.model.cloud import STATUSES, Cloud, Json, leaf
from allocsync.model.desired_state import Desired

URLS = ("urls.base", "urls.id", "urls.vanity")
OPTIONAL_URL = "urls.vanity"


class CannotMergeError(ValueError):
    """The live object has something other than an object where a declared leaf has to go."""


def compare(desired: Desired, cloud: Cloud) -> tuple[Change, ...]:
    """The declared leaves that differ, in the order of the declaration."""
    return tuple(
        Change(field, live, wanted)
        for field, wanted in desired.leaves
        if (live := leaf(cloud, field)) != wanted
    )


def merge(desired: Desired, cloud: Cloud) -> Cloud:
    """The live object with the declared leaves set; the live object itself is not touched.

    Raises:
        CannotMergeError: part of a declared path is there and is not an object.
    """
    merged = dict(cloud)
    for field, wanted in desired.leaves:
        _put(merged, field.split("."), field, wanted)
    return merged


def _put(parent: dict[str, Json], keys: list[str], field: str, wanted: str) -> None:
    key, *rest = keys
    if not rest:
        parent[key] = wanted
        return
    child = parent.get(key)
    if child is not None and not isinstance(child, Mapping):
        raise CannotMergeError(f"{field} cannot be set: the live {key} is not an object")
    # A copy of the touched path only: what lies beside it is shared with the live object, and never changed.
    copy = dict(child) if child is not None else {}
    parent[key] = copy
    _put(copy, rest, field, wanted)


def update_body(desired: Desired, cloud: Cloud) -> tuple[Cloud, tuple[str, ...]]:
    """The body of the update, and why the API's schema would not accept it (empty: it would)."""
    try:
        body = merge(desired, cloud)
    except CannotMergeError as error:
        return cloud, (str(error),)
    return body, body_problems(body)


def body_problems(body: Cloud) -> tuple[str, ...]:
    """Why the API's schema would not accept this body; empty when it would.

    A status that nobody here knows is tolerated: servers add them over time.
    """
    problems = [
        f"{key} is missing or not a text" for key in ("id", "user", "project") if not _text(body, key)
    ]
    if not _text(body, "status.cloud"):
        problems.append(f"status.cloud is missing; declare it ({' '.join(STATUSES)})")
    for path in URLS:
        if path == OPTIONAL_URL and leaf(body, path) is None:
            continue
        problems.extend(
            f"{path} has no {part}; declare {path}.{part} too"
            for part in ("status", "url")
            if not _text(body, f"{path}.{part}")
        )
    return tuple(problems)


def pending(cloud: Cloud) -> tuple[str, ...]:
    """The status leaves that say PENDING: the server works on them, and an update would write that back."""
    fields = ("status.cloud", *(f"{path}.status" for path in URLS))
    return tuple(field for field in fields if leaf(cloud, field) == "PENDING")


def _text(body: Cloud, field: str) -> bool:
    return isinstance(leaf(body, field), str)
