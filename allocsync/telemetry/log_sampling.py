"""When the same happens to many allocations at once: the first few are told, the rest is counted. Pure.

The rules: what says the same is a group, and a group has ten lines and then one a minute; none while a
breaker is open, because then there is one cause, which has a line of its own. What is left out is counted,
and the counts are told after a minute, then after two, up to a quarter of an hour, as long as it goes on.

Left out: what says the same, and how the counts are told (`log_events`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

FIRST = 10
REFILL_SECONDS = 60.0  # until a group has one more line
SUM_FIRST_SECONDS = 60.0
SUM_MOST_SECONDS = 900.0


@dataclass(slots=True)
class Left:
    """How many lines of a group were left out since the last sum, and the reason in the latest."""

    event: str
    after: str | None
    lines: int = 0
    reason: str = ""


@dataclass(slots=True)
class _Group:
    room: float = FIRST
    at: float = -inf


@dataclass(frozen=True, slots=True)
class Sum:
    """What was left out in so many seconds."""

    seconds: float
    left: Sequence[Left]


@dataclass(slots=True)
class Crowds:
    """The groups that there are; times are the caller's seconds."""

    _groups: dict[tuple[str, str | None], _Group] = field(default_factory=dict)
    _left: dict[tuple[str, str | None], Left] = field(default_factory=dict)
    _since: float = inf  # when the first of these was left out
    _summed_at: float = -inf
    _interval_seconds: float = SUM_FIRST_SECONDS

    def admits(self, event: str, after: str | None, *, reason: str, now: float, outage: bool) -> bool:
        """Whether there is room for one more line of this group; if not, it is counted."""
        group = self._groups.setdefault((event, after), _Group(at=now))
        if not outage:
            group.room = min(FIRST, group.room + (now - group.at) / REFILL_SECONDS)
        group.at = now
        if group.room >= 1:
            group.room -= 1
            return True
        if not self._left:
            self._since = now
            if now - self._summed_at > self._interval_seconds:
                self._interval_seconds = SUM_FIRST_SECONDS
        left = self._left.setdefault((event, after), Left(event, after))
        left.lines += 1
        left.reason = reason or left.reason
        return False

    def due(self, now: float) -> bool:
        """Whether it is time to tell what was left out."""
        return now >= self._since + self._interval_seconds

    def take(self, now: float) -> Sum | None:
        """What was left out since this was called last; None: nothing."""
        if not self._left:
            return None
        found = Sum(now - self._since, tuple(self._left.values()))
        self._left, self._since, self._summed_at = {}, inf, now
        self._interval_seconds = min(2 * self._interval_seconds, SUM_MOST_SECONDS)
        return found
