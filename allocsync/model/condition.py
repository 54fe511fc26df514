"""The conditions of an allocation, as status, logs and metrics show them.

Left out: which condition applies (`reconcile.status.condition_rules`).
"""

from enum import StrEnum


class Condition(StrEnum):
    """The condition of an allocation: exactly one at a time, derived from facts and never stored."""

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
