"""The condition of an allocation and its reason: derived from its state, and never stored. Pure.

The rules: the first condition that matches is returned, in this order: OutcomeUnknown, Missing, Suspended,
InSync, AwaitingApproval, Blocked, Failing, Conflict, Ignored, Drifted, Pending. An update in flight is
Pending before all of them, unless the allocation is in Conflict or Ignored: these stay while a retry is under
way. A Conflict also stays while the field has the desired value, until it has kept it for an hour. InSync
stays for three resync intervals without a new observation, so that a short outage does not make every
allocation Failing. A pause is not a condition but a mark beside it. A reason that suspects another writer
never blames the API alone.

Left out: when a change of the condition is reported (`condition_tracker`), the mark of a pause (`report`),
and the texts about fields that do not stay as declared (`field_reasons`).
"""

from collections.abc import Iterable

from allocsync.model.change import Change
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Mode
from allocsync.model.times import NEVER, Monotonic
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.updates import State
from allocsync.reconcile.status import field_reasons

IN_SYNC_RESYNCS = 3  # resync intervals for which an observation of InSync counts
_MAY_FLIP = frozenset({Condition.IN_SYNC, Condition.PENDING, Condition.DRIFTED})


def project(allocation: ManagedAllocation, now: Monotonic, resync_seconds: float) -> tuple[Condition, str]:
    """Return the condition at `now` (monotonic) and its reason; `resync_seconds` is the resync interval."""
    condition, reason = _condition(allocation, now, resync_seconds)
    if condition in _MAY_FLIP and (suspicion := field_reasons.another_writer(allocation, now)):
        return condition, f"{reason}; {suspicion}" if reason else suspicion
    return condition, reason


def ignored_since(allocation: ManagedAllocation) -> Monotonic:
    """Return since when (monotonic) the allocation is Ignored: since the first of its fields is."""
    ignored = allocation.read_back.field_records.ignored(allocation.changes)
    return min((record.ignored_at for _, record in ignored), default=NEVER)


def _condition(allocation: ManagedAllocation, now: Monotonic, resync_seconds: float) -> tuple[Condition, str]:
    if allocation.intent is not None:
        if allocation.intent.unknown_since is None:
            return _retried(allocation, now) or (Condition.PENDING, "an update is in flight")
        return (
            Condition.OUTCOME_UNKNOWN,
            f"{allocation.write_backoff.error}; nothing is sent before a read-back",
        )
    if allocation.missing:
        return Condition.MISSING, "the API answers 410 Cloud not found; nothing is sent"
    if allocation.desired is not None and allocation.desired.mode is Mode.SUSPEND:
        return Condition.SUSPENDED, "mode suspend"
    current = allocation.compared is not None and allocation.compared == allocation.desired
    if (
        current
        and not allocation.changes
        and now - allocation.observed_at <= IN_SYNC_RESYNCS * resync_seconds
    ):
        return _retried(allocation, now) or (Condition.IN_SYNC, "")
    if allocation.desired is not None and allocation.id in allocation.write_gate.awaiting_approval:
        return Condition.AWAITING_APPROVAL, allocation.write_gate.awaiting_reason
    if blocked := _blocked(allocation, now, current=current):
        return Condition.BLOCKED, blocked
    return _out_of_sync(allocation, now, current=current)


def needs_person(allocation: ManagedAllocation, condition: Condition) -> bool:
    """Whether the allocation stays out of sync until a person acts: nothing that allocsync does ends it.

    Not so while canaries may still approve its revision. A rejected body is retried after an hour, but nobody
    waits that long.
    """
    if allocation.problems:
        return True
    if condition is Condition.FAILING:
        rejected = allocation.write_backoff.terminal
        return bool(rejected) and rejected == allocation.changes
    if condition is Condition.AWAITING_APPROVAL:
        return not allocation.write_gate.canaries
    return condition in {Condition.SUSPENDED, Condition.DRIFTED, Condition.MISSING}


def _blocked(allocation: ManagedAllocation, now: Monotonic, *, current: bool) -> str:
    """Return what blocks the update that the allocation needs; empty if nothing does."""
    if allocation.desired is None:
        return "; ".join(allocation.problems) or "no longer declared"
    if (
        current
        and allocation.changes
        and allocation.desired.mode is Mode.ENFORCE
        and (reason := allocation.write_gate.shared_limit_reason(now))
    ):
        return reason
    if current and allocation.changes and allocation.write_backoff.journal_problem:
        problem = allocation.write_backoff.journal_problem
        return f"the journal cannot be written ({problem}), and no update is sent without it"
    return ""


def _out_of_sync(allocation: ManagedAllocation, now: Monotonic, *, current: bool) -> tuple[Condition, str]:
    if allocation.write_backoff.terminal and allocation.write_backoff.terminal == allocation.changes:
        return (
            Condition.FAILING,
            f"{allocation.write_backoff.error}; nothing is sent before an edit, a live change or an hour",
        )
    if allocation.read_failures + allocation.write_backoff.failures >= allocation.rules.failing_after:
        return Condition.FAILING, allocation.write_backoff.error
    if (
        allocation.pending_since is not None
        and now - allocation.pending_since >= allocation.rules.pending_seconds
    ):
        return Condition.FAILING, "a status has been PENDING for too long; nothing is sent meanwhile"
    if retried := _retried(allocation, now):
        return retried
    if (
        current
        and allocation.changes
        and allocation.desired is not None
        and allocation.desired.mode is Mode.OBSERVE
    ):
        return Condition.DRIFTED, f"differs in {_fields(allocation.changes)}; mode observe forbids the update"
    return Condition.PENDING, _pending(allocation, now, current=current)


def _retried(allocation: ManagedAllocation, now: Monotonic) -> tuple[Condition, str] | None:
    """Return Conflict or Ignored, if fields are sent again on their schedule only."""
    if reason := field_reasons.conflict(allocation, now):
        return Condition.CONFLICT, reason
    if reason := field_reasons.ignored(allocation, now):
        return Condition.IGNORED, reason
    return None


def _pending(allocation: ManagedAllocation, now: Monotonic, *, current: bool) -> str:
    if (
        current
        and allocation.changes
        and (pause := allocation.write_gate.active_pause(allocation.id, now)) is not None
    ):
        return f"differs in {_fields(allocation.changes)}; {pause}"
    if current and allocation.changes and (waiting := waits_for_cache(allocation)):
        return f"differs in {_fields(allocation.changes)}; {waiting}"
    if allocation.pending_since is not None:
        return "a status is PENDING; nothing is sent while the server works on it"
    if allocation.write_backoff.error:
        return allocation.write_backoff.error
    if current and allocation.changes:
        if allocation.read_back.field_records.all_accepted(allocation.changes):
            return f"the update of {_fields(allocation.changes)} was accepted and does not show yet"
        return f"differs in {_fields(allocation.changes)}"
    return "being read" if allocation.state is State.READING else "not read yet"


def waits_for_cache(allocation: ManagedAllocation) -> str:
    """Return how old the latest answer is, if it is too old to build an update on; empty if it is not."""
    age_seconds = allocation.answer_age_seconds
    if age_seconds <= allocation.rules.fresh_seconds:
        return ""
    return f"the latest answer is {age_seconds:.0f} s old: a cache between allocsync and the API gave it"


def _fields(changes: Iterable[Change]) -> str:
    return ", ".join(change.field for change in changes)
