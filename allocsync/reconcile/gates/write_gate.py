"""Whether an update may be sent now: change approval, pauses, write windows, write quota. Pure.

All managed allocations share one gate.

The rule: a closed gate prevents updates and never reads, so unknown outcomes are still read back and
differences are still reported. The gate is checked when an update is planned and again just before it is
sent. Every pause has an end.

Left out: what API responses prevent (`allocation.write_backoff`), and who sets the gate
(`rollout.change_review` and `pause_control`).
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal

from allocsync.model.ids import AllocationId
from allocsync.model.times import LONG_AGO, NEVER, Monotonic, time_of_day, to_wall_time
from allocsync.planning.write_windows import WriteWindows
from allocsync.reconcile.gates.pause import Pause
from allocsync.reconcile.gates.write_quota import WriteQuota


@dataclass(slots=True)
class WriteGate:
    """What prevents updates now. All times are monotonic seconds.

    Attributes:
        windows: the write windows, for all updates together.
        write_quota: the updates allowed in an hour, for all allocations together.
        offset_seconds: the wall clock minus the monotonic clock.
        awaiting_approval: the allocations whose changes exceed the change limit and wait for approval.
        awaiting_reason: why they wait; one text for all of them.
        canaries: the allocations that are updated first, to verify the revision.
        everything: the pause of all allocations; it has no effect once it is over.
        pauses: the pauses of single allocations; each has no effect once it is over.
    """

    windows: WriteWindows = field(default_factory=WriteWindows)
    write_quota: WriteQuota = field(default_factory=WriteQuota)
    offset_seconds: float = 0.0
    awaiting_approval: AbstractSet[AllocationId] = frozenset()
    awaiting_reason: str = ""
    canaries: AbstractSet[AllocationId] = frozenset()
    everything: Pause | None = None
    pauses: dict[AllocationId, Pause] = field(default_factory=dict)

    def earliest_write_at(self, key: AllocationId, now: Monotonic) -> Monotonic:
        """Earliest time at which this allocation may be updated.

        At most `now` if it may be updated now; `NEVER` while it waits for approval. If the quota is used up,
        this call reserves a turn for the allocation.
        """
        prohibited_until = self.prohibited_until(key)
        closed_seconds = self.windows.closed_seconds(to_wall_time(now, self.offset_seconds))
        # An allocation that could not use its turn reserves none.
        turn_at = LONG_AGO if prohibited_until > now else self.write_quota.reserve_turn(key, now)
        return max(prohibited_until, now + closed_seconds if closed_seconds else LONG_AGO, turn_at)

    def prohibited_until(self, key: AllocationId) -> Monotonic:
        """Earliest time at which approval and pauses permit an update.

        `LONG_AGO` if there is no pause, in the past if it is over; `NEVER` while the
        allocation waits for approval. Windows and quota are not considered.
        """
        if key in self.awaiting_approval:
            return NEVER
        pauses = (self.everything, self.pauses.get(key))
        return max((pause.until for pause in pauses if pause is not None), default=LONG_AGO)

    def active_pause(self, key: AllocationId, now: Monotonic) -> Pause | None:
        """The pause in effect for this allocation, or None; of two, the one that ends last."""
        own, latest = self.pauses.get(key), self.everything
        if own is not None and (latest is None or own.until > latest.until):
            latest = own
        return latest if latest is not None and latest.until > now else None

    def blocked_reason(self, key: AllocationId, now: Monotonic) -> str:
        """Why this allocation may not be updated now; empty if it may."""
        if key in self.awaiting_approval:
            return self.awaiting_reason
        return str(self.active_pause(key, now) or self.shared_limit_reason(now))

    def shared_limit(self, now: Monotonic) -> Literal["windows", "quota"] | None:
        """What allows no update of any allocation now: the write windows, or the quota; None if neither."""
        if self.windows.closed_seconds(to_wall_time(now, self.offset_seconds)):
            return "windows"
        return "quota" if self.write_quota.is_exhausted(now) else None

    def shared_limit_reason(self, now: Monotonic) -> str:
        """Why no allocation may be updated now, by write windows or quota; empty if neither prevents it.

        It says when they allow an update again.
        """
        limit = self.shared_limit(now)
        if limit == "windows":
            windows = self.windows.text
            return (
                f"outside the write windows: ALLOCSYNC_WRITE_WINDOWS allows updates in {windows} UTC; "
                f"the next opens {self.next_window(now)}"
            )
        if limit == "quota":
            maximum = self.write_quota.max_per_hour
            return (
                f"write quota used up: ALLOCSYNC_MAX_WRITES_PER_HOUR allows {maximum:,} updates in an hour; "
                f"the next at {self.quota_allows_next_at(now)}"
            )
        return ""

    def next_window(self, now: Monotonic) -> str:
        """Day and time (UTC) at which the next write window opens; empty while one is open."""
        return self.windows.next_opening(to_wall_time(now, self.offset_seconds))

    def quota_allows_next_at(self, now: Monotonic) -> str:
        """Time of day (UTC) at which the write quota allows the next update; empty if it does now."""
        frees_at = self.write_quota.frees_at(now)
        return "" if frees_at is None else time_of_day(to_wall_time(frees_at, self.offset_seconds))

    def shared_limits_until(self, key: AllocationId, now: Monotonic) -> Mapping[str, Monotonic]:
        """Until when (monotonic) write windows and the quota prevent an update of this allocation.

        Approval and pauses are not considered. The quota's time includes a turn that was reserved before, and
        no other is reserved. A limit that prevents nothing now has no entry. The keys are texts for people.
        """
        limits: dict[str, Monotonic] = {}
        if closed_seconds := self.windows.closed_seconds(to_wall_time(now, self.offset_seconds)):
            limits["the write window"] = now + closed_seconds
        if (frees_at := self.write_quota.frees_at(now)) is not None:
            limits["the write quota"] = max(self.write_quota.turns.get(key, LONG_AGO), frees_at)
        return limits

    def require_approval(
        self, allocations: AbstractSet[AllocationId], *, reason: str, canaries: AbstractSet[AllocationId]
    ) -> None:
        """Prevent updates of exactly these allocations until the next call; an empty set lifts it.

        `canaries` are not among them and are updated first.
        """
        self.awaiting_approval, self.awaiting_reason, self.canaries = allocations, reason, canaries

    def update_awaiting_reason(self, reason: str) -> None:
        """Replace the text that says why allocations wait for approval."""
        self.awaiting_reason = reason

    def set_pause(self, key: AllocationId | None, pause: Pause) -> None:
        """Pause one allocation, or all of them if `key` is None; replaces an earlier pause of the same."""
        if key is None:
            self.everything = pause
        else:
            self.pauses[key] = pause

    def remove_pause(self, key: AllocationId | None) -> Pause | None:
        """Remove the pause of one allocation, or of all if `key` is None; returns it, or None without one."""
        if key is not None:
            return self.pauses.pop(key, None)
        removed, self.everything = self.everything, None
        return removed

    def set_wall_clock_offset(self, seconds: float) -> None:
        """Set the wall clock minus the monotonic clock; write windows depend on it."""
        self.offset_seconds = seconds
