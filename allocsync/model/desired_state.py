"""What the files declare: one allocation, and one loaded version of all of them.

Left out: where it comes from (`desired`) and what is done about it (`reconcile`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from allocsync.model.ids import AllocationId


class Mode(StrEnum):
    """What may be done about a difference."""

    ENFORCE = "enforce"  # look and update
    OBSERVE = "observe"  # look and report
    SUSPEND = "suspend"  # do neither


@dataclass(frozen=True, slots=True)
class Desired:
    """One allocation as a file declares it: only these leaves are owned.

    `leaves` is ordered as DECLARABLE; `source` is `file:line` for people. Two of these with the same leaves
    and mode are equal wherever they stand in a file.
    """

    id: AllocationId
    leaves: tuple[tuple[str, str], ...]
    mode: Mode = Mode.ENFORCE
    source: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Generation:
    """One loaded version of the desired state.

    `digest` is the hash of what is declared (not of comments, order or file names). `quarantined` names the
    allocations whose entry has errors, with the errors as people read them: the last good version of each
    stays in force, otherwise it is Held.
    """

    digest: str
    allocations: Mapping[AllocationId, Desired]
    quarantined: Mapping[AllocationId, tuple[str, ...]] = field(default_factory=dict)
    files: int = 0
