"""Everything that is known of one allocation: what its lane knows, as a plain value for people. Pure.

The rule: nothing is asked of the API for it. What is live is what the latest usable look showed, so the value
says when that was; `differences` is None where no look has compared with what is declared now.

An allocation may be named by its id or by the first characters of it, when no other one has the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from allocsync.model.change import Change
from allocsync.model.desired_state import Mode
from allocsync.model.ids import AllocationId, NotFound, find
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.status.controller_status import AllocationStatus
from allocsync.reconcile.status.report import Moment, ReportedCondition, status_of


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenUpdate:
    """An update that was sent, or is about to be, and whose outcome is not known.

    `unknown_since` is None while it is under way; before `settles_at` a read cannot say "not applied".
    """

    changes: tuple[Change, ...]
    unknown_since: float | None
    settles_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One allocation. Times are seconds since the epoch, None for never or not known.

    `failures` are in a row; `no_update_before` is when backoff, Retry-After and a refusal are all over.
    """

    status: AllocationStatus
    source: str
    mode: Mode | None  # None: no good version of it is declared
    desired: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]
    differences: tuple[Change, ...] | None
    observed_at: float | None
    missing: bool
    last_error: str
    read_failures: int
    write_failures: int
    no_update_before: float | None
    open_update: OpenUpdate | None
    canary: bool = False  # it goes first, and the rest of a held generation waits for it


def explain(
    name: str,
    allocations: Mapping[AllocationId, ManagedAllocation],
    reported: Mapping[AllocationId, ReportedCondition],
    moment: Moment,
) -> Explanation | NotFound:
    """The allocation with this id, or the only one whose id begins with these 8 or more characters.

    `shown` has whatever is in `lanes`, as `Board` keeps it.
    """
    key = find(name, allocations)
    if isinstance(key, NotFound):
        return key
    return _explanation(allocations[key], status_of(allocations[key], reported[key], moment), moment)


def _explanation(allocation: ManagedAllocation, status: AllocationStatus, moment: Moment) -> Explanation:
    current = allocation.desired is not None and allocation.compared == allocation.desired
    held_until = max(
        [
            moment.now,
            allocation.write_gate.prohibited_until(allocation.id),
            *allocation.write_backoff.until.values(),
        ]
    )
    if allocation.write_backoff.terminal and allocation.write_backoff.terminal == allocation.changes:
        held_until = max(held_until, allocation.write_backoff.terminal_until)
    return Explanation(
        status=status,
        source=allocation.desired.source if allocation.desired else "",
        mode=allocation.desired.mode if allocation.desired else None,
        desired=allocation.desired.fields if allocation.desired else (),
        problems=allocation.problems,
        differences=allocation.changes if current else None,
        observed_at=moment.at(allocation.observed_at),
        missing=allocation.missing,
        last_error=allocation.write_backoff.error,
        read_failures=allocation.read_failures,
        write_failures=allocation.write_backoff.failures,
        no_update_before=moment.at(held_until) if held_until > moment.now else None,
        open_update=_open_update(allocation, moment),
        canary=allocation.id in allocation.write_gate.canaries,
    )


def _open_update(allocation: ManagedAllocation, moment: Moment) -> OpenUpdate | None:
    if allocation.intent is None:
        return None
    return OpenUpdate(
        changes=allocation.intent.changes,
        unknown_since=moment.at(allocation.intent.unknown_since),
        settles_at=moment.at(allocation.intent.settles_at),
    )
