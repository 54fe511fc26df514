"""Responses that a test states as functions of allocation and time, such as an outage or an overloaded API.

Left out: responses to the n-th request for an allocation (`script` of the engine), and drawn responses
(`request_faults`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

from tests.simulation.faults.request_faults import GET_TIMEOUT_SECONDS, ReadResponse, UpdateResponse

SOON, ANSWERED = 0.01, 0.02  # seconds until a request arrives, and until it is answered


@dataclass(frozen=True, slots=True)
class ListResponse:
    """How the server handles one list.

    `after` is the time until the answer, in seconds; `omits` has the numbers of the allocations left out;
    `fault` is why it fails, empty if it does not.
    """

    after: float = ANSWERED
    omits: frozenset[int] = frozenset()
    fault: str = ""


def _no_fault(*_: object) -> None:
    """Respond without a fault."""


@dataclass(frozen=True, slots=True)
class ScriptedFaults:
    """Responses by allocation number and virtual time in seconds; None stands for one without a fault."""

    reads: Callable[[int, float], ReadResponse | None] = _no_fault
    updates: Callable[[int, float], UpdateResponse | None] = _no_fault
    lists: Callable[[float], ListResponse | None] = _no_fault


NO_FAULTS = ScriptedFaults()


def faults_until(end: float, scripted_faults: ScriptedFaults) -> ScriptedFaults:
    """These faults before `end`, none after it."""
    return ScriptedFaults(
        reads=lambda key, now: scripted_faults.reads(key, now) if now < end else None,
        updates=lambda key, now: scripted_faults.updates(key, now) if now < end else None,
        lists=lambda now: scripted_faults.lists(now) if now < end else None,
    )


class OverloadedApi:
    """An API that slows down with load: each request beyond its capacity slows all of them more than it adds.

    `seconds` is how long a request takes below the capacity, `at_once` the number of requests that the
    capacity allows. Between `begin` and `end` it allows only `reduced` of them.
    """

    def __init__(self, *, seconds: float, at_once: int, reduced: int, begin: float, end: float) -> None:
        self.timeouts = 0
        self._seconds = seconds
        self._at_once, self._reduced = at_once, reduced
        self._begin, self._end = begin, end
        self._under_way: list[float] = []  # the times at which they end

    def reads(self, _key: int, now: float) -> ReadResponse:
        """The response to a read sent at `now`. It fails with a timeout if it would take too long."""
        while self._under_way and self._under_way[0] <= now:
            heappop(self._under_way)
        at_once = self._reduced if self._begin <= now < self._end else self._at_once
        seconds = self._seconds * max(1.0, (len(self._under_way) + 1) / at_once) ** 3
        in_time = seconds <= GET_TIMEOUT_SECONDS
        self.timeouts += not in_time
        seconds = min(seconds, GET_TIMEOUT_SECONDS)
        heappush(self._under_way, now + seconds)
        return ReadResponse(SOON, seconds, None if in_time else ("no answer within 10 s", None, None))
