"""The pass over everything: one bulk request where the server has it, per allocation where it has not.

The rule: a bulk answer may confirm that an allocation is in sync or ask for a look at it; it decides nothing
else. It is one request at a time, outside the slots. A server without the route is asked once and then looked
at per allocation; one whose answer fails is asked again, and after three failures everything is looked at
per allocation for that round, so that a bulk answer which never comes hides nothing. A few allocations that
it calls in sync are looked at one by one each time; wrong twice in a row, it is not used again.

Left out: what a record means for one allocation (`lane`).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from enum import StrEnum
from math import inf

from allocsync.errors import BulkUnavailable
from allocsync.model.desired_state import Desired
from allocsync.model.ids import AllocationId
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.updates import State
from allocsync.reconcile.events import ListUnavailable, Observer, ResyncFinished, ResyncStarted
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.ports import Api, Clock

JITTER = 0.1
FALL_BACK_AFTER = 3  # failures of the bulk request in a row
CHECKED = 3  # allocations per bulk pass that are looked at one by one
WRONG_IN_A_ROW = 2  # passes: once may be somebody's change in between
YIELD_EVERY = 500  # lanes, between two turns of the event loop


class BulkPolicy(StrEnum):
    """Whether `GET /allocations` is used."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Resync:
    """When the next pass over everything is due, and the pass itself where it is one request."""

    def __init__(
        self,
        *,
        api: Api,
        clock: Clock,
        emit: Observer,
        rules: Parameters,
        backoff: Callable[[int, float | None], float],
        policy: BulkPolicy,
        update_reported: Callable[[ManagedAllocation], None],
    ) -> None:
        """`show` tells what the condition of a lane is by now."""
        self._api = api
        self._clock = clock
        self._emit = emit
        self._rules = rules
        self._backoff = backoff
        self._policy = policy
        self._update_reported = update_reported
        self._failures = 0
        self._asked_until = -inf  # the server asked for no bulk read before
        self._checks: dict[AllocationId, Desired] = {}  # what the last pass called equal to it, unconfirmed
        self._disagreed: AllocationId | None = None  # one of which it was wrong
        self._agreed = False  # of one it was right
        self._soon_again = False
        self._wrong = 0  # passes in a row with such a disagreement, of those whose checks were answered
        self._task: asyncio.Task[None] | None = None
        self.bulk = policy is not BulkPolicy.OFF
        self.at = clock.now() + (0.0 if self.bulk else rules.resync_each_seconds)
        self.finished_at: float | None = None  # wall clock
        self.answered = False

    @property
    def interval_seconds(self) -> float:
        """How often everything is looked at."""
        return self._rules.resync_bulk_seconds if self.bulk else self._rules.resync_each_seconds

    @property
    def failing(self) -> bool:
        """Whether the latest bulk read failed."""
        return bool(self._failures)

    @property
    def bulk_at(self) -> float:
        """When everything is looked at in one request again; infinity: never."""
        return self.at if self.bulk else inf

    def first_read_at(self, now: float) -> float:
        """When an allocation that was never looked at is looked at by itself.

        The first bulk pass goes before, as long as it may still come soon; if that is under way, another one
        follows it at once.
        """
        awaited = self.bulk and self.finished_at is None and self._failures < FALL_BACK_AFTER
        self._soon_again = self._soon_again or (awaited and self._task is not None)
        return inf if awaited else now

    def next_read_in_seconds(self) -> float:
        """When an allocation in sync is looked at by itself again: never where the bulk pass does it."""
        return inf if self.bulk else self._jittered(self._rules.resync_each_seconds)

    def due(self, now: float) -> bool:
        """Whether a pass should start."""
        return self._task is None and now >= self.at

    def start(
        self,
        group: asyncio.TaskGroup,
        allocations: Mapping[AllocationId, ManagedAllocation],
        *,
        requeue: Callable[[ManagedAllocation], None],
        finished: Callable[[], None],
    ) -> None:
        """Start a pass; `place` is told of each lane that it touched."""

        async def run() -> None:
            try:
                await (self._pass(allocations, requeue) if self.bulk else self._review(allocations))
            finally:
                self._task = None
                finished()

        self.at = inf
        self._task = group.create_task(run(), name="resync")

    def resync_soon(
        self,
        allocations: Mapping[AllocationId, ManagedAllocation],
        requeue: Callable[[ManagedAllocation], None],
    ) -> None:
        """Somebody wants a look at everything now. What waits for an outcome or a backoff keeps its time."""
        now = self._clock.now()
        if self.bulk and (self._task is not None or now >= self._asked_until):
            if self._task is None:
                self.at = now
            else:
                self._soon_again = True  # the pass under way began too early to count
            return
        self._read_each(allocations, requeue)

    def _read_each(
        self,
        allocations: Mapping[AllocationId, ManagedAllocation],
        requeue: Callable[[ManagedAllocation], None],
    ) -> None:
        now = self._clock.now()
        for allocation in list(allocations.values()):
            if (
                allocation.state is State.IDLE
                and not allocation.read_failures
                and not allocation.write_backoff.failures
            ):
                allocation.read_no_later_than(now)
                requeue(allocation)

    def cancel(self) -> None:
        """End a pass that is under way."""
        if self._task is not None:
            self._task.cancel()

    def on_read(self, allocation: ManagedAllocation, *, reported: bool) -> None:
        """A pass over one allocation ended: does what its GET has `shown` agree with the bulk answer?"""
        desired = self._checks.get(allocation.id)
        if desired is None or not reported:
            return
        del self._checks[allocation.id]
        if allocation.compared != desired:
            return  # edited since: that says nothing
        if allocation.changes:
            self._disagreed = allocation.id
        else:
            self._agreed = True

    async def _pass(
        self,
        allocations: Mapping[AllocationId, ManagedAllocation],
        requeue: Callable[[ManagedAllocation], None],
    ) -> None:
        if self._disagreed or self._agreed:  # while no check is answered, nothing is known
            self._wrong = self._wrong + 1 if self._disagreed else 0
        if self._wrong == WRONG_IN_A_ROW:
            reason = f"what it says of {self._disagreed} is not what GET /allocation/{{id}} says"
            await self._failed(BulkUnavailable(reason, supported=False, asked=False), allocations, requeue)
            return
        begun = self._clock.now()
        self._emit(ResyncStarted(allocations=len(allocations)))
        known, seen = dict(allocations), set[str]()
        try:
            async for cloud in self._api.list():
                allocation = allocations.get(AllocationId(str(cloud.get("id"))))
                if allocation is not None:
                    seen.add(allocation.id)
                    allocation.on_listed(cloud, begun=begun, now=self._clock.now())
                    requeue(allocation)
        except BulkUnavailable as error:
            self.answered = True
            await self._failed(error, allocations, requeue)
            return
        self._failures = 0
        async for allocation in _each(allocations):
            if (
                allocation.id not in seen and known.get(allocation.id) is allocation
            ):  # what is newer has its own first look
                allocation.on_listed(None, begun=begun, now=self._clock.now())
                requeue(allocation)
        self._check(allocations, begun, requeue)
        now = self._clock.now()
        self.answered, self.finished_at = True, self._clock.wall()
        self.at = now + (0.0 if self._soon_again else self._jittered(self._rules.resync_bulk_seconds))
        self._soon_again = False
        differ = sum(
            bool(allocation.changes or allocation.list_differs) for allocation in allocations.values()
        )
        self._emit(ResyncFinished(allocations=len(seen), differ=differ, elapsed_seconds=now - begun))

    async def _review(self, allocations: Mapping[AllocationId, ManagedAllocation]) -> None:
        """Say what each is by now, where each is looked at by itself: in an outage perhaps none is."""
        async for allocation in _each(allocations):
            self._update_reported(allocation)
        self.at = self._clock.now() + self._rules.resync_each_seconds

    def _check(
        self,
        allocations: Mapping[AllocationId, ManagedAllocation],
        begun: float,
        requeue: Callable[[ManagedAllocation], None],
    ) -> None:
        """Have a few of those that were called in sync looked at."""
        self._checks, self._disagreed, self._agreed = {}, None, False
        if self._policy is not BulkPolicy.AUTO:
            return
        # Equal to what they are compared with; they may have been edited since.
        equal = [
            (allocation, allocation.compared)
            for allocation in allocations.values()
            if allocation.state is State.IDLE
            and allocation.observed_at == begun
            and not allocation.changes
            and allocation.compared is not None
        ]
        for _ in range(min(CHECKED, len(equal))):
            allocation, desired = equal.pop(min(int(self._clock.uniform(0, len(equal))), len(equal) - 1))
            self._checks[allocation.id] = desired
            allocation.read_now(self._clock.now())
            requeue(allocation)

    async def _failed(
        self,
        error: BulkUnavailable,
        allocations: Mapping[AllocationId, ManagedAllocation],
        requeue: Callable[[ManagedAllocation], None],
    ) -> None:
        self._failures += 1
        self._emit(
            ListUnavailable(
                reason=str(error), supported=error.supported, status=error.status, asked=error.asked
            )
        )
        now, late = self._clock.now(), False
        if not error.supported and self._policy is BulkPolicy.AUTO:
            self.bulk = False
            self.at = now + self._rules.resync_each_seconds
        else:
            # A resync later it is due in any case, unless the server asked for more.
            wait = min(self._backoff(self._failures, None), self._jittered(self.interval_seconds))
            wish = error.retry_after_seconds
            asked = 0.0 if wish is None else self._backoff(1, wish)
            self._asked_until, self.at = now + asked, now + max(wait, asked)
            if late := asked > self.interval_seconds:
                self._failures = max(self._failures, FALL_BACK_AFTER)  # so many would not be sooner
        if not self.bulk or late or self._failures % FALL_BACK_AFTER == 0:
            async for allocation in _each(allocations):
                # What was never seen is looked at now; the rest is spread, so that it is no wave.
                seen = allocation.compared is not None or allocation.missing
                spread = self._clock.uniform(0, self._rules.resync_each_seconds) if seen else 0.0
                allocation.read_no_later_than(now + spread)
                requeue(allocation)
        # Whoever asked meanwhile has the next try, which keeps its time; if that is none, or late, looks.
        hurried, self._soon_again = self._soon_again, False
        if hurried and (not self.bulk or late):
            self._read_each(allocations, requeue)

    def _jittered(self, seconds: float) -> float:
        return seconds * self._clock.uniform(1 - JITTER, 1 + JITTER)


async def _each(allocations: Mapping[AllocationId, ManagedAllocation]) -> AsyncIterator[ManagedAllocation]:
    """Every lane, with turns of the event loop in between: what is let go meanwhile is not given any more."""
    for index, key in enumerate(list(allocations)):
        if (allocation := allocations.get(key)) is not None:
            yield allocation
        if index % YIELD_EVERY == YIELD_EVERY - 1:
            await asyncio.sleep(0)
