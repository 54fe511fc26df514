"""Many schedules at once: what they contained, and which promises they broke."""

import os
import signal
from collections import Counter
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field, fields
from multiprocessing import get_context

from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.drawn_schedule import draw_schedule
from tests.simulation.engine.world import simulate
from tests.simulation.report.outcome import Outcome

CHUNK = 100  # schedules, between two checks of the time


@dataclass(slots=True)
class Figures:
    """Sums over schedules. `breaches` has seed, promise and details of each first breach.

    `fired` has the number of schedules in which each kind of trouble happened.
    """

    schedules: int = 0
    requests: int = 0
    updates: int = 0
    faults: int = 0
    crashes: int = 0
    disk_faults: int = 0
    virtual_seconds: float = 0.0
    breaches: list[tuple[int, str, str]] = field(default_factory=list)
    fired: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Add one schedule."""
        self.schedules += 1
        for name in ("requests", "updates", "faults", "crashes", "disk_faults", "virtual_seconds"):
            setattr(self, name, getattr(self, name) + getattr(outcome, name))
        self.fired.update(outcome.fired)
        self.breaches += [(outcome.seed, promise, what) for promise, what in outcome.breaches[:1]]

    def join(self, other: "Figures") -> None:
        """Add the figures of other schedules."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


def run_seeds(seeds: range) -> Figures:
    """Run these seeds one after another."""
    figures = Figures()
    with SqliteShim() as shim:
        for seed in seeds:
            figures.add(simulate(draw_schedule(seed), shim))
    return figures


def run_on_all_cores(seeds: range) -> Generator[Figures, None, None]:
    """Run these seeds on all cores, and yield the figures of each chunk as it is done.

    Closing the generator ends it after the chunks that are under way. The worker processes ignore Ctrl-C.
    """
    workers = os.cpu_count() or 1
    chunks = iter(range(seeds.start, seeds.stop, CHUNK))
    ignore_interrupts = (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=signal.signal, initargs=ignore_interrupts
    ) as pool:
        under_way: list[Future[Figures]] = []
        try:
            while True:
                while len(under_way) < 2 * workers and (begin := next(chunks, None)) is not None:
                    under_way.append(pool.submit(run_seeds, range(begin, min(begin + CHUNK, seeds.stop))))
                if not under_way:
                    return
                yield under_way.pop(0).result()
        finally:
            for future in under_way:
                future.cancel()
