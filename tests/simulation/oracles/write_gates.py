"""G1: no update is sent during a pause, outside the write windows, or beyond the hourly quota.

Judged by what people asked for, the settings, the wall clock of the machine and the updates that were sent.

The rules: a pause is in force from the answer to the person until its end, over restarts too. What a process
stored just before it ended may be lost, so a pause is then possibly in force. A step of the wall clock
between two processes moves the end of a pause by so much, or not. After a step forward, what was sent before
counts towards no quota. An update that is open when a process starts possibly counts once more, since it may
not be known whether it was sent. A lost journal forgets pauses and quota.

Left out: approval (`change_limit`), and when a request follows after a gate has opened (`liveness`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from allocsync.model.ids import AllocationId

HOUR_SECONDS, MINUTE_SECONDS, MINUTES = 3600.0, 60.0, 60
TOLERANCE_SECONDS = 1e-3


@dataclass(frozen=True, slots=True)
class PauseState:
    """What one scope's pause may be: it ends between two times, or there is none (-infinity)."""

    process: int
    since: float
    earliest_end: float = -inf
    latest_end: float = -inf

    def moved(self, seconds: float) -> "PauseState":
        """The wall clock was moved ahead by so much."""
        ends = (self.earliest_end, self.earliest_end - seconds, self.latest_end, self.latest_end - seconds)
        return PauseState(self.process, self.since, min(ends), max(ends))


NO_PAUSE = PauseState(0, -inf)


@dataclass(slots=True)
class WriteGatesOracle:
    """See the module. Times are virtual seconds; a scope is an allocation, or None for all.

    `fired` has the kinds of gates that have held back an update.
    """

    closed_minutes: range | None = None
    max_per_hour: int | None = None
    allocations: int = 1
    fired: set[str] = field(default_factory=set)
    _wall_offset: float = 0.0
    _pauses: dict[AllocationId | None, list[PauseState]] = field(default_factory=dict)
    _sent: list[float] = field(default_factory=list)
    _possibly_sent: list[float] = field(default_factory=list)
    _moved_back: float = 0.0

    # What happens.

    def pause_begun(self, scope: AllocationId | None, seconds: float, *, process: int, now: float) -> None:
        """A person was told that updates are paused for so long; it replaces an earlier pause."""
        self._pauses.setdefault(scope, [NO_PAUSE]).append(
            PauseState(process, now, now + seconds, now + seconds)
        )

    def pause_lifted(self, scope: AllocationId | None, *, process: int, now: float) -> None:
        """A person was told that the pause of this scope has ended."""
        self._pauses.setdefault(scope, [NO_PAUSE]).append(PauseState(process, now))

    def wall_clock_moved(self, seconds: float, wall_offset: float) -> None:
        """The wall clock was moved while no process ran; it is `wall_offset` ahead of virtual time now."""
        self._wall_offset = wall_offset
        if not seconds:
            return
        for states in self._pauses.values():
            states[:] = [each.moved(seconds) for each in states]
        if seconds > 0:
            # An hour ahead, a token of the minute before is not back yet.
            self._possibly_sent = [at - seconds for at in (*self._sent, *self._possibly_sent)]
            self._sent.clear()
        else:
            self._moved_back -= seconds

    def process_started(
        self, now: float, *, is_recorded: Callable[[int, float], bool], gap: bool, open_intents: int = 0
    ) -> None:
        """A process has started, with so many open intents in its journal.

        `is_recorded` and `gap` are as in `ChangeLimitOracle.process_started`.
        """
        if gap:
            self._sent.clear()
            self._possibly_sent.clear()
        self._possibly_sent += [now] * open_intents
        for states in self._pauses.values():
            recorded = (index for index, each in enumerate(states) if is_recorded(each.process, each.since))
            possible = [NO_PAUSE] if gap else states[max(recorded, default=0) :]
            earliest_end = min(each.earliest_end for each in possible)
            latest_end = max(each.latest_end for each in possible)
            states[:] = [PauseState(0, -inf, earliest_end, latest_end)]
            if earliest_end > now:
                self.fired.add("pause over a restart")

    # What follows.

    def why_closed(self, key: AllocationId, now: float) -> str:
        """Why no update of this allocation may be sent now; empty if one may."""
        paused_until = max(self._state(scope).earliest_end for scope in (key, None))
        if now < paused_until - TOLERANCE_SECONDS:
            return f"updates are paused until {paused_until:.3f}"
        if self._closed_seconds(now):
            return "the write windows are closed"
        if self.max_per_hour is not None:
            sent = sum(at > now - HOUR_SECONDS + TOLERANCE_SECONDS for at in self._sent)
            if sent >= self.max_per_hour:
                return f"{sent} updates were sent within the hour, and {self.max_per_hour} are allowed"
        return ""

    def update_sent(self, now: float) -> None:
        """An update is sent."""
        self._sent.append(now)

    def opens_at(self, key: AllocationId, now: float) -> float:
        """When the gates open for this allocation at the latest, as it looks now; at most `now` if open."""
        return max(self._possibly_paused_until(key), now + self._closed_seconds(now), self._quota_until(now))

    def longest_closed_seconds(self, now: float) -> float:
        """How long an update may still have to wait for gates, whichever allocation it is of."""
        paused = max((states[-1].latest_end for states in self._pauses.values()), default=-inf)
        windows = MINUTE_SECONDS * (len(self.closed_minutes) + 1) if self.closed_minutes is not None else 0.0
        return max(0.0, paused - now) + windows + self._longest_quota_seconds(now)

    def _longest_quota_seconds(self, now: float) -> float:
        """Each allocation may need an update, and each hour has tokens for some of them only."""
        if self.max_per_hour is None or not (self._sent or self._possibly_sent):
            return 0.0
        last = max((*self._sent, *self._possibly_sent))
        hours = self.allocations // self.max_per_hour + 1
        return max(0.0, last - now) + hours * (HOUR_SECONDS + 2 * MINUTE_SECONDS + self._moved_back)

    def note_waiting(self, key: AllocationId, now: float) -> None:
        """A read has shown a difference that calls for an update: note which gate holds it back."""
        if self._possibly_paused_until(key) > now:
            self.fired.add("pause holds back an update")
        if self._closed_seconds(now):
            self.fired.add("write windows hold back an update")
        if self._quota_until(now) > now:
            self.fired.add("write quota holds back an update")

    def opened_between(self, begin: float, end: float) -> bool:
        """Whether write windows opened, or the quota may have got a token, between two times."""
        if 0.0 < self._closed_seconds(begin) <= end - begin:
            return True
        return self.max_per_hour is not None and any(
            begin < at + HOUR_SECONDS + MINUTE_SECONDS * extra + self._moved_back <= end
            for at in (*self._sent, *self._possibly_sent)
            for extra in (0, 1)
        )

    def _state(self, scope: AllocationId | None) -> PauseState:
        return self._pauses.get(scope, [NO_PAUSE])[-1]

    def _possibly_paused_until(self, key: AllocationId) -> float:
        return max(self._state(scope).latest_end for scope in (key, None))

    def _closed_seconds(self, now: float) -> float:
        """Seconds until the write windows open; 0 while they are open."""
        closed = self.closed_minutes
        if closed is None:
            return 0.0
        minute = (now + self._wall_offset) / MINUTE_SECONDS % MINUTES
        return MINUTE_SECONDS * (closed.stop - minute) if closed.start <= minute < closed.stop else 0.0

    def _quota_until(self, now: float) -> float:
        """When a token comes back at the latest, if none may be left now."""
        if self.max_per_hour is None:
            return -inf
        back_after = HOUR_SECONDS + 2 * MINUTE_SECONDS + self._moved_back
        recent = [at for at in (*self._sent, *self._possibly_sent) if at + back_after > now]
        return max(recent) + back_after if len(recent) >= self.max_per_hour else -inf
