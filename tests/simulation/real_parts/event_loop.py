"""An event loop with real sockets and virtual time: first everything sent arrives, then time jumps.

The rules: while data is on its way to a socket that somebody waits for, no time passes. What is ready at one
moment is handled in the order in which the sockets were created. So one seed makes one run, however slow the
kernel is.

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
TURNS_MOST = 100_000  # of the loop without a step in time
_NAP_SECONDS = 0.0002


class _ArrivalSelector(selectors.DefaultSelector):
    """A selector that waits for the kernel as long as needed, and never for time to pass."""

    def __init__(self, network: Network, pass_time: Callable[[float | None], None]) -> None:
        super().__init__()
        self._network = network
        self._pass_time = pass_time

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._wait_for_arrivals()
        if not ready:
            self._pass_time(timeout)
        return ready

    def _wait_for_arrivals(self) -> list[tuple[selectors.SelectorKey, int]]:
        begun: float | None = None
        while True:
            ready = super().select(0)
            if self._network.has_everything_arrived(
                {key.fd: events for key, events in ready}, self.get_map()
            ):
                return sorted(ready, key=self._socket_number)
            if begun is None:
                begun = time.monotonic()
            if time.monotonic() - begun > ARRIVES_WITHIN_SECONDS:
                raise StuckError("data sent over loopback does not arrive")
            time.sleep(_NAP_SECONDS)

    def _socket_number(self, ready: tuple[selectors.SelectorKey, int]) -> int:
        found = self._network.by_descriptor.get(ready[0].fd)
        return -1 if found is None else found.number


class LoopbackLoop(asyncio.SelectorEventLoop):
    """The event loop."""

    def __init__(self, network: Network) -> None:
        self._virtual_now = 0.0
        self._turns = 0
        super().__init__(_ArrivalSelector(network, self.pass_time))

    def time(self) -> float:
        """Virtual seconds since the loop was created."""
        return self._virtual_now

    def pass_time(self, seconds: float | None) -> None:
        """No data is on its way: jump to the next timer, `seconds` ahead."""
        if seconds is None:
            raise StuckError("no data is on its way and no timer is set")
        self._turns = 0 if seconds > 0 else self._turns + 1
        if self._turns > TURNS_MOST:
            raise StuckError(f"time has stood still for {TURNS_MOST:,} turns of the loop")
        self._virtual_now += seconds
        if self._virtual_now > SECONDS_MOST:
            raise StuckError(f"the run has not ended after {SECONDS_MOST:,.0f} virtual seconds")


def run(main: Coroutine[Any, Any, T], network: Network) -> T:
    """Run `main` to its end, and cancel what still runs then.

    Raises:
        StuckError: no data is on its way and no timer is set, or the run takes too long.
    """
    with network.in_use():
        loop = LoopbackLoop(network)
        # aiohttp measures the age of idle connections by another clock.
        with (
            patch.object(aiohttp.connector, "monotonic", loop.time),
            asyncio.Runner(loop_factory=lambda: loop) as runner,
        ):
            return runner.run(main)
