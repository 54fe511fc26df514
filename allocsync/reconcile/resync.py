"""The resync: a periodic check of all allocations, by the list (`GET /allocations`) or by one GET each.

The rules: the list can only confirm that an allocation is in sync, or cause a GET of it; nothing else follows
from it. It is one request at a time, and takes no slot. If the server has no list, every allocation is read
by GET instead. If the list fails, it is requested again; after three failures in a row every allocation is
also read by GET, so that a list that keeps failing hides nothing. Each time, a few allocations that are in
sync by the list are checked by GET. If the list is wrong twice in a row, it is no longer used.

Left out: what a listed cloud means for one allocation (`allocation.managed_allocation`).
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
FALL_BACK_AFTER = 3  # failures of the list in a row
CHECKS_PER_LIST = 3  # allocations that are checked by GET after each list
MAX_WRONG_LISTS = 2  # in a row; a single one may be a change between list and GET
YIELD_EVERY = 500  # allocations, after which other tasks of the event loop run


class BulkPolicy(StrEnum):
    """Whether `GET /allocations` is used."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Resync:
    """Schedules resyncs, and runs those that use the list.

    Attributes:
        uses_list: whether resyncs use the list; otherwise each allocation schedules its own GET.
        due_at: when the next resync is due, in monotonic seconds; infinity while one is running.
        finished_at: when the latest list was read completely, in wall-clock seconds; None before the first.
        list_answered: whether the list has been read or has failed at least once.
    """

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
        save: Callable[[ManagedAllocation], None],
    ) -> None:
        """Set up resyncs; the first list is due at once.

        `backoff(failures, retry_after_seconds)` returns the seconds to wait after so many failures in a row.
        `update_reported` brings the reported condition of an allocation up to date. `save` stores what must
        survive a restart of it.
        """
        self._api = api
        self._clock = clock
        self._emit = emit
        self._rules = rules
        self._backoff = backoff
        self._policy = policy
        self._update_reported = update_reported
        self._save = save
        self._failures = 0
        self._retry_after_until = -inf  # the server asked for no list before this time
        # Allocations to check by GET, with the desired state that the latest list was equal to.
        self._checks: dict[AllocationId, Desired] = {}
        self._disagreed: AllocationId | None = None  # an allocation whose GET differs from the latest list
        self._agreed = False  # whether the GET of another one agrees with it
        self._repeat_at_once = False
        self._wrong_lists = 0  # lists in a row with a disagreement; those without any check do not count
        self._task: asyncio.Task[None] | None = None
        self.uses_list = policy is not BulkPolicy.OFF
        self.due_at = clock.now() + (0.0 if self.uses_list else rules.resync_each_seconds)
        self.finished_at: float | None = None
        self.list_answered = False

    @property
    def interval_seconds(self) -> float:
        """Seconds between two resyncs."""
        return self._rules.resync_bulk_seconds if self.uses_list else self._rules.resync_each_seconds

    @property
    def is_failing(self) -> bool:
        """Whether the latest list failed."""
        return bool(self._failures)

    @property
    def next_list_at(self) -> float:
        """When the list is requested next (monotonic seconds); infinity if it is not used, or is running."""
        return self.due_at if self.uses_list else inf

    def first_read_at(self, now: float) -> float:
        """When a new allocation is read by GET: `now`, or infinity if the first list will cover it.

        The first list covers it as long as that list may still succeed soon. If the list is under way
        already, another one follows it at once.
        """
        awaited = self.uses_list and self.finished_at is None and self._failures < FALL_BACK_AFTER
        self._repeat_at_once = self._repeat_at_once or (awaited and self._task is not None)
        return inf if awaited else now

    def next_read_in_seconds(self) -> float:
        """Seconds until an allocation in sync is read by GET again; infinity while the list covers it."""
        return inf if self.uses_list else self._jittered(self._rules.resync_each_seconds)

    def is_due(self, now: float) -> bool:
        """Whether a resync should start now."""
        return self._task is None and now >= self.due_at

    def start(
        self,
        group: asyncio.TaskGroup,
        allocations: Mapping[AllocationId, ManagedAllocation],
        *,
        requeue: Callable[[ManagedAllocation], None],
        finished: Callable[[], None],
    ) -> None:
        """Start a resync in the task group.

        `requeue` is called with each allocation that the list was compared with, changed or not, and
        `finished` when the resync ends, even if it failed. Without the list, no request is made: the reported
        conditions are brought up to date.
        """

        async def run() -> None:
            try:
                await (
                    self._read_list(allocations, requeue) if self.uses_list else self._update_all(allocations)
                )
            finally:
                self._task = None
                finished()

        self.due_at = inf
        self._task = group.create_task(run(), name="resync")

    def resync_soon(
        self,
        allocations: Mapping[AllocationId, ManagedAllocation],
        requeue: Callable[[ManagedAllocation], None],
    ) -> None:
        """Start a resync as soon as possible, because a person or an edit asks for one.

        It is the list, unless that is not used or the server asked for a later one; then it is one GET each.
        Allocations that wait for an outcome or a backoff keep their time.
        """
        now = self._clock.now()
        if self.uses_list and (self._task is not None or now >= self._retry_after_until):
            if self._task is None:
                self.due_at = now
            else:
                self._repeat_at_once = True  # the list under way began too early
            return
        self._read_each(allocations, requeue)

    def _read_each(
        self,
        allocations: Mapping[AllocationId, ManagedAllocation],
        requeue: Callable[[ManagedAllocation], None],
    ) -> None:
        """Have every idle allocation read by GET now, apart from those with a backoff."""
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
        """Cancel the resync that is under way, if there is one."""
        if self._task is not None:
            self._task.cancel()

    def on_read(self, allocation: ManagedAllocation, *, reported: bool) -> None:
        """A reconcile of one allocation ended: compare its GET with the latest list, if it was to be checked.

        `reported` says whether the GET showed a state: live or missing.
        """
        desired = self._checks.get(allocation.id)
        if desired is None or not reported:
            return
        del self._checks[allocation.id]
        if allocation.compared != desired:
            return  # edited since the list: the GET says nothing about the list
        if allocation.changes:
            self._disagreed = allocation.id
        else:
            self._agreed = True

    async def _read_list(
        self,
        allocations: Mapping[AllocationId, ManagedAllocation],
        requeue: Callable[[ManagedAllocation], None],
    ) -> None:
        if self._disagreed or self._agreed:  # without a check, nothing is known about the latest list
            self._wrong_lists = self._wrong_lists + 1 if self._disagreed else 0
        if self._wrong_lists == MAX_WRONG_LISTS:
            reason = f"{self._disagreed} in the list differs from what GET /allocation/{{id}} returns"
            await self._handle_failure(
                BulkUnavailable(reason, supported=False, asked=False), allocations, requeue
            )
            return
        begun = self._clock.now()
        self._emit(ResyncStarted(allocations=len(allocations)))
        at_start, listed = dict(allocations), set[str]()
        try:
            async for cloud in self._api.list():
                allocation = allocations.get(AllocationId(str(cloud.get("id"))))
                if allocation is not None:
                    listed.add(allocation.id)
                    if allocation.on_listed(cloud, begun=begun, now=self._clock.now()):
                        self._save(allocation)
                    requeue(allocation)
        except BulkUnavailable as error:
            self.list_answered = True
            await self._handle_failure(error, allocations, requeue)
            return
        self._failures = 0
        async for allocation in _each(allocations):
            # An allocation that became managed after the list began has its own first read.
            if allocation.id not in listed and at_start.get(allocation.id) is allocation:
                allocation.on_listed(None, begun=begun, now=self._clock.now())
                requeue(allocation)
        self._choose_checks(allocations, begun, requeue)
        now = self._clock.now()
        self.list_answered, self.finished_at = True, self._clock.wall()
        self.due_at = now + (0.0 if self._repeat_at_once else self._jittered(self._rules.resync_bulk_seconds))
        self._repeat_at_once = False
        differ = sum(
            bool(allocation.changes or allocation.list_differs) for allocation in allocations.values()
        )
        self._emit(ResyncFinished(allocations=len(listed), differ=differ, elapsed_seconds=now - begun))

    async def _update_all(self, allocations: Mapping[AllocationId, ManagedAllocation]) -> None:
        """Bring every reported condition up to date; in an outage no read would do it."""
        async for allocation in _each(allocations):
            self._update_reported(allocation)
        self.due_at = self._clock.now() + self._rules.resync_each_seconds

    def _choose_checks(
        self,
        allocations: Mapping[AllocationId, ManagedAllocation],
        begun: float,
        requeue: Callable[[ManagedAllocation], None],
    ) -> None:
        """Have a few allocations that are in sync by the list that began at `begun` checked by GET."""
        self._checks, self._disagreed, self._agreed = {}, None, False
        if self._policy is not BulkPolicy.AUTO:
            return
        # Equal to the desired state they were compared with; they may have been edited since.
        in_sync = [
            (allocation, allocation.compared)
            for allocation in allocations.values()
            if allocation.state is State.IDLE
            and allocation.observed_at == begun
            and not allocation.changes
            and allocation.compared is not None
        ]
        for _ in range(min(CHECKS_PER_LIST, len(in_sync))):
            index = min(int(self._clock.uniform(0, len(in_sync))), len(in_sync) - 1)
            allocation, desired = in_sync.pop(index)
            self._checks[allocation.id] = desired
            allocation.read_now(self._clock.now())
            requeue(allocation)

    async def _handle_failure(
        self,
        error: BulkUnavailable,
        allocations: Mapping[AllocationId, ManagedAllocation],
        requeue: Callable[[ManagedAllocation], None],
    ) -> None:
        """Report that the list failed, schedule the next one, and have all allocations read if need be."""
        self._failures += 1
        self._emit(
            ListUnavailable(
                reason=str(error), supported=error.supported, status=error.status, asked=error.asked
            )
        )
        now, is_late = self._clock.now(), False
        if not error.supported and self._policy is BulkPolicy.AUTO:
            self.uses_list = False
            self.due_at = now + self._rules.resync_each_seconds
        else:
            # The next list is due after one resync interval at the latest, unless Retry-After is longer.
            wait = min(self._backoff(self._failures, None), self._jittered(self.interval_seconds))
            retry_after = error.retry_after_seconds
            least_wait = 0.0 if retry_after is None else self._backoff(1, retry_after)
            self._retry_after_until, self.due_at = now + least_wait, now + max(wait, least_wait)
            if is_late := least_wait > self.interval_seconds:
                self._failures = max(self._failures, FALL_BACK_AFTER)  # do not wait for more failures
        if not self.uses_list or is_late or self._failures % FALL_BACK_AFTER == 0:
            async for allocation in _each(allocations):
                # An allocation that was never read is read now; the others are spread out, to avoid a burst.
                was_read = allocation.compared is not None or allocation.missing
                spread = self._clock.uniform(0, self._rules.resync_each_seconds) if was_read else 0.0
                allocation.read_no_later_than(now + spread)
                requeue(allocation)
        # A resync requested during this list is the next list. If that is late or never, it is one GET each.
        was_requested, self._repeat_at_once = self._repeat_at_once, False
        if was_requested and (not self.uses_list or is_late):
            self._read_each(allocations, requeue)

    def _jittered(self, seconds: float) -> float:
        return seconds * self._clock.uniform(1 - JITTER, 1 + JITTER)


async def _each(allocations: Mapping[AllocationId, ManagedAllocation]) -> AsyncIterator[ManagedAllocation]:
    """Yield every allocation and let other tasks run in between; those released by then are left out."""
    for index, key in enumerate(list(allocations)):
        if (allocation := allocations.get(key)) is not None:
            yield allocation
        if index % YIELD_EVERY == YIELD_EVERY - 1:
            await asyncio.sleep(0)
