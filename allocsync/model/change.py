"""A difference in one field: its live value and its desired value.

Left out: how differences are found (`planning.diff`).
"""

from dataclasses import dataclass

from allocsync.model.cloud import Json


@dataclass(frozen=True, slots=True)
class Change:
    """The difference in one field. `live` is None if the live object has no such field, or null there."""

    field: str
    live: Json
    desired: str
