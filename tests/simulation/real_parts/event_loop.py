"""An event loop with real sockets and virtual time: what is due in the kernel first, then the next due time.

The rules: while something is on its way on a socket that is waited for, no time passes; what is ready at one
moment is served in the order in which the sockets were made. So one seed makes one run, however slow the
kernel is just then.

Left out: threads. Nothing that runs here may need one.
"""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from unittest.mock import patch

import aiohttp.connector

from tests.simulation.engine.virtual_time import SECONDS_MOST, StuckError
from tests.simulation.real_parts.network import Network

T = TypeVar("T")
ARRIVES_WITHIN_SECONDS = 20.0  # of real time
TURNS_MOST = 100_000  # at one moment
_NAP_SECONDS = 0.0002


class _Arrivals(selectors.DefaultSelector):
    """Waits for the kernel as long as needed, and for time not at all."""

    def __init__(self, network: Network, passes: Callable[[float | None], None]) -> None:
        super().__init__()
        self._network = network
        self._passes = passes

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._arrived()
        if not ready:
            self._passes(timeout)
        return ready

    def _arrived(self) -> list[tuple[selectors.SelectorKey, int]]:
        begun: float | None = None
        while True:
            ready = super().select(0)
            if self._network.all_here({key.fd: events for key, events in ready}, self.get_map()):
                return sorted(ready, key=self._place)
            if begun is None:
                begun = time.monotonic()
            if time.monotonic() - begun > ARRIVES_WITHIN_SECONDS:
                raise StuckError("what was sent over loopback does not arrive")
            time.sleep(_NAP_SECONDS)

    def _place(self, ready: tuple[selectors.SelectorKey, int]) -> int:
        found = self._network.by_descriptor.get(ready[0].fd)
        return -1 if found is None else found.number


class LoopbackLoop(asyncio.SelectorEventLoop):
    """The loop."""

    def __init__(self, network: Network) -> None:
        self._virtual_now = 0.0
        self._turns = 0
        super().__init__(_Arrivals(network, self.pass_time))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual_now

    def pass_time(self, seconds: float | None) -> None:
        """Nothing is on its way: go to the next due time."""
        if seconds is None:
            raise StuckError("nothing is on its way and nothing is due")
        self._turns = 0 if seconds > 0 else self._turns + 1
        if self._turns > TURNS_MOST:
            raise StuckError(f"time has stood still for {TURNS_MOST:,} turns of the loop")
        self._virtual_now += seconds
        if self._virtual_now > SECONDS_MOST:
            raise StuckError(f"it has not ended after {SECONDS_MOST:,.0f} virtual seconds")


def run(main: Coroutine[Any, Any, T], network: Network) -> T:
    """Run to the end; what is left running is cancelled."""
    with network.in_use():
        loop = LoopbackLoop(network)
        # How old a kept connection is, aiohttp asks another clock.
        with (
            patch.object(aiohttp.connector, "monotonic", loop.time),
            asyncio.Runner(loop_factory=lambda: loop) as runner,
        ):
            return runner.run(main)
