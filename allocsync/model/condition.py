"""The conditions of an allocation, as people and programs read them.

Left out: which condition applies (`reconcile.status.condition_rules`).
"""

from enum import StrEnum


class Condition(StrEnum):
    """What one allocation is, exactly one of these at a time: a projection of facts, never a stored state."""

    IN_SYNC = "InSync"
    PENDING = "Pending"
    DRIFTED = "Drifted"
    OUTCOME_UNKNOWN = "OutcomeUnknown"
    MISSING = "Missing"
    IGNORED = "Ignored"
    CONFLICT = "Conflict"
    AWAITING_APPROVAL = "AwaitingApproval"
    BLOCKED = "Blocked"
    SUSPENDED = "Suspended"
    FAILING = "Failing"
