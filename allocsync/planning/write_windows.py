"""Windows: the times of the week in which updates may be sent, as `Mon-Fri 22:00-06:00, Sun 00:00-24:00`.

The rule: a window that ends before it begins goes on into the next day; without days it is every day's. It is
all UTC. Pure: the time is an argument, in seconds since the epoch.
"""

from dataclasses import dataclass

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY, WEEK = 24 * 60, 7 * 24 * 60  # minutes
_FIRST_DAY = 3  # the epoch began on a Thursday
_HOURS, _MINUTES, _DIGITS = 24, 60, 2


@dataclass(frozen=True, slots=True)
class Windows:
    """Spans of the week: the minute in which each begins and its length; none at all means always open."""

    spans: tuple[tuple[int, int], ...] = ()
    text: str = ""

    def closed_seconds(self, wall: float) -> float:
        """How long nothing may be sent from this time on; 0 while a window is open."""
        minute = (wall / 60 + _FIRST_DAY * DAY) % WEEK
        if not self.spans or any((minute - begin) % WEEK < length for begin, length in self.spans):
            return 0.0
        return min((begin - minute) % WEEK for begin, _ in self.spans) * 60


def parse_windows(text: str) -> Windows:
    """Read windows, one or several with commas between them.

    Raises:
        ValueError: it is none.
    """
    spans = tuple(span for part in text.split(",") for span in _spans(part.lower().split()))
    return Windows(spans, text)


def _spans(words: list[str]) -> list[tuple[int, int]]:
    days = range(len(DAYS))
    if len(words) == 2:  # noqa: PLR2004 - days and times
        first, _, last = words[0].partition("-")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        days = range(begin, end + 1 if end >= begin else end + 1 + len(DAYS))
        words = words[1:]
    if len(words) != 1:
        raise ValueError("not a window")
    begins, ends = (_minute(time) for time in words[0].split("-"))
    length = (ends - begins) % DAY or (DAY if ends > begins else 0)
    if not length:
        raise ValueError("an empty window")
    return [(day % len(DAYS) * DAY + begins, length) for day in days]


def _minute(time: str) -> int:
    hours, colon, minutes = time.partition(":")
    parts = (hours, minutes)
    if not colon or not all(len(part) == _DIGITS and part.isascii() and part.isdigit() for part in parts):
        raise ValueError("not HH:MM")
    minute = int(hours) * _MINUTES + int(minutes)
    if int(minutes) >= _MINUTES or minute > _HOURS * _MINUTES:
        raise ValueError("not HH:MM")
    return minute
