"""The loop: takes what is due, gives it a slot, and carries out what its lane decides.

One dispatcher and one task per allocation at work; nothing here sleeps while it holds a slot. The dispatcher
waits for the next due time or for news, and never for a request. Every decision is made by pure parts (lane,
queue, limiter); this file only asks them, in this order, and tells what happened.

The rules: one request at a time for one allocation; an intent is in the journal before its update leaves; a
check is repeated just before sending; a stop admits nothing new, waits, and then leaves what is still under
way as an open intent.

Left out: how a pass over one allocation goes (`cycle`) and the pass over all of them at once (`resync`).
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from math import inf

from allocsync.model.condition import Condition
from allocsync.model.desired_state import Revision
from allocsync.model.ids import AllocationId, NotFound
from allocsync.model.intent_record import NOTHING_RESTORED, Restored
from allocsync.planning.change_limit import ChangeLimit
from allocsync.reconcile import events
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.updates import State
from allocsync.reconcile.checkpoint import Checkpoint
from allocsync.reconcile.events import Observer
from allocsync.reconcile.operation import Operation
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.pause_control import PauseControl
from allocsync.reconcile.ports import Api, Clock, Journal
from allocsync.reconcile.reconciler import Reconciler
from allocsync.reconcile.resync import BulkPolicy, Resync
from allocsync.reconcile.rollout.change_review import ChangeReviewer
from allocsync.reconcile.rollout.rollout import Rollout
from allocsync.reconcile.scheduling.concurrency import ConcurrencyLimits
from allocsync.reconcile.scheduling.scheduler import Scheduler
from allocsync.reconcile.scheduling.work_queue import WorkQueue
from allocsync.reconcile.status import report
from allocsync.reconcile.status.condition_tracker import ConditionTracker
from allocsync.reconcile.status.controller_status import AllocationStatus, ControllerStatus
from allocsync.reconcile.status.explain import Explanation, explain

STALL_SECONDS = 30.0
TICK_SECONDS = 0.001  # no finer: a clock that is a hair short of a due time must not make it spin
IDLE_SECONDS = 10.0  # the dispatcher turns at least this often, so that its silence means something


class Controller:
    """Keeps every allocation of the generation in force in line, until it is stopped."""

    def __init__(
        self,
        *,
        api: Api,
        clock: Clock,
        journal: Journal,
        observer: Observer,
        rules: Parameters,
        limits: Mapping[Operation, int],
        backoff: Callable[[int, float | None], float],
        bulk: BulkPolicy,
        restored: Restored = NOTHING_RESTORED,
        drain_seconds: float = 20.0,
        change_limit: ChangeLimit | None = None,
    ) -> None:
        """`limits` are the hard maxima of requests in flight; the limits adapt below them.

        `backoff(failures, retry_after_seconds)` gives the seconds to wait after that many failures.
        `restored` is what an earlier process left: its open intents are unknown from now on, and read back.
        """
        self._clock = clock
        self._emit = observer
        self._rules = rules
        self._drain_seconds = drain_seconds
        self._allocations: dict[AllocationId, ManagedAllocation] = {}
        self._conditions = ConditionTracker(self._emit, clock)
        self._checkpoint = Checkpoint(journal, clock, rules, restored)
        self._queue: WorkQueue[AllocationId] = WorkQueue()
        self._concurrency: ConcurrencyLimits[AllocationId] = ConcurrencyLimits(limits)
        self._scheduler = Scheduler(self._queue, self._concurrency, self._allocations)
        self._working: dict[AllocationId, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._stopping = False
        self._turned_at = clock.now()
        self._answered = False
        self._resync = Resync(
            api=api,
            clock=clock,
            emit=self._emit,
            rules=rules,
            backoff=backoff,
            policy=bulk,
            update_reported=self._update_reported,
        )
        write_gate = self._checkpoint.write_gate
        self.rollout = Rollout(
            clock=clock,
            emit=self._emit,
            checkpoint=self._checkpoint,
            reviewer=ChangeReviewer(
                checkpoint=self._checkpoint,
                limit=change_limit or ChangeLimit(),
                rules=rules,
                write_gate=write_gate,
            ),
            allocations=self._allocations,
            reported=self._conditions.reported,
            admission=self._scheduler,
            first_read_at=self._resync.first_read_at,
            requeue=self._requeue,
            wake=self._changed.set,
        )
        self._reconciler = Reconciler(
            api=api,
            clock=clock,
            journal=journal,
            emit=self._emit,
            rules=rules,
            admission=self._scheduler,
            backoff=backoff,
            checkpoint=self._checkpoint,
            resync_seconds=self._resync.next_read_in_seconds,
            revision=lambda: self.rollout.revision_id,
            stopping=lambda: self._stopping,
        )
        self.pauses = PauseControl(
            checkpoint=self._checkpoint,
            clock=clock,
            emit=self._emit,
            allocations=self._allocations,
            requeue=self._requeue,
            wake=self._changed.set,
        )
        for allocation in self._checkpoint.left_open():
            self._allocations[allocation.id] = allocation
            self._requeue(allocation)

    def journal_works(self) -> None:
        """The journal can be written again: what waited for that is looked at now."""
        for allocation in list(self._allocations.values()):
            if allocation.recordable(self._clock.now()) and allocation.id not in self._working:
                self._requeue(allocation)
        self._changed.set()

    # What is wanted.

    def activate(self, revision: Revision, *, approved: bool = False, whole: bool = True) -> None:
        """Put a generation in force at once, as far as the rail lets it; see `Adoption.adopt`."""
        self.rollout.activate(revision, approved=approved, whole=whole)

    def conclude(self) -> None:
        """Nothing more comes: if all is settled now, it is what the next generation is compared with."""
        self.rollout.tick(settled=self._conditions.nothing_to_do(), least_seconds=0.0)

    # Running.

    async def run(self) -> None:
        """Run until `stop`; ends within the drain time after that, whatever is under way."""
        async with asyncio.TaskGroup() as group:
            while not self._stopping:
                self._dispatch(group)
                await self._wait()
            await self._drain()

    def stop(self) -> None:
        """Admit nothing more and end. Safe to call more than once and from a signal handler of the loop."""
        if not self._stopping:
            self._stopping = True
            self._emit(events.Stopping(in_flight=len(self._working)))
        self._changed.set()

    def _dispatch(self, group: asyncio.TaskGroup) -> None:
        now = self._turned_at = self._clock.now()
        self._changed.clear()
        self.pauses.tick()
        self.rollout.tick(settled=self._conditions.nothing_to_do())
        if self._resync.is_due(now) and self.rollout.revision is not None:
            self._resync.start(group, self._allocations, requeue=self._requeue, finished=self._changed.set)
        for allocation, operation, probe in self._scheduler.admit(now, self._clock.uniform):
            self._working[allocation.id] = group.create_task(
                self._work(allocation, operation), name=f"{operation} {allocation.id}"
            )
            if probe:
                self._emit(events.ProbeStarted(allocation=allocation.id, operation=operation))

    async def _wait(self) -> None:
        now = self._clock.now()
        resync_at = inf if self.rollout.revision is None else self._resync.due_at
        due_at = min(self._scheduler.next_at(now), resync_at)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(TICK_SECONDS, min(due_at - now, IDLE_SECONDS))):
                await self._changed.wait()

    async def _work(self, allocation: ManagedAllocation, operation: Operation) -> None:
        try:
            self.rollout.canaries.begun(allocation.id)
            reported = await self._reconciler.run(allocation, operation)
            self._resync.on_read(allocation, reported=reported)
            self.rollout.canaries.on_read(allocation, reported=reported)
            self._answered = True
        finally:
            del self._working[allocation.id]
            self._queue.done(allocation.id)
            self._requeue(allocation)
            self._changed.set()

    async def _drain(self) -> None:
        self._resync.cancel()
        if tasks := list(self._working.values()):
            await asyncio.wait(tasks, timeout=self._drain_seconds)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        open_intents = sum(allocation.intent is not None for allocation in self._allocations.values())
        self._emit(events.Stopped(open_intents=open_intents))

    def _requeue(self, allocation: ManagedAllocation) -> None:
        """Put a lane where it belongs in the queue, or let it go; and tell when its condition changed."""
        if allocation.state in {State.IDLE, State.SETTLING}:
            disowned = allocation.desired is None and allocation.intent is None and not allocation.problems
            if disowned and allocation.id not in self._working:
                self._checkpoint.save(allocation)  # to be disowned is an edit too
                del self._allocations[allocation.id]
                self._scheduler.forget(allocation.id, self._clock.now(), self._clock.uniform)
                self._conditions.drop(allocation.id)
                return
            self._queue.schedule(allocation.id, allocation.queue_entry())
        self._update_reported(allocation)

    def _update_reported(self, allocation: ManagedAllocation) -> None:
        """Tell when a lane's condition changed."""
        self._conditions.update_reported(
            allocation, resync_seconds=self._resync.interval_seconds, allocations=len(self._allocations)
        )
        self.rollout.canaries.placed(allocation.id)

    # What it says of itself.

    def settled(self) -> bool:
        """Whether nothing is unknown or under way any more; what cannot be in sync has said why."""
        failing = (
            allocation
            for key, allocation in self._allocations.items()
            if self._conditions.reported[key].condition is Condition.FAILING
            and not allocation.write_backoff.terminal
        )
        return not self._conditions.unsettled() and not self._working and next(failing, None) is None

    def allocations(self) -> Iterator[AllocationStatus]:
        """Every allocation as it is now, sorted by id; those that go while this is read are left out."""
        return report.statuses(self._allocations, self._conditions.reported, self._moment())

    def explain(self, name: str) -> Explanation | NotFound:
        """One allocation, by its id or the beginning of it: all that is known of it now."""
        return explain(name, self._allocations, self._conditions.reported, self._moment())

    def sync(self) -> int:
        """Look at everything now, as a resync would; returns how many allocations that is."""
        self._resync.resync_soon(self._allocations, self._requeue)
        self._changed.set()
        return len(self._allocations)

    def _moment(self) -> report.Moment:
        return report.Moment(
            now=self._clock.now(),
            wall=self._clock.wall(),
            resync_seconds=self._resync.interval_seconds,
            bulk_at=self._resync.next_list_at,
        )

    def status(self) -> ControllerStatus:
        """The loop as it is now."""
        now, review = self._clock.now(), self.rollout.review
        return ControllerStatus(
            revision=self.rollout.revision_id or None,
            active_revision=self.rollout.active,
            active_since=self.rollout.active_since,
            conditions=dict(self._conditions.counts),
            open_intents=sum(allocation.intent is not None for allocation in self._allocations.values()),
            settle_seconds=self._checkpoint.settle_time.seconds(now),
            queued={operation.value: self._queue.count_due(operation, now) for operation in Operation},
            in_flight={
                operation.value: limits.in_flight for operation, limits in self._concurrency.limits.items()
            },
            slow={
                operation.value: len(limits.slow) for operation, limits in self._concurrency.limits.items()
            },
            limits={
                operation.value: int(limits.limit) for operation, limits in self._concurrency.limits.items()
            },
            most={operation.value: limits.maximum for operation, limits in self._concurrency.limits.items()},
            breakers_open={
                operation.value: limits.breaker.open for operation, limits in self._concurrency.limits.items()
            },
            last_full_read=self._last_full_read(),
            first_answer_seen=self._answered or self._resync.list_answered,
            stalled=self._stalled(now),
            stopping=self._stopping,
            changes=review.changes if review else 0,
            awaiting_reason=review.reason if review else "",
            awaiting_since=self.rollout.awaiting_since,
            canaries=self.rollout.canaries.verified(),
            pauses=self.pauses.ends(),
        )

    def _last_full_read(self) -> float | None:
        """Since when (wall clock) every allocation has been looked at, as far as looks succeed."""
        if self._resync.uses_list and not self._resync.is_failing:
            return self._resync.finished_at
        return report.all_read_since(self._allocations, self._moment())

    def _stalled(self, now: float) -> str | None:
        lag = now - self._turned_at - IDLE_SECONDS
        if lag > STALL_SECONDS:
            return f"the dispatcher has not turned for {lag + IDLE_SECONDS:.0f} s"
        overdue = now - self._reconciler.earliest_deadline()
        if overdue > STALL_SECONDS:
            return f"a request has outlived its deadline by {overdue:.0f} s"
        return None
