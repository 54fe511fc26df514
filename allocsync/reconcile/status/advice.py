"""What a person can do about an allocation that is out of sync or whose newest declaration waits. Pure.

The rules: advice fits the reason of the condition, not only its name. It names the command or the setting,
and until when to wait if waiting is enough. It is empty if there is nothing to do.

Left out: which condition applies, and why (`condition_rules`).
"""

from allocsync.model.condition import Condition
from allocsync.model.times import Monotonic
from allocsync.planning.change_limit import NOT_DECLARED
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.status.condition_rules import waits_for_cache

_BY_CONDITION = {
    Condition.OUTCOME_UNKNOWN: "nothing: it is read back, and sent again only if it was not applied",
    Condition.MISSING: "remove it from the files if it is gone for good; it is read again from time to time, "
    "and now by `allocsync retry {name}`",
    Condition.IGNORED: "ask whether the API ignores the value or somebody else sets the field; to end it, "
    "remove the field from the files or declare what reads show; `allocsync retry {name}` tries again now",
    Condition.CONFLICT: "find out who else sets the field, and let only one side set it; "
    "`allocsync retry {name}` tries again now",
    Condition.SUSPENDED: "set another mode in the files to have it managed again",
    Condition.DRIFTED: "set its mode to enforce to have it corrected, or declare the live values",
}


def advise(
    allocation: ManagedAllocation, condition: Condition, now: Monotonic, *, name: str, awaiting: str
) -> str:
    """Return what to do at `now` (monotonic) about an allocation that has this condition.

    `name` is how a command names the allocation, and `awaiting` the revision that awaits approval, if any.
    """
    match condition:
        case Condition.BLOCKED:
            rest = _blocked(allocation, now)
        case Condition.PENDING:
            rest = _pending(allocation, now, name)
        case Condition.FAILING:
            rest = _failing(allocation, name)
        case _:
            rest = _BY_CONDITION.get(condition, "").format(name=name)
    return "; ".join(part for part in (_declaration(allocation, awaiting), rest) if part)


def _declaration(allocation: ManagedAllocation, awaiting: str) -> str:
    """Return what makes the newest declaration apply; empty if it does."""
    if allocation.problems:
        return "correct its entry: `allocsync validate` lists each mistake with its place"
    is_released = allocation.desired is not None and allocation.desired.source == NOT_DECLARED
    if not is_released and allocation.id not in allocation.write_gate.awaiting_approval:
        return ""
    text = (
        f"`allocsync plan` shows the change, `allocsync approve {awaiting}` lets it through, and reverting "
        "the edit drops it"
    )
    return f"wait for the canaries, or: {text}" if allocation.write_gate.canaries else text


def _blocked(allocation: ManagedAllocation, now: Monotonic) -> str:
    if allocation.desired is None:
        return "" if allocation.problems else "nothing: it is released when its request has ended"
    gate = allocation.write_gate
    if opening := gate.next_window(now):
        return (
            f"wait until {opening} UTC, when the next write window opens, or change ALLOCSYNC_WRITE_WINDOWS "
            "and restart allocsync"
        )
    if next_at := gate.quota_allows_next_at(now):
        return (
            f"wait until {next_at}, when the quota allows the next update, or raise "
            "ALLOCSYNC_MAX_WRITES_PER_HOUR and restart allocsync"
        )
    return "make room on the disk of the state directory, or make it writable again; it goes on by itself"


def _pending(allocation: ManagedAllocation, now: Monotonic, name: str) -> str:
    gate = allocation.write_gate
    pause = gate.active_pause(allocation.id, now)
    if not allocation.changes:
        return ""
    if pause is not None:
        pauses = (("--all", gate.everything), (name, gate.pauses.get(allocation.id)))
        commands = [
            f"`allocsync resume {target}`" for target, each in pauses if each is not None and each.until > now
        ]
        ends = "ends the pause" if len(commands) == 1 else "end the pauses"
        return f"wait until {pause.ends}, or ask {pause.owner}; {' and '.join(commands)} {ends}"
    if waits_for_cache(allocation):
        return "wait until the cache asks the API again, or let no cache answer GETs of the API"
    return ""


def _failing(allocation: ManagedAllocation, name: str) -> str:
    backoff = allocation.write_backoff
    if backoff.terminal and backoff.terminal == allocation.changes:
        return f"correct what the error names; `allocsync retry {name}` sends it again now"
    is_failing = allocation.read_failures + backoff.failures >= allocation.rules.failing_after
    if not is_failing and allocation.pending_since is not None:
        return "ask the operator of the API why the status stays PENDING"
    return f"see the error; it is tried again by itself, and now by `allocsync retry {name}`"
