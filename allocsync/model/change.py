"""One field that differs: its live value and its desired value.

Left out: how differences are found (`planning.diff`).
"""

from dataclasses import dataclass

from allocsync.model.cloud import Json


@dataclass(frozen=True, slots=True)
class Change:
    """One field: live value → desired value; `live` is None where the live object has none."""

    field: str
    live: Json
    desired: str
