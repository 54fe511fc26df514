"""Keeps the answers to reads for a time, as a cache between the server and its clients does.

The rule: a kept answer has the `Date` of when it was made, and its `Age`. Updates do not end it.

Left out: for how long answers are kept (`reference_server.faults`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Generic, TypeVar

from allocsync.model.times import Monotonic, WallTime

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class _Kept(Generic[Answer]):
    answer: Answer
    made_at: Monotonic
    date: WallTime


class ReadCache(Generic[Answer]):
    """The answers to reads, by what was read. `wall` returns seconds since the epoch."""

    def __init__(self, wall: Callable[[], WallTime]) -> None:
        self._wall = wall
        self._kept: dict[str, _Kept[Answer]] = {}

    async def get(
        self, name: str, seconds: float, make: Callable[[], Awaitable[Answer]]
    ) -> tuple[Answer, Mapping[str, str]]:
        """Return the answer that was made at most `seconds` ago, or a new one by `make`, and its headers.

        With 0 `seconds` nothing is kept. A new answer has no such headers.
        """
        if not seconds:
            self._kept.clear()
            return await make(), {}
        now = Monotonic(asyncio.get_running_loop().time())
        kept = self._kept.get(name)
        if kept is not None and now - kept.made_at < seconds:
            age = int(now - kept.made_at)
            return kept.answer, {"Age": f"{age}", "Date": formatdate(float(kept.date), usegmt=True)}
        date, answer = self._wall(), await make()
        self._kept[name] = _Kept(answer, now, date)
        return answer, {}
