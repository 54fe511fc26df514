"""A live allocation as the API shows it: an AllocationCloud, kept as the JSON that came.

The rule: a live object is kept to the letter. Numbers stay the literals that the server wrote (`1e400` is not
infinity, `1.10` is not `1.1`), and fields that allocsync does not know stay in place, because an update sends
the whole object back.

Left out: how JSON is read and written (`api.json_codec`) and what is desired of it (`desired_state`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class NumberLiteral:
    """A JSON number as its text, so that it goes back as it came. Equal only to the same text."""

    text: str


Json: TypeAlias = "bool | str | NumberLiteral | Sequence[Json] | Mapping[str, Json] | None"
Cloud: TypeAlias = Mapping[str, Json]

# The leaves that a file may declare, in the order in which they are compared, shown and hashed.
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
UNDECLARABLE_STATUSES = ("PENDING", "UNKNOWN")  # the server passes through these; nobody can want them


def leaf(cloud: Cloud, field: str) -> Json:
    """The value at a dotted path, None where any part of it is absent or null."""
    value: Json = cloud
    for key in field.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value
