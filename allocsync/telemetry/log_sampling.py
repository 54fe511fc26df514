"""Limits log lines that say the same of many allocations: the first are logged, the others counted. Pure.

The rules: lines with the same event and the same condition are a group. A group may log FIRST_LINES lines,
and one more for each minute that passes; none is added while a circuit breaker is open, because the
breaker's own line names the cause. Suppressed lines are counted. The counts are due one minute after the
first suppressed line. Each summary doubles that interval for the next one, up to 15 minutes. The interval is
one minute again once it has passed without a suppressed line.

Left out: which lines are sampled, and how the counts are logged (`telemetry.log_events`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from allocsync.model.times import LONG_AGO, NEVER, Monotonic

FIRST_LINES = 10
REFILL_SECONDS = 60.0  # for each of these a group may log one more line
SUMMARY_FIRST_SECONDS = 60.0
SUMMARY_MAX_SECONDS = 900.0


@dataclass(slots=True)
class Suppressed:
    """How many lines of a group were suppressed since the last summary, and the reason of the latest one.

    `after` is the condition that was reached, if the event is a change of condition.
    """

    event: str
    after: str | None
    lines: int = 0
    reason: str = ""


@dataclass(slots=True)
class _Group:
    lines_left: float = FIRST_LINES
    at: Monotonic = LONG_AGO


@dataclass(frozen=True, slots=True)
class Summary:
    """The suppressed lines of each group, and the seconds in which they came."""

    seconds: float
    suppressed: Sequence[Suppressed]


@dataclass(slots=True)
class LogSampler:
    """Decides for each line whether it is logged. Times are monotonic seconds, given by the caller."""

    _groups: dict[tuple[str, str | None], _Group] = field(default_factory=dict)
    _suppressed: dict[tuple[str, str | None], Suppressed] = field(default_factory=dict)
    _since: Monotonic = NEVER  # when the first line was suppressed since the last summary; inf: none
    _summary_at: Monotonic = LONG_AGO
    _interval_seconds: float = SUMMARY_FIRST_SECONDS

    def allow(self, event: str, after: str | None, *, reason: str, now: Monotonic, outage: bool) -> bool:
        """Return whether one more line of this group may be logged; if not, count it.

        `outage` says that a circuit breaker is open.
        """
        group = self._groups.setdefault((event, after), _Group(at=now))
        if not outage:
            group.lines_left = min(FIRST_LINES, group.lines_left + (now - group.at) / REFILL_SECONDS)
        group.at = now
        if group.lines_left >= 1:
            group.lines_left -= 1
            return True
        if not self._suppressed:
            self._since = now
            if now - self._summary_at > self._interval_seconds:
                self._interval_seconds = SUMMARY_FIRST_SECONDS
        suppressed = self._suppressed.setdefault((event, after), Suppressed(event, after))
        suppressed.lines += 1
        suppressed.reason = reason or suppressed.reason
        return False

    def is_summary_due(self, now: Monotonic) -> bool:
        """Return whether the counts should be logged now."""
        return now >= self._since + self._interval_seconds

    def take_summary(self, now: Monotonic) -> Summary | None:
        """Return the counts since the last call and reset them; None if no line was suppressed."""
        if not self._suppressed:
            return None
        summary = Summary(now - self._since, tuple(self._suppressed.values()))
        self._suppressed, self._since, self._summary_at = {}, NEVER, now
        self._interval_seconds = min(2 * self._interval_seconds, SUMMARY_MAX_SECONDS)
        return summary
