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
from allocsync.reconcile.allocation.managed_allocation import Lane
from allocsync.reconcile.status.controller_status import AllocationStatus
from allocsync.reconcile.status.report import Moment, Shown, allocation


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
    name: str, lanes: Mapping[AllocationId, Lane], shown: Mapping[AllocationId, Shown], moment: Moment
) -> Explanation | NotFound:
    """The allocation with this id, or the only one whose id begins with these 8 or more characters.

    `shown` has whatever is in `lanes`, as `Board` keeps it.
    """
    key = find(name, lanes)
    if isinstance(key, NotFound):
        return key
    return _explanation(lanes[key], allocation(lanes[key], shown[key], moment), moment)


def _explanation(lane: Lane, status: AllocationStatus, moment: Moment) -> Explanation:
    current = lane.desired is not None and lane.compared == lane.desired
    held_until = max([moment.now, lane.stops.ordered_until(lane.id), *lane.restraint.until.values()])
    if lane.restraint.terminal and lane.restraint.terminal == lane.changes:
        held_until = max(held_until, lane.restraint.terminal_until)
    return Explanation(
        status=status,
        source=lane.desired.source if lane.desired else "",
        mode=lane.desired.mode if lane.desired else None,
        desired=lane.desired.leaves if lane.desired else (),
        problems=lane.problems,
        differences=lane.changes if current else None,
        observed_at=moment.at(lane.observed_at),
        missing=lane.missing,
        last_error=lane.restraint.error,
        read_failures=lane.read_failures,
        write_failures=lane.restraint.failures,
        no_update_before=moment.at(held_until) if held_until > moment.now else None,
        open_update=_open_update(lane, moment),
        canary=lane.id in lane.stops.canaries,
    )


def _open_update(lane: Lane, moment: Moment) -> OpenUpdate | None:
    if lane.intent is None:
        return None
    return OpenUpdate(
        changes=lane.intent.changes,
        unknown_since=moment.at(lane.intent.unknown_since),
        settles_at=moment.at(lane.intent.settles_at),
    )
