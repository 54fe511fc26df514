"""The resync: a periodic check of all allocations, by the list (`GET /allocations`) or by one GET each.

The rules: the list can only confirm that an allocation is in sync, or cause a GET of it; nothing else follows
from it. It is one request at a time, and takes no slot. If the server has no list, every allocation is read
by GET instead. If no list has ended for ten seconds, because it fails or hangs, every allocation is read by
GET beside it, often enough for its own condition, until a list ends; at once if a person had asked for a read
of everything. So a list that is broken hides nothing and delays nothing. Each time, a few allocations that
are in sync by the list are checked by GET. If the list is wrong twice in a row, it is no longer used. The
GETs of drift are spread over a second, so that of two daemons of one API whose lists coincide, nearly always
one reads what the other has repaired.

Left out: what a listed cloud means for one allocation (`allocation.managed_allocation`).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from enum import StrEnum
from math import inf

from allocsync.errors import BulkUnavailable
from allocsync.model.desired_state import Desired
from allocsync.model.ids import AllocationId
from allocsync.model.times import LONG_AGO, NEVER, Monotonic, WallTime
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.updates import State
from allocsync.reconcile.api_health import ApiHealth
from allocsync.reconcile.cached_reads import CachedReads
from allocsync.reconcile.events import ListUnavailable, Observer, ResyncFinished, ResyncStarted
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.ports import Api, Clock

JITTER = 0.1
FALL_BACK_SECONDS = 10.0  # after so long without a whole list, allocations are read by GET beside it
USUAL_LIST_FACTOR = 1.5  # a list may take so many times as long as the latest one before it counts as late
SYNC_SECONDS = 10.0  # the least time between two reads of everything that people ask for
CHECKS_PER_LIST = 3  # allocations that are checked by GET after each list
MAX_WRONG_LISTS = 2  # in a row; a single one may be a change between list and GET
# The GETs of the drift that a list shows are spread over this share of a resync, and at most so many seconds.
DRIFT_SPREAD_SHARE, DRIFT_SPREAD_MAX_SECONDS = 0.25, 1.0
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
        falls_back: whether each allocation schedules its own GET until a list is read completely again.
        sync_at: when the read that a person asked for is due, in monotonic seconds; `NEVER` if none is.
        due_at: when the next resync is due, in monotonic seconds; `NEVER` while one is running.
        finished_at: when the latest list was read completely, in wall-clock seconds; None before the first.
        list_answered: whether the list has been read or has failed at least once.
    """

    def __init__(
        self,
        *,
        api: Api,
        clock: Clock,
        emit: Observer,
        cached_reads: CachedReads,
        rules: Parameters,
        backoff: Callable[[int, float | None], float],
        policy: BulkPolicy,
        api_health: ApiHealth,
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
        self._cached_reads = cached_reads
        self._rules = rules
        self._backoff = backoff
        self._policy = policy
        self._api_health = api_health
        self._update_reported = update_reported
        self._save = save
        self._failures = 0
        self._retry_after_until = LONG_AGO  # the server asked for no list before this time
        # Allocations to check by GET, with the desired state that the latest list was equal to.
        self._checks: dict[AllocationId, Desired] = {}
        self._disagreed: AllocationId | None = None  # an allocation whose GET differs from the latest list
        self._agreed = False  # whether the GET of another one agrees with it
        self._repeat_at_once = False
        self._asked = False  # a person asked for a read of everything, and no list has answered that yet
        self._unanswered_since: Monotonic | None = (
            None  # when the first list began that no whole one followed
        )
        self._usual_seconds = 0.0  # how long the latest whole list took
        self._synced_at = LONG_AGO
        self._wrong_lists = 0  # lists in a row with a disagreement; those without any check do not count
        self._task: asyncio.Task[None] | None = None
        self.uses_list = policy is not BulkPolicy.OFF
        self.falls_back = False
        self.sync_at = NEVER
        self.due_at = clock.now() + (0.0 if self.uses_list else rules.resync_each_seconds)
        self.finished_at: WallTime | None = None
        self.list_answered = False

    @property
    def interval_seconds(self) -> float:
        """Seconds between two reads of an allocation, if nothing else causes one."""
        return self._rules.resync_bulk_seconds if self.list_covers else self._rules.resync_each_seconds

    @property
    def list_covers(self) -> bool:
        """Whether the list reads every allocation, so that none needs a GET of its own."""
        return self.uses_list and not self.falls_back

    @property
    def fall_back_at(self) -> Monotonic:
        """When allocations are read by GET if no list has ended by then (monotonic), or `NEVER`."""
        if not self.list_covers or self._unanswered_since is None:
            return NEVER
        return self._unanswered_since + FALL_BACK_SECONDS

    @property
    def next_list_at(self) -> Monotonic:
        """When the list is requested next (monotonic seconds), now if it is running."""
        return self._clock.now() if self._task is not None else self.due_at

    def first_read_at(self, now: Monotonic) -> Monotonic:
        """When a new allocation is read by GET: `now`, or `NEVER` if the first list will cover it.

        If that list is under way already, another one follows it at once.
        """
        awaited = self.list_covers and self.finished_at is None
        self._repeat_at_once = self._repeat_at_once or (awaited and self._task is not None)
        return NEVER if awaited else now

    def next_read_in_seconds(self) -> float:
        """Seconds until an allocation in sync is read by GET again; infinity while the list covers it."""
        return inf if self.list_covers else self._jittered(self._rules.resync_each_seconds)

    def is_due(self, now: Monotonic) -> bool:
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

        self.due_at = NEVER
        if self.uses_list and self._unanswered_since is None:
            self._unanswered_since = self._clock.now()
        self._task = group.create_task(run(), name="resync")

    def request_sync(self) -> None:
        """A person asks for a read of everything. Requests within SYNC_SECONDS share one."""
        self.sync_at = min(self.sync_at, max(self._clock.now(), self._synced_at + SYNC_SECONDS))

    def retry_list(self) -> None:
        """The API answers again: request a list that failed at once, or when Retry-After ends."""
        if self._failures and self._task is None and self.uses_list:
            self.due_at = min(self.due_at, max(self._clock.now(), self._retry_after_until))

    def sync(
        self,
        allocations: Mapping[AllocationId, ManagedAllocation],
        requeue: Callable[[ManagedAllocation], None],
    ) -> None:
        """Read everything as soon as possible, because a person asked for it.

        It is the list, unless the server has none or asked for a later one. If the list does not cover the
        allocations now, or no list ends soon, it is one GET each too. Allocations that wait for an outcome or
        a backoff keep their time.
        """
        now = self._clock.now()
        self.sync_at, self._synced_at = NEVER, now
        may_list = self.uses_list and (self._task is not None or now >= self._retry_after_until)
        if may_list and self._task is None:
            self.due_at = now
        elif may_list:
            self._repeat_at_once = True  # the list under way began too early
        if may_list and self.list_covers:
            self._asked = True
        else:
            self._read_each(allocations, requeue, now)

    @property
    def is_running(self) -> bool:
        """Whether a list, or an update of all conditions, is under way."""
        return self._task is not None

    @property
    def next_at(self) -> Monotonic:
        """When `start`, `sync` or `fall_back` is due next (monotonic seconds)."""
        return min(self.due_at, self.sync_at, self.fall_back_at)

    def is_fall_back_due(self, now: Monotonic) -> bool:
        """Whether no list has ended for so long that `fall_back` should run."""
        return now >= self.fall_back_at

    def start_fall_back(
        self,
        group: asyncio.TaskGroup,
        allocations: Mapping[AllocationId, ManagedAllocation],
        *,
        requeue: Callable[[ManagedAllocation], None],
        finished: Callable[[], None],
    ) -> None:
        """Start `fall_back` in the task group, beside the list that is under way or waits.

        `requeue` is called with each allocation to be read sooner, and `finished` at the end.
        """

        async def run() -> None:
            await self.fall_back(allocations, requeue)
            finished()

        self.falls_back = True
        group.create_task(run(), name="fall back")

    async def fall_back(
        self,
        allocations: Mapping[AllocationId, ManagedAllocation],
        requeue: Callable[[ManagedAllocation], None],
    ) -> None:
        """Have every allocation read by GET until a list ends.

        An allocation that was never read is read now. The others are spread over the resync of single reads,
        or all due if a person asked for it. If no list has failed, that is from when a list as slow as the
        latest one would have ended.
        """
        now, self.falls_back = self._clock.now(), True
        late_at = now
        if self._unanswered_since is not None and not self._failures:
            late_at = max(now, self._unanswered_since + USUAL_LIST_FACTOR * self._usual_seconds)
        if self._asked:
            self._asked = self._repeat_at_once = False
            self._read_each(allocations, requeue, late_at)
        async for allocation in _each(allocations):
            was_read = allocation.compared is not None or allocation.missing
            spread = self._clock.uniform(0, self._rules.resync_each_seconds)
            if allocation.read_no_later_than(late_at + spread if was_read else now):
                requeue(allocation)

    def _read_each(
        self,
        allocations: Mapping[AllocationId, ManagedAllocation],
        requeue: Callable[[ManagedAllocation], None],
        at: Monotonic,
    ) -> None:
        """Have every idle allocation read by GET at `at` (monotonic), apart from those with a backoff."""
        for allocation in list(allocations.values()):
            if (
                allocation.state is State.IDLE
                and not allocation.read_failures
                and not allocation.write_backoff.failures
            ):
                allocation.read_no_later_than(at)
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
        if desired is None or not reported or allocation.answer_age_seconds:
            return  # an answer of a cache may be older than the list
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
        spread_seconds = min(DRIFT_SPREAD_SHARE * self._rules.resync_bulk_seconds, DRIFT_SPREAD_MAX_SECONDS)
        evidence_at = begun  # earlier if a cache answered
        try:
            async for entry in self._api.list():
                evidence_at = begun - entry.evidence_age_seconds
                allocation = allocations.get(AllocationId(str(entry.cloud.get("id"))))
                if allocation is not None:
                    listed.add(allocation.id)
                    if allocation.on_listed(entry.cloud, begun=evidence_at, now=self._clock.now()):
                        self._save(allocation)
                    if allocation.list_differs and allocation.converged == allocation.desired:
                        allocation.postpone_until(self._clock.now() + self._clock.uniform(0, spread_seconds))
                    requeue(allocation)
        except BulkUnavailable as error:
            self.list_answered = True
            await self._handle_failure(error, allocations, requeue)
            return
        self._failures = 0
        self._api_health.list_answered()
        async for allocation in _each(allocations):
            # An allocation that became managed after the list began has its own first read.
            if allocation.id not in listed and at_start.get(allocation.id) is allocation:
                allocation.on_listed(None, begun=evidence_at, now=self._clock.now())
                requeue(allocation)
        self._cached_reads.observe(begun - evidence_at)
        self._choose_checks(allocations, evidence_at, requeue)
        now = self._clock.now()
        self.list_answered, self.finished_at = True, self._clock.wall()
        self._unanswered_since, self._usual_seconds, self.falls_back = None, now - begun, False
        self.due_at = now + (0.0 if self._repeat_at_once else self._jittered(self._rules.resync_bulk_seconds))
        self._asked = self._asked and self._repeat_at_once  # the next list answers what was asked during this
        self._repeat_at_once = False
        differ = sum(
            bool(allocation.changes or allocation.list_differs) for allocation in allocations.values()
        )
        self._emit(ResyncFinished(allocations=len(listed), differ=differ, elapsed_seconds=now - begun))

    async def _update_conditions(self, allocations: Mapping[AllocationId, ManagedAllocation]) -> None:
        """Bring every reported condition up to date; in an outage no read would do it."""
        async for allocation in _each(allocations):
            self._update_reported(allocation)

    async def _update_all(self, allocations: Mapping[AllocationId, ManagedAllocation]) -> None:
        await self._update_conditions(allocations)
        self.due_at = self._clock.now() + self._rules.resync_each_seconds

    def _choose_checks(
        self,
        allocations: Mapping[AllocationId, ManagedAllocation],
        begun: Monotonic,
        requeue: Callable[[ManagedAllocation], None],
    ) -> None:
        """Have a few allocations checked by GET that are in sync by the list with this evidence time."""
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
            interval_seconds = self._rules.resync_bulk_seconds
            wait = min(self._backoff(self._failures, None), self._jittered(interval_seconds))
            retry_after = error.retry_after_seconds
            least_wait = 0.0 if retry_after is None else self._backoff(1, retry_after)
            self._retry_after_until, self.due_at = now + least_wait, now + max(wait, least_wait)
            is_late = least_wait > interval_seconds
        if is_late or not self.uses_list:
            await self.fall_back(allocations, requeue)
        elif self.falls_back:
            await self._update_conditions(allocations)
        self._repeat_at_once = False  # a read that was asked for during this list is the next list

    def _jittered(self, seconds: float) -> float:
        return seconds * self._clock.uniform(1 - JITTER, 1 + JITTER)


async def _each(allocations: Mapping[AllocationId, ManagedAllocation]) -> AsyncIterator[ManagedAllocation]:
    """Yield every allocation and let other tasks run in between; those released by then are left out."""
    for index, key in enumerate(list(allocations)):
        if (allocation := allocations.get(key)) is not None:
            yield allocation
        if index % YIELD_EVERY == YIELD_EVERY - 1:
            await asyncio.sleep(0)
