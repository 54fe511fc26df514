"""An event loop with virtual time that runs ready tasks in an order drawn from a seed.

The rules: if no task is ready, time jumps to the next timer, so that hours pass in milliseconds. Tasks that
are ready at one moment run in any order, since a real machine promises none between independent tasks. No
sockets and no threads. A loop with nothing ready and no timer is stuck, and raises.
"""

import asyncio
import random
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
TURNS_MOST = 10_000  # of the loop without a step in time
SECONDS_MOST = 100_000.0


class StuckError(RuntimeError):
    """No task is ready and no timer is set: what is awaited never comes."""


class _Shuffled(deque[asyncio.Handle]):
    """The ready handles; the next to run is drawn."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._draw = rng.random

    def popleft(self) -> asyncio.Handle:
        size = len(self)
        if size > 1:
            self.rotate(-int(self._draw() * size))
        return super().popleft()


class _Jump:
    """In place of a selector: instead of waiting for the network it jumps to the next timer."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop
        self._turns = 0

    def select(self, timeout: float | None) -> tuple[()]:
        if timeout is None:
            raise StuckError("no task is ready and no timer is set")
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
    """The event loop. `rng` decides the order of ready tasks."""

    _scheduled: list[asyncio.TimerHandle]  # of the base class

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._virtual_now = 0.0
        self._ready = _Shuffled(rng)
        self._selector = _Jump(self)

    def time(self) -> float:
        """Virtual seconds since the loop was created."""
        return self._virtual_now

    def jump(self) -> None:
        """Jump to the next timer."""
        self._virtual_now = self._scheduled[0].when()
        if self._virtual_now > SECONDS_MOST:
            raise StuckError(f"the run has not ended after {SECONDS_MOST:,.0f} virtual seconds")

    def _process_events(self, events: tuple[()]) -> None:
        pass


def run(main: Coroutine[Any, Any, T], rng: random.Random) -> T:
    """Run `main` to its end in virtual time, and cancel what still runs then.

    Raises:
        StuckError: nothing is ready and no timer is set, or the run takes too long.
    """
    loop = VirtualLoop(rng)
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
