"""Who forbids updates from outside: a rail, a pause, the clock, a budget. Shared by all lanes. Pure.

The rule: a stop forbids updates and never looks, so that what is open is still read back and what differs is
still said. It is asked for when an update is planned and again just before it is sent. A pause has an end.

Left out: what the API's answers forbid (`restraint`), and who sets a stop (`rails`, `pauses`).
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from math import inf

from allocsync.model.ids import AllocationId
from allocsync.planning.write_windows import WriteWindows
from allocsync.reconcile.gates.pause import Pause
from allocsync.reconcile.gates.write_quota import WriteQuota


@dataclass(slots=True)
class WriteGate:
    """`held` are the allocations that a rail holds, for the one reason `held_reason`; `canaries` go first.

    `windows` and `budget` limit all updates together. `everything` is the pause of all, `pauses` are those of
    single ones; one that is over means nothing.
    """

    windows: WriteWindows = field(default_factory=WriteWindows)
    write_quota: WriteQuota = field(default_factory=WriteQuota)
    offset_seconds: float = 0.0  # from the lanes' clock to the wall clock
    awaiting_approval: AbstractSet[AllocationId] = frozenset()
    awaiting_reason: str = ""
    canaries: AbstractSet[AllocationId] = frozenset()
    everything: Pause | None = None
    pauses: dict[AllocationId, Pause] = field(default_factory=dict)

    def until(self, key: AllocationId, now: float) -> float:
        """Until when this allocation may not be updated; infinity: until that is lifted."""
        ordered, closed = self.prohibited_until(key), self.windows.closed_seconds(now + self.offset_seconds)
        next_turn = (
            -inf if ordered > now else self.write_quota.next_turn(key, now)
        )  # it could not take its turn
        return max(ordered, now + closed if closed else -inf, next_turn)

    def prohibited_until(self, key: AllocationId) -> float:
        """Likewise, as far as it is held or paused."""
        if key in self.awaiting_approval:
            return inf
        pauses = (self.everything, self.pauses.get(key))
        return max((pause.until for pause in pauses if pause is not None), default=-inf)

    def paused(self, key: AllocationId, now: float) -> Pause | None:
        """The pause that it is in, the one that ends last; None where there is none."""
        own, found = self.pauses.get(key), self.everything
        if own is not None and (found is None or own.until > found.until):
            found = own
        return found if found is not None and found.until > now else None

    def why(self, key: AllocationId, now: float) -> str:
        """Why it may not be updated; empty where it may."""
        if key in self.awaiting_approval:
            return self.awaiting_reason
        return str(self.paused(key, now) or self.limit(now))

    def limit(self, now: float) -> str:
        """Which limit to all updates is reached; empty: none."""
        if self.windows.closed_seconds(now + self.offset_seconds):
            return (
                f"updates are sent in the windows of ALLOCSYNC_WRITE_WINDOWS alone: {self.windows.text} UTC"
            )
        if self.write_quota.empty(now):
            most = self.write_quota.most
            return f"{most:,} updates in an hour are all that ALLOCSYNC_MAX_WRITES_PER_HOUR allows"
        return ""

    # Transitions.

    def withhold(
        self, keys: AbstractSet[AllocationId], *, reason: str, canaries: AbstractSet[AllocationId]
    ) -> None:
        """Forbid updates of exactly these allocations until a revision is approved.

        `reason` is the text for people. `canaries` are the allocations of that revision that go first.
        """
        self.awaiting_approval, self.awaiting_reason, self.canaries = keys, reason, canaries

    def set_awaiting_reason(self, reason: str) -> None:
        """Replace the reason why allocations await approval."""
        self.awaiting_reason = reason

    def set_pause(self, key: AllocationId | None, pause: Pause) -> None:
        """Pause one allocation, or all (None), in place of an earlier pause of the same scope."""
        if key is None:
            self.everything = pause
        else:
            self.pauses[key] = pause

    def remove_pause(self, key: AllocationId | None) -> Pause | None:
        """End the pause of one allocation, or of all (None); return it, or None if there was none."""
        if key is not None:
            return self.pauses.pop(key, None)
        removed, self.everything = self.everything, None
        return removed

    def set_wall_offset(self, seconds: float) -> None:
        """Take over the current difference: wall clock minus monotonic clock."""
        self.offset_seconds = seconds
