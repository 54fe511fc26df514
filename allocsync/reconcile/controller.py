"""The controller: admits what is due, starts a reconcile for it, and puts it back into the queue.

There are one dispatcher and one task for each allocation that is being reconciled. The dispatcher waits for
the next due time or for a change, and never for a request. The packages `allocation`, `scheduling` and
`rollout` make every decision; this module calls them in order and emits events.

The rules: an allocation has at most one request in flight. An intent is in the journal before its update is
sent, and the update is checked once more just before that. A stop admits nothing new, waits for the requests
in flight, and leaves those that have not ended by then as open intents.

Left out: the steps of one reconcile (`reconciler`) and the read of all allocations at once (`resync`).
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from allocsync.model.condition import Condition
from allocsync.model.desired_state import Revision
from allocsync.model.ids import AllocationId, NotFound, find
from allocsync.model.intent_record import NOTHING_RESTORED, Restored
from allocsync.model.times import LONG_AGO, NEVER, Monotonic, WallTime
from allocsync.planning.change_limit import DIGITS, ChangeLimit
from allocsync.reconcile import events
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.updates import State
from allocsync.reconcile.api_health import ApiHealth
from allocsync.reconcile.cached_reads import CachedReads
from allocsync.reconcile.checkpoint import Checkpoint
from allocsync.reconcile.events import Observer
from allocsync.reconcile.operation import Operation
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.pause_control import PauseControl, scope_of
from allocsync.reconcile.ports import Api, Clock, Journal
from allocsync.reconcile.reconciler import Reconciler
from allocsync.reconcile.resync import BulkPolicy, Resync
from allocsync.reconcile.rollout.change_review import ChangeReviewer
from allocsync.reconcile.rollout.declarations import Declarations
from allocsync.reconcile.rollout.rollout import Rollout
from allocsync.reconcile.scheduling.concurrency import ConcurrencyLimits
from allocsync.reconcile.scheduling.scheduler import Scheduler
from allocsync.reconcile.scheduling.work_queue import WorkQueue
from allocsync.reconcile.status import report
from allocsync.reconcile.status.condition_tracker import ConditionTracker
from allocsync.reconcile.status.controller_status import AllocationStatus, ApiStatus, ControllerStatus
from allocsync.reconcile.status.explain import Explanation, explain

STALL_SECONDS = 30.0
DRAIN_SECONDS = 20.0  # the longest wait for requests in flight after a stop
TICK_SECONDS = 0.001  # the least wait: a clock just short of a due time must not make the dispatcher spin
IDLE_SECONDS = 10.0  # the dispatcher runs at least this often, so that a longer gap is a stall


class Controller:
    """Keeps every allocation of the active revision in sync, until it is stopped."""

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
        rejection_backoff: Callable[[int, float | None], float] | None = None,
        bulk: BulkPolicy,
        restored: Restored = NOTHING_RESTORED,
        drain_seconds: float = DRAIN_SECONDS,
        change_limit: ChangeLimit | None = None,
    ) -> None:
        """`limits` are the most requests in flight of each operation; the current limits adapt below them.

        `backoff(failures, retry_after_seconds)` returns how many seconds to wait after that many failures in
        a row; `rejection_backoff`, if given, after a rejection that says neither when nor what to change.
        `restored` is what an earlier process saved; the outcome of its open intents is unknown, and a
        read-back follows. `drain_seconds` is the longest wait for requests in flight after a stop.
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
        self._reconciling: dict[AllocationId, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._stopping = False
        self._dispatched_at = clock.now()
        self._answered = False
        self._observed_revision: str | None = None  # the newest that every allocation was compared with
        cached_reads = CachedReads(clock=clock, emit=self._emit)
        self._api_health = ApiHealth(
            clock=clock,
            emit=self._emit,
            allocations=self._allocations,
            heartbeat_seconds=rules.heartbeat_seconds,
            on_recovered=self._on_recovered,
        )
        self._resync = Resync(
            api=api,
            api_health=self._api_health,
            clock=clock,
            emit=self._emit,
            cached_reads=cached_reads,
            rules=rules,
            backoff=backoff,
            policy=bulk,
            update_reported=self._update_reported,
            save=self._checkpoint.save,
        )
        declarations = Declarations(self._checkpoint)
        self.rollout = Rollout(
            clock=clock,
            emit=self._emit,
            declarations=declarations,
            reviewer=ChangeReviewer(
                declarations=declarations,
                limit=change_limit or ChangeLimit(),
                rules=rules,
                write_gate=self._checkpoint.write_gate,
            ),
            allocations=self._allocations,
            manage=self._manage,
            reported=self._conditions.reported,
            scheduler=self._scheduler,
            first_read_at=self._resync.first_read_at,
            requeue=self._requeue,
            wake_dispatcher=self._changed.set,
        )
        self._reconciler = Reconciler(
            api=api,
            clock=clock,
            journal=journal,
            emit=self._emit,
            cached_reads=cached_reads,
            rules=rules,
            scheduler=self._scheduler,
            backoff=backoff,
            rejection_backoff=rejection_backoff or backoff,
            checkpoint=self._checkpoint,
            resync_seconds=self._resync.next_read_in_seconds,
            revision=lambda: self.rollout.revision_id,
            stopping=lambda: self._stopping,
            api_health=self._api_health,
            on_update_begun=self._report_drift,
        )
        self.pauses = PauseControl(
            checkpoint=self._checkpoint,
            clock=clock,
            emit=self._emit,
            allocations=self._allocations,
            requeue=self._requeue,
            wake_dispatcher=self._changed.set,
        )
        for allocation in self._checkpoint.allocations_with_open_intents():
            self._allocations[allocation.id] = allocation
            self._requeue(allocation)

    def journal_works(self) -> None:
        """Queue a read of each allocation whose update waited for the journal, which can be written again."""
        for allocation in list(self._allocations.values()):
            if allocation.journal_available(self._clock.now()) and allocation.id not in self._reconciling:
                self._requeue(allocation)
        self._changed.set()

    def retry(self, name: str | None, by: str = "") -> int | NotFound:
        """Try again what is delayed: of one allocation, or of all if `name` is None.

        Field records, backoffs and rejections are forgotten; a read is due at once, or when Retry-After ends.
        `name` is an id or a unique beginning of one; `by` is who asks, for the log. Return the number of
        allocations, or NotFound if no declared allocation has that name.
        """
        key = None if name is None else find(name, self._allocations)
        if isinstance(key, NotFound):
            return key
        self._emit(events.RetryRequested(allocation=key, scope=scope_of(key), by=by))
        affected = [each for each in self._allocations.values() if key in {None, each.id}]
        for allocation in affected:
            allocation.retry(self._clock.now())
            self._checkpoint.save(allocation)
            if allocation.id not in self._reconciling:
                self._requeue(allocation)
        self._changed.set()
        return len(affected)

    # Revisions.

    def activate(self, revision: Revision, *, approved: bool = False, whole: bool = True) -> None:
        """Activate a revision at once, as far as the change limit allows; see `Rollout.activate`."""
        self.rollout.activate(revision, approved=approved, whole=whole)

    def conclude(self) -> None:
        """Make the active revision the baseline now if all allocations are settled.

        Only for a run that gets no further revision; otherwise the baseline advances by itself.
        """
        self.rollout.tick(settled=self._conditions.all_settled(), least_seconds=0.0)

    # Running.

    async def run(self) -> None:
        """Run until `stop`; then wait at most `drain_seconds` for the requests in flight and cancel the rest.

        The intent of a cancelled update stays open.
        """
        async with asyncio.TaskGroup() as group:
            while not self._stopping:
                self._dispatch(group)
                await self._wait()
            await self._drain()

    def stop(self) -> None:
        """Make `run` admit nothing new and return; does not wait for it.

        It may be called repeatedly and from a signal handler of the event loop.
        """
        if not self._stopping:
            self._stopping = True
            self._emit(events.Stopping(in_flight=len(self._reconciling)))
        self._changed.set()

    def _dispatch(self, group: asyncio.TaskGroup) -> None:
        now = self._dispatched_at = self._clock.now()
        self._changed.clear()
        self.pauses.tick()
        self.rollout.tick(settled=self._conditions.all_settled())
        self._observe_revision()
        if self.rollout.revision is not None:
            self._read_periodically(group, now)
        for allocation, operation, probe in self._scheduler.admit(now, self._clock.uniform):
            self._reconciling[allocation.id] = group.create_task(
                self._reconcile(allocation, operation), name=f"{operation} {allocation.id}"
            )
            if probe:
                self._emit(events.ProbeStarted(allocation=allocation.id, operation=operation))

    def _read_periodically(self, group: asyncio.TaskGroup, now: Monotonic) -> None:
        """Start what is due of resync, fallback, sync and heartbeat."""
        if now >= self._resync.sync_at:
            self._resync.sync(self._allocations, self._requeue)
        if self._resync.is_due(now):
            self._resync.start(group, self._allocations, requeue=self._requeue, finished=self._changed.set)
        if self._resync.is_fall_back_due(now):
            self._resync.start_fall_back(
                group, self._allocations, requeue=self._requeue, finished=self._changed.set
            )
        self._api_health.tick(self._requeue)

    def _observe_revision(self) -> str | None:
        """Return the newest revision that every allocation has been compared with."""
        if self.rollout.revision is not None and self._conditions.all_compared():
            self._observed_revision = self.rollout.revision.id
        return self._observed_revision

    def _on_recovered(self) -> None:
        """The API answers again: request the list and retry failed reads soon, whatever their backoff."""
        self._resync.retry_list()
        self._scheduler.retry_reads(self._clock.now(), self._clock.uniform)
        self._changed.set()

    async def _wait(self) -> None:
        # What became due since the dispatch began has not been admitted yet: it must end the wait at once.
        due_at = self._scheduler.next_at(self._dispatched_at)
        if self.rollout.revision is not None:
            due_at = min(due_at, self._resync.next_at, self._api_health.reachability.heartbeat_at)
        seconds = due_at - self._clock.now()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(TICK_SECONDS, min(seconds, IDLE_SECONDS))):
                await self._changed.wait()

    async def _reconcile(self, allocation: ManagedAllocation, operation: Operation) -> None:
        try:
            self.rollout.canaries.on_begin(allocation.id)
            observed = await self._reconciler.reconcile(allocation, operation)
            self._resync.on_read(allocation, reported=observed)
            self.rollout.canaries.on_end(allocation, observed=observed)
            self._answered = True
        finally:
            del self._reconciling[allocation.id]
            self._queue.done(allocation.id)
            self._requeue(allocation)
            self._changed.set()

    async def _drain(self) -> None:
        self._resync.cancel()
        if tasks := list(self._reconciling.values()):
            await asyncio.wait(tasks, timeout=self._drain_seconds)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        open_intents = sum(allocation.intent is not None for allocation in self._allocations.values())
        self._emit(events.Stopped(open_intents=open_intents))

    def _manage(self, key: AllocationId) -> ManagedAllocation:
        """Add an allocation, with what the checkpoint has of it; `_requeue` must follow in the same step."""
        allocation = self._allocations[key] = self._checkpoint.create_allocation(key)
        return allocation

    def _requeue(self, allocation: ManagedAllocation) -> None:
        """Queue an allocation by its queue entry, or release it; emit its condition if that has changed."""
        if allocation.state in {State.IDLE, State.SETTLING}:
            released = allocation.desired is None and allocation.intent is None and not allocation.problems
            if released and allocation.id not in self._reconciling:
                self._checkpoint.save(allocation)  # the release is an edit too
                del self._allocations[allocation.id]
                self._scheduler.forget(allocation.id, self._clock.now(), self._clock.uniform)
                self._api_health.forget(allocation.id)
                self._conditions.forget(allocation.id)
                return
            self._queue.schedule(allocation.id, allocation.queue_entry())
        self._update_reported(allocation)

    def _update_reported(self, allocation: ManagedAllocation) -> None:
        """Emit the condition of an allocation if it has changed."""
        self._conditions.update_reported(
            allocation, resync_seconds=self._resync.interval_seconds, allocations=len(self._allocations)
        )
        self.rollout.canaries.on_condition(allocation.id)

    def _report_drift(self, allocation: ManagedAllocation) -> None:
        """Emit that an allocation is no longer in sync when its update begins, which may take a minute."""
        if self._conditions.reported[allocation.id].condition is Condition.IN_SYNC:
            self._update_reported(allocation)

    # Status.

    def settled(self) -> bool:
        """Whether no reconcile runs and no allocation has a condition that a retry or a read may soon end.

        These are OutcomeUnknown, Pending (except because of a pause), and Failing unless the body was
        rejected for good. All others, such as Blocked and Conflict, count as settled.
        """
        failing = (
            allocation
            for key, allocation in self._allocations.items()
            if self._conditions.reported[key].condition is Condition.FAILING
            and not allocation.write_backoff.terminal
        )
        return (
            not self._conditions.unsettled_count() and not self._reconciling and next(failing, None) is None
        )

    def allocations(self) -> Iterator[AllocationStatus]:
        """Yield every allocation as it is now, sorted by id; one that is released meanwhile is left out."""
        return report.statuses(self._allocations, self._conditions.reported, self._moment())

    def explain(self, name: str) -> Explanation | NotFound:
        """Return everything known now of one allocation, named by its id or a unique beginning of it."""
        return explain(name, self._allocations, self._conditions.reported, self._moment())

    def sync(self) -> int:
        """Request a read of everything and return at once; return the number of managed allocations.

        See `Resync.request_sync`.
        """
        self._resync.request_sync()
        self._changed.set()
        return len(self._allocations)

    def _moment(self) -> report.Moment:
        now = self._clock.now()
        return report.Moment(
            now=now,
            wall=self._clock.wall(),
            resync_seconds=self._resync.interval_seconds,
            list_read_at=self._resync.next_list_at if self._resync.list_covers else NEVER,
            blocked_until={
                operation: self._concurrency.wait_until(operation, now) for operation in Operation
            },
            probing=self._concurrency.is_probing(Operation.READ),
            awaiting_revision=self.rollout.revision_id[:DIGITS],
        )

    def api_status(self) -> ApiStatus:
        """Return whether the API is reachable, since when, and when it is tried next."""
        now = self._clock.now()
        found, moment = self._api_health.reachability, self._moment()
        return ApiStatus(
            reachable=found.reachable,
            since=moment.at(found.since),
            reason=found.reason,
            last_confirmed_at=moment.at(found.confirmed_at),
            next_attempt_at=moment.at(self._next_attempt_at(now)),
        )

    def _next_attempt_at(self, now: Monotonic) -> Monotonic:
        """When the next request to the API is due (monotonic): now if one is in flight."""
        if self._reconciling or self._resync.is_running:
            return now
        until = self._concurrency.wait_until(Operation.READ, now)
        blocked_until = LONG_AGO if until is None or until == NEVER else until
        read_at = min(self._scheduler.next_at(now), self._api_health.reachability.heartbeat_at)
        return max(now, min(max(read_at, blocked_until), self._resync.next_at))

    def status(self) -> ControllerStatus:
        """Return the state of the controller now."""
        now, review = self._clock.now(), self.rollout.review
        return ControllerStatus(
            revision=self.rollout.revision_id or None,
            observed_revision=self._observe_revision(),
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
            max_in_flight={
                operation.value: limits.maximum for operation, limits in self._concurrency.limits.items()
            },
            breakers_open={
                operation.value: limits.breaker.open for operation, limits in self._concurrency.limits.items()
            },
            last_full_read=self._last_full_read(),
            resync_seconds=self._resync.interval_seconds,
            first_answer_seen=self._answered or self._resync.list_answered,
            stalled=self._stalled(now),
            stopping=self._stopping,
            api=self.api_status(),
            changes=review.changes if review else 0,
            awaiting_reason=review.reason if review else "",
            awaiting_since=self.rollout.awaiting_since,
            canaries=self.rollout.canaries.verified(),
            pauses=self.pauses.ends(),
            oldest_unconverged_at=self._moment().at(self._conditions.convergence.oldest_at()),
            oldest_conditions=self._conditions.oldest(),
            held_back={str(by): count for by, count in self._conditions.convergence.held_back.items()},
        )

    def _last_full_read(self) -> WallTime | None:
        """Return when (Unix seconds) the list was read, or `all_read_since` if it fails or is not used."""
        if self._resync.list_covers:
            return self._resync.finished_at
        return report.all_read_since(self._allocations, self._moment())

    def _stalled(self, now: Monotonic) -> str | None:
        lag = now - self._dispatched_at - IDLE_SECONDS
        if lag > STALL_SECONDS:
            return f"the dispatcher has not run for {lag + IDLE_SECONDS:.0f} s"
        overdue = now - self._reconciler.earliest_deadline()
        if overdue > STALL_SECONDS:
            return f"a request has outlived its deadline by {overdue:.0f} s"
        return None
