"""Failing and overloaded APIs, and a controller with the real backoff and the real hard maximums."""

import asyncio
import random

from allocsync.api.backoff import FullJitter
from allocsync.model.api_answers import Failed, OutcomeUnknown
from allocsync.model.desired_state import Desired, Revision
from allocsync.model.ids import AllocationId
from allocsync.reconcile.events import Observer
from allocsync.reconcile.resync import BulkPolicy
from allocsync.reconcile.scheduling.concurrency import MAX_LIMIT
from tests.support.scripted_api import Run, ScriptedApi

TIMEOUT = OutcomeUnknown("504 Gateway Timeout", 504)
TIMEOUT_SECONDS = 10.0
DEAD = Failed("502 Bad Gateway", 502)


def now() -> float:
    return asyncio.get_running_loop().time()


def named(number: int) -> tuple[AllocationId, ...]:
    return tuple(AllocationId(f"{each:05}") for each in range(number))


def real_run(
    api: ScriptedApi, *, bulk: BulkPolicy = BulkPolicy.AUTO, observer: Observer | None = None
) -> Run:
    jitter = FullJitter(uniform=random.Random(2).uniform)
    return Run(api, bulk=bulk, limits=MAX_LIMIT, backoff=jitter.delay_seconds, observer=observer)


class OverloadableApi(ScriptedApi):
    """An API that can serve `at_once` requests; each further one slows all of them, up to a time-out."""

    def __init__(self, keys: tuple[AllocationId, ...], *, at_once: int, quickest: float = 0.05) -> None:
        super().__init__(keys=keys)
        self.at_once = at_once
        self.quickest = quickest
        self.given_up: dict[str, None] = {}
        self.timeouts = 0
        self.read_seconds = self.post_seconds = self._seconds
        self.on_snapshot = lambda key: Failed("no answer") if self._timed_out(key) else None
        self.on_update = lambda key, _: OutcomeUnknown("no answer") if self._timed_out(key) else None

    def _seconds(self, key: str) -> float:
        seconds = self.quickest * max(1.0, len(self.under_way) / self.at_once) ** 3
        if seconds > TIMEOUT_SECONDS:
            self.given_up[key] = None
        return min(TIMEOUT_SECONDS, seconds)

    def _timed_out(self, key: str) -> bool:
        if key not in self.given_up:
            return False
        del self.given_up[key]
        self.timeouts += 1
        return True


async def measure_edits(hanging: tuple[AllocationId, ...]) -> tuple[list[float], list[float]]:
    """Return how long edits of 200 healthy allocations take: those at the start, and all later ones.

    Both lists are sorted, in virtual seconds from an edit until the truth shows it. First all are edited,
    then a dozen every seven seconds, then a dozen after each long pause. Updates of `hanging` allocations
    end after half a minute with a 504, and are not applied.
    """
    keys = named(200 + max(20, len(hanging) + 1))
    healthy = [key for key in keys if key not in hanging][-200:]
    api = ScriptedApi(keys=keys)
    api.on_update = lambda key, _: TIMEOUT if key in hanging else None
    api.post_seconds = lambda key: 30.0 if key in hanging else 0.05
    wanted = dict.fromkeys(keys, "wanted")
    waiting: dict[AllocationId, tuple[float, list[float]]] = {}
    at_start: list[float] = []
    later: list[float] = []
    chance = random.Random(3)
    async with real_run(api) as run:
        for number in range(32):
            for key in chance.sample(healthy, 12) if number else healthy:
                wanted[key] = f"edit{number}"
                waiting.setdefault(key, (now(), later if number else at_start))
            desired = {key: Desired(key, (("region", region),)) for key, region in wanted.items()}
            run.controller.activate(Revision(str(number), desired))
            end = now() + (7 if number < 25 else 50)
            while now() < end:
                await asyncio.sleep(0.1)
                done = [key for key in waiting if api.truth[key]["region"] == wanted[key]]
                for key in done:
                    begun, taken = waiting.pop(key)
                    taken.append(now() - begun)
    assert not waiting
    assert sum(key in hanging for _, key in api.posts) >= 2 * len(hanging)  # updates of them were sent
    return sorted(at_start), sorted(later)
