"""A live allocation as the API returns it: an AllocationCloud object, kept as the JSON received.

The rule: nothing of a live object is lost. Numbers stay the literals that the server wrote (`1e400` does not
become infinity, `1.10` does not become `1.1`), and fields that allocsync does not know are kept, because an
update sends the whole object back.

Left out: how JSON is parsed and written (`api.json_codec`), and what is declared (`model.desired_state`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class NumberLiteral:
    """A JSON number, kept as the text received, so that it is sent back unchanged. Compares as text."""

    text: str


Json: TypeAlias = "bool | str | NumberLiteral | Sequence[Json] | Mapping[str, Json] | None"
Cloud: TypeAlias = Mapping[str, Json]

# The fields that a file may declare, in the order in which they are compared, shown and hashed.
DECLARABLE = (
    "user",
    "project",
    "region",
    "version",
    "status.cloud",
    "urls.base.status",
    "urls.base.url",
    "urls.id.status",
    "urls.id.url",
    "urls.vanity.status",
    "urls.vanity.url",
)
STATUSES = ("PENDING", "RUNNING", "FAILED", "SUCCEEDED", "UNKNOWN", "DISCONNECTED")
UNDECLARABLE_STATUSES = ("PENDING", "UNKNOWN")  # only the server sets these, in passing


def field_value(cloud: Cloud, field: str) -> Json:
    """The value at a dotted path; None if any part of the path is absent, null or not an object."""
    value: Json = cloud
    for key in field.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value
