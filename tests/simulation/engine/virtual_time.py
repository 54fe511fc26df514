"""An event loop whose time is virtual and whose ready tasks run in an order that a seed decides.

Where nothing is ready it jumps to the next due time, so that hours pass in milliseconds. What is ready at one
moment runs in any order: real machines promise none between independent tasks either. Nothing here touches a
socket or a thread; a loop that has nothing to wait for is stuck for ever, and says so.
"""

import asyncio
import random
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
TURNS_MOST = 10_000  # at one moment
SECONDS_MOST = 100_000.0


class StuckError(RuntimeError):
    """Nothing is ready and nothing is due: what is awaited never comes."""


class _Shuffled(deque[asyncio.Handle]):
    """What is ready; the next to run is drawn."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._draw = chance.random

    def popleft(self) -> asyncio.Handle:
        size = len(self)
        if size > 1:
            self.rotate(-int(self._draw() * size))
        return super().popleft()


class _Jump:
    """In the place of a selector: waiting for the network is waiting for the next due time."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop
        self._turns = 0

    def select(self, timeout: float | None) -> tuple[()]:
        if timeout is None:
            raise StuckError("nothing is ready and nothing is due")
        if timeout > 0:
            self._loop.jump()
            self._turns = 0
        self._turns += 1
        if self._turns > TURNS_MOST:
            raise StuckError(f"time has stood still for {TURNS_MOST:,} turns of the loop")
        return ()

    def close(self) -> None:
        pass


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop. `chance` decides the order among what is ready."""

    _scheduled: list[asyncio.TimerHandle]  # of the base class

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._virtual_now = 0.0
        self._ready = _Shuffled(chance)
        self._selector = _Jump(self)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual_now

    def jump(self) -> None:
        """Go to the next due time."""
        self._virtual_now = self._scheduled[0].when()
        if self._virtual_now > SECONDS_MOST:
            raise StuckError(f"it has not ended after {SECONDS_MOST:,.0f} virtual seconds")

    def _process_events(self, events: tuple[()]) -> None:
        pass


def run(main: Coroutine[Any, Any, T], chance: random.Random) -> T:
    """Run to the end in virtual time; what is left running is cancelled."""
    loop = VirtualLoop(chance)
    try:
        return loop.run_until_complete(main)
    finally:
        _cancel_rest(loop)
        loop.close()


def _cancel_rest(loop: VirtualLoop) -> None:
    rest = asyncio.all_tasks(loop)
    for task in rest:
        task.cancel()
    if rest:
        loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
