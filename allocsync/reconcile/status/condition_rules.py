"""What to call an allocation, and why: a projection of the lane's facts, never a state that is stored. Pure.

The first that matches: OutcomeUnknown, Missing, Suspended, InSync, AwaitingApproval, Blocked, Failing,
Conflict, Ignored, Drifted, Pending. InSync holds for three resyncs without news, so that a short outage does
not turn everything into Failing. A pause is no condition: it is a mark beside it (`report`).
"""

from collections.abc import Iterable

from allocsync.model.change import Change
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Mode
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.updates import State

BELIEVED_RESYNCS = 3


def project(allocation: ManagedAllocation, now: float, resync_seconds: float) -> tuple[Condition, str]:
    """The condition and its reason, for people. `resync_seconds` is the interval in force."""
    if allocation.intent is not None:
        if allocation.intent.unknown_since is None:
            return Condition.PENDING, "an update is under way"
        return (
            Condition.OUTCOME_UNKNOWN,
            f"{allocation.write_backoff.error}; nothing is sent before a read-back",
        )
    if allocation.missing:
        return Condition.MISSING, "the API answers 410 Cloud not found; nothing is sent"
    if allocation.desired is not None and allocation.desired.mode is Mode.SUSPEND:
        return Condition.SUSPENDED, "mode suspend"
    known = allocation.compared is not None and allocation.compared == allocation.desired
    if known and not allocation.changes and now - allocation.observed_at <= BELIEVED_RESYNCS * resync_seconds:
        return Condition.IN_SYNC, ""
    if allocation.desired is not None and allocation.id in allocation.write_gate.awaiting_approval:
        return Condition.AWAITING_APPROVAL, allocation.write_gate.awaiting_reason
    if blocked := _blocked(allocation, now, known=known):
        return Condition.BLOCKED, blocked
    return _out_of_sync(allocation, now, known=known)


def _blocked(allocation: ManagedAllocation, now: float, *, known: bool) -> str:
    """What forbids the update that it needs; empty where nothing does."""
    if allocation.desired is None:
        return "; ".join(allocation.problems) or "not declared any more"
    if (
        known
        and allocation.changes
        and allocation.desired.mode is Mode.ENFORCE
        and (why := allocation.write_gate.shared_limit_reason(now))
    ):
        return why
    if known and allocation.changes and allocation.write_backoff.journal_problem:
        why = allocation.write_backoff.journal_problem
        return f"the journal cannot be written ({why}), and nothing is sent without it"
    return ""


def _out_of_sync(allocation: ManagedAllocation, now: float, *, known: bool) -> tuple[Condition, str]:
    if allocation.write_backoff.terminal and allocation.write_backoff.terminal == allocation.changes:
        return (
            Condition.FAILING,
            f"{allocation.write_backoff.error}; nothing is sent before an edit or a live change",
        )
    if allocation.read_failures + allocation.write_backoff.failures >= allocation.rules.failing_after:
        return Condition.FAILING, allocation.write_backoff.error
    if (
        allocation.pending_since is not None
        and now - allocation.pending_since >= allocation.rules.pending_seconds
    ):
        return Condition.FAILING, "a status has been PENDING for too long; nothing is sent meanwhile"
    if conflicts := allocation.read_back.field_records.conflicts(allocation.changes, now):
        fights = ", ".join(f"{change.field} (changed back {flips} times)" for change, flips in conflicts)
        return Condition.CONFLICT, f"something else keeps changing {fights}"
    if ignored := allocation.read_back.field_records.ignored(allocation.changes):
        return Condition.IGNORED, f"the API accepted {_fields(ignored)} and does not honour it"
    if (
        known
        and allocation.changes
        and allocation.desired is not None
        and allocation.desired.mode is Mode.OBSERVE
    ):
        return Condition.DRIFTED, f"differs in {_fields(allocation.changes)}; mode observe forbids the update"
    return Condition.PENDING, _pending(allocation, now, known=known)


def _pending(allocation: ManagedAllocation, now: float, *, known: bool) -> str:
    if (
        known
        and allocation.changes
        and (pause := allocation.write_gate.active_pause(allocation.id, now)) is not None
    ):
        return f"differs in {_fields(allocation.changes)}; {pause}"
    if allocation.pending_since is not None:
        return "a status is PENDING; nothing is sent while the server works on it"
    if allocation.write_backoff.error:
        return allocation.write_backoff.error
    if known and allocation.changes:
        if allocation.read_back.field_records.awaited(allocation.changes):
            return f"the update of {_fields(allocation.changes)} was accepted and does not show yet"
        return f"differs in {_fields(allocation.changes)}"
    return "being looked at" if allocation.state is State.READING else "not looked at yet"


def _fields(changes: Iterable[Change]) -> str:
    return ", ".join(change.field for change in changes)
