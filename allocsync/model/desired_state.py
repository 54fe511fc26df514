"""What the files declare: the desired state of one allocation, and one revision of the whole.

Left out: how files become a revision (`desired`), and how allocations are brought there (`reconcile`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from allocsync.model.ids import AllocationId


class Mode(StrEnum):
    """What allocsync does with an allocation."""

    ENFORCE = "enforce"  # read it, and update it if it differs
    OBSERVE = "observe"  # read it, and report differences
    SUSPEND = "suspend"  # neither read nor update it


@dataclass(frozen=True, slots=True)
class Desired:
    """One allocation as a file declares it: only these fields are managed.

    `fields` are pairs of field name and value, ordered as DECLARABLE. `source` is `file:line`, for messages;
    it does not count in comparisons.
    """

    id: AllocationId
    fields: tuple[tuple[str, str], ...]
    mode: Mode = Mode.ENFORCE
    source: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision: one loaded version of the desired state.

    `id` is a hash of what is declared; comments, order and file names do not count. `quarantined` has the
    allocations whose entry has errors, each with its error messages: the last declaration without errors
    stays active, and an allocation that has none is blocked. `files` is the number of files read.
    """

    id: str
    allocations: Mapping[AllocationId, Desired]
    quarantined: Mapping[AllocationId, tuple[str, ...]] = field(default_factory=dict)
    files: int = 0
