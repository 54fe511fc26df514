"""What to call an allocation, and why: a projection of the lane's facts, never a state that is stored. Pure.

The first that matches: OutcomeUnknown, Missing, Suspended, InSync, AwaitingApproval, Blocked, Failing,
Conflict, Ignored, Drifted, Pending. InSync holds for three resyncs without news, so that a short outage does
not turn everything into Failing. A pause is no condition: it is a mark beside it (`report`).
"""

from collections.abc import Iterable

from allocsync.model.change import Change
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Mode
from allocsync.reconcile.allocation.managed_allocation import Lane
from allocsync.reconcile.allocation.updates import State

BELIEVED_RESYNCS = 3


def project(lane: Lane, now: float, resync_seconds: float) -> tuple[Condition, str]:
    """The condition and its reason, for people. `resync_seconds` is the interval in force."""
    if lane.intent is not None:
        if lane.intent.unknown_since is None:
            return Condition.PENDING, "an update is under way"
        return Condition.OUTCOME_UNKNOWN, f"{lane.restraint.error}; nothing is sent before a read-back"
    if lane.missing:
        return Condition.MISSING, "the API answers 410 Cloud not found; nothing is sent"
    if lane.desired is not None and lane.desired.mode is Mode.SUSPEND:
        return Condition.SUSPENDED, "mode suspend"
    known = lane.compared is not None and lane.compared == lane.desired
    if known and not lane.changes and now - lane.observed_at <= BELIEVED_RESYNCS * resync_seconds:
        return Condition.IN_SYNC, ""
    if lane.desired is not None and lane.id in lane.stops.held:
        return Condition.AWAITING_APPROVAL, lane.stops.held_reason
    if blocked := _blocked(lane, now, known=known):
        return Condition.BLOCKED, blocked
    return _out_of_sync(lane, now, known=known)


def _blocked(lane: Lane, now: float, *, known: bool) -> str:
    """What forbids the update that it needs; empty where nothing does."""
    if lane.desired is None:
        return "; ".join(lane.problems) or "not declared any more"
    if known and lane.changes and lane.desired.mode is Mode.ENFORCE and (why := lane.stops.limit(now)):
        return why
    if known and lane.changes and lane.restraint.journal_problem:
        why = lane.restraint.journal_problem
        return f"the journal cannot be written ({why}), and nothing is sent without it"
    return ""


def _out_of_sync(lane: Lane, now: float, *, known: bool) -> tuple[Condition, str]:
    if lane.restraint.terminal and lane.restraint.terminal == lane.changes:
        return Condition.FAILING, f"{lane.restraint.error}; nothing is sent before an edit or a live change"
    if lane.read_failures + lane.restraint.failures >= lane.rules.failing_after:
        return Condition.FAILING, lane.restraint.error
    if lane.pending_since is not None and now - lane.pending_since >= lane.rules.pending_seconds:
        return Condition.FAILING, "a status has been PENDING for too long; nothing is sent meanwhile"
    if contested := lane.past.leaves.contested(lane.changes, now):
        fights = ", ".join(f"{change.field} (changed back {flips} times)" for change, flips in contested)
        return Condition.CONFLICT, f"something else keeps changing {fights}"
    if refused := lane.past.leaves.refused(lane.changes):
        return Condition.IGNORED, f"the API accepted {_fields(refused)} and does not honour it"
    if known and lane.changes and lane.desired is not None and lane.desired.mode is Mode.OBSERVE:
        return Condition.DRIFTED, f"differs in {_fields(lane.changes)}; mode observe forbids the update"
    return Condition.PENDING, _pending(lane, now, known=known)


def _pending(lane: Lane, now: float, *, known: bool) -> str:
    if known and lane.changes and (pause := lane.stops.paused(lane.id, now)) is not None:
        return f"differs in {_fields(lane.changes)}; {pause}"
    if lane.pending_since is not None:
        return "a status is PENDING; nothing is sent while the server works on it"
    if lane.restraint.error:
        return lane.restraint.error
    if known and lane.changes:
        if lane.past.leaves.awaited(lane.changes):
            return f"the update of {_fields(lane.changes)} was accepted and does not show yet"
        return f"differs in {_fields(lane.changes)}"
    return "being looked at" if lane.state is State.LOOKING else "not looked at yet"


def _fields(changes: Iterable[Change]) -> str:
    return ", ".join(change.field for change in changes)
