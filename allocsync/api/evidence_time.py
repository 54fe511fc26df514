"""Tells how old the answer to a read is: a cache between allocsync and the API may have kept it. Pure.

Two headers show it. `Age` says for how many seconds a cache has kept the answer. `Date` says when the server
made it, by the server's clock. To compare that with this machine's clock, the difference of the two clocks is
taken from the answers of the last ten minutes: the largest `Date` minus the time of arrival. No cache and no
slow answer makes that difference too large, because an answer never arrives before it is made. Answers to
POSTs count, because they come from the server itself.

The rules: an answer is never newer than the begin of its request. It is older if `Age` says so, or if `Date`
lies more than two seconds before that begin; the larger age counts. Without these headers, and with headers
that cannot be read, its age is 0. All times of this machine are monotonic: a step of the wall clock changes
nothing. A server whose clock is set back seems to answer from a cache for ten minutes.

Left out: what an old answer may prove (`reconcile.allocation.managed_allocation`). A cache that sets `Date`
anew and sends no `Age` cannot be recognised.
"""

import re
from collections import deque

from allocsync.model.times import Monotonic, WallTime, clock_offset_seconds, to_wall_time

WINDOW_SECONDS = 600.0  # answers of this time show the server's clock
TOLERANCE_SECONDS = 2.0  # `Date` has whole seconds, and takes some time to arrive
_AGE = re.compile(r"\d{1,12}", re.ASCII)


class EvidenceTime:
    """The clock of one server, as far as its answers show it."""

    def __init__(self) -> None:
        # (arrival, Date minus arrival); each later difference is smaller, so the first is the largest.
        self._offsets: deque[tuple[Monotonic, float]] = deque()

    def record(self, date: WallTime | None, *, arrived: Monotonic) -> None:
        """An answer to any request arrived at `arrived` (monotonic); `date` is its Date, in epoch seconds."""
        if date is None:
            return
        offset = clock_offset_seconds(date, arrived)
        while self._offsets and self._offsets[-1][1] <= offset:
            self._offsets.pop()
        self._offsets.append((arrived, offset))

    def age_seconds(
        self, date: WallTime | None, age: str | None, *, begun: Monotonic, now: Monotonic
    ) -> float:
        """Return how long before `begun` (monotonic) the answer was made, in seconds; 0 if it was not.

        `date` is the Date of the answer (epoch seconds) and `age` its Age header, None without one. `now`
        (monotonic) ends the window.
        """
        ages = [0.0]
        text = (age or "").strip()
        if _AGE.fullmatch(text):
            ages.append(float(text))
        while self._offsets and self._offsets[0][0] < now - WINDOW_SECONDS:
            self._offsets.popleft()
        if date is not None and self._offsets:
            before = to_wall_time(begun, self._offsets[0][1]) - date
            ages.append(before if before > TOLERANCE_SECONDS else 0.0)
        return max(ages)
