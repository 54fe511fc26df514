"""Write windows: when in the week updates may be sent, as `Mon-Fri 22:00-06:00, Sun 00:00-24:00`.

The rule: all times are UTC. A window whose end is before its begin ends on the next day; a window without
days opens every day. Pure: the wall clock time is an argument, in Unix seconds.

Left out: how a closed window delays an update (`reconcile.gates.write_gate`).
"""

from dataclasses import dataclass

from allocsync.model.times import WallTime

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY, WEEK = 24 * 60, 7 * 24 * 60  # minutes
_FIRST_DAY = 3  # the epoch began on a Thursday
_HOURS, _MINUTES, _DIGITS = 24, 60, 2


@dataclass(frozen=True, slots=True)
class WriteWindows:
    """Windows as pairs: the minute of the week when one opens, and its length. None at all: always open."""

    spans: tuple[tuple[int, int], ...] = ()
    text: str = ""

    def closed_seconds(self, wall: WallTime) -> float:
        """Seconds from `wall` (Unix seconds) until a window opens; 0 while one is open."""
        minute = _minute_of_week(wall)
        if not self.spans or any((minute - begin) % WEEK < length for begin, length in self.spans):
            return 0.0
        return min((begin - minute) % WEEK for begin, _ in self.spans) * 60

    def next_opening(self, wall: WallTime) -> str:
        """Day and time (UTC) at which the next window opens after `wall`, such as `Mon 22:00`.

        Empty while one is open.
        """
        if not self.closed_seconds(wall):
            return ""
        minute = _minute_of_week(wall)
        begin = min((begin for begin, _ in self.spans), key=lambda begin: (begin - minute) % WEEK)
        hour, past = divmod(begin % DAY, _MINUTES)
        return f"{DAYS[begin // DAY].capitalize()} {hour:02}:{past:02}"


def parse_windows(text: str) -> WriteWindows:
    """Parse one or more windows in UTC, separated by commas, such as `Mon-Fri 22:00-06:00`.

    Days are optional. A window that ends before it begins ends on the next day.

    Raises:
        ValueError: a window is malformed or empty.
    """
    spans = tuple(span for part in text.split(",") for span in _parse_window(part.lower().split()))
    return WriteWindows(spans, text)


def _minute_of_week(wall: WallTime) -> float:
    return (float(wall) / 60 + _FIRST_DAY * DAY) % WEEK


def _parse_window(words: list[str]) -> list[tuple[int, int]]:
    days = range(len(DAYS))
    if len(words) == 2:  # noqa: PLR2004 - days and times
        first, _, last = words[0].partition("-")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        days = range(begin, end + 1 if end >= begin else end + 1 + len(DAYS))
        words = words[1:]
    if len(words) != 1:
        raise ValueError("not a window")
    begin_minute, end_minute = (_parse_minute(time) for time in words[0].split("-"))
    length = (end_minute - begin_minute) % DAY or (DAY if end_minute > begin_minute else 0)
    if not length:
        raise ValueError("an empty window")
    return [(day % len(DAYS) * DAY + begin_minute, length) for day in days]


def _parse_minute(time: str) -> int:
    hours, colon, minutes = time.partition(":")
    parts = (hours, minutes)
    if not colon or not all(len(part) == _DIGITS and part.isascii() and part.isdigit() for part in parts):
        raise ValueError("not HH:MM")
    minute = int(hours) * _MINUTES + int(minutes)
    if int(minutes) >= _MINUTES or minute > _HOURS * _MINUTES:
        raise ValueError("not HH:MM")
    return minute
