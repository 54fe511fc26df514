"""The weather that requests meet by themselves, as a story has it: a function of the allocation and the time.

Left out: what a single request meets (`script`), and what is drawn (`fates`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

from tests.simulation.faults.request_faults import GET_TIMEOUT_SECONDS, ReadFate, UpdateFate

SOON, ANSWERED = 0.01, 0.02  # when a request arrives, and when it is answered


@dataclass(frozen=True, slots=True)
class Listed:
    """A bulk read: how long it takes after the truth was read for it, whom it leaves out, or why it fails."""

    after: float = ANSWERED
    omits: frozenset[int] = frozenset()
    fault: str = ""


def _well(*_: object) -> None:
    """Nothing out of the ordinary."""


@dataclass(frozen=True, slots=True)
class Weather:
    """What becomes of requests by themselves, by allocation and time; None: they go well."""

    reads: Callable[[int, float], ReadFate | None] = _well
    updates: Callable[[int, float], UpdateFate | None] = _well
    lists: Callable[[float], Listed | None] = _well


FINE = Weather()


def until(end: float, weather: Weather) -> Weather:
    """That weather until then, and fine weather after it."""
    return Weather(
        reads=lambda key, now: weather.reads(key, now) if now < end else None,
        updates=lambda key, now: weather.updates(key, now) if now < end else None,
        lists=lambda now: weather.lists(now) if now < end else None,
    )


class Pressed:
    """An API where, beyond what it can do at once, each request more makes all slower than it brings.

    From one time to another it can do less.
    """

    def __init__(self, *, seconds: float, at_once: int, less: int, begin: float, end: float) -> None:
        self.timeouts = 0
        self._seconds = seconds
        self._at_once, self._less = at_once, less
        self._begin, self._end = begin, end
        self._under_way: list[float] = []  # when each ends

    def reads(self, _key: int, now: float) -> ReadFate:
        while self._under_way and self._under_way[0] <= now:
            heappop(self._under_way)
        at_once = self._less if self._begin <= now < self._end else self._at_once
        seconds = self._seconds * max(1.0, (len(self._under_way) + 1) / at_once) ** 3
        in_time = seconds <= GET_TIMEOUT_SECONDS
        self.timeouts += not in_time
        seconds = min(seconds, GET_TIMEOUT_SECONDS)
        heappush(self._under_way, now + seconds)
        return ReadFate(SOON, seconds, None if in_time else ("no answer within 10 s", None, None))
