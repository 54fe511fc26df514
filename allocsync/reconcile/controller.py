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
from allocsync.model.desired_state import Generation
from allocsync.model.ids import AllocationId, NotFound
from allocsync.model.intent_record import NOTHING_RESTORED, Restored
from allocsync.planning.change_limit import Limit
from allocsync.reconcile import events
from allocsync.reconcile.allocation.managed_allocation import Lane
from allocsync.reconcile.allocation.updates import State
from allocsync.reconcile.checkpoint import Keeper
from allocsync.reconcile.events import Observer
from allocsync.reconcile.operation import Slot
from allocsync.reconcile.parameters import Rules
from allocsync.reconcile.pause_control import Pauses
from allocsync.reconcile.ports import Api, Clock, Journal
from allocsync.reconcile.reconciler import Cycle
from allocsync.reconcile.resync import BulkPolicy, Resync
from allocsync.reconcile.rollout.change_review import Rails
from allocsync.reconcile.rollout.rollout import Adoption
from allocsync.reconcile.scheduling.concurrency import Limiter
from allocsync.reconcile.scheduling.scheduler import Admission
from allocsync.reconcile.scheduling.work_queue import Queue
from allocsync.reconcile.status import report
from allocsync.reconcile.status.condition_tracker import Board
from allocsync.reconcile.status.controller_status import AllocationStatus, LoopStatus
from allocsync.reconcile.status.explain import Explanation, explain

STALL_SECONDS = 30.0
TICK_SECONDS = 0.001  # no finer: a clock that is a hair short of a due time must not make it spin
IDLE_SECONDS = 10.0  # the dispatcher turns at least this often, so that its silence means something


class Loop:
    """Keeps every allocation of the generation in force in line, until it is stopped."""

    def __init__(
        self,
        *,
        api: Api,
        clock: Clock,
        journal: Journal,
        observer: Observer,
        rules: Rules,
        limits: Mapping[Slot, int],
        backoff: Callable[[int, float | None], float],
        bulk: BulkPolicy,
        restored: Restored = NOTHING_RESTORED,
        drain_seconds: float = 20.0,
        rail: Limit | None = None,
    ) -> None:
        """`limits` are the hard maxima of requests in flight; the limits adapt below them.

        `backoff(failures, retry_after_seconds)` gives the seconds to wait after that many failures.
        `restored` is what an earlier process left: its open intents are unknown from now on, and read back.
        """
        self._clock = clock
        self._emit = observer
        self._rules = rules
        self._drain_seconds = drain_seconds
        self._lanes: dict[AllocationId, Lane] = {}
        self._board = Board(self._emit, clock)
        self._keeper = Keeper(journal, clock, rules, restored)
        self._queue: Queue[AllocationId] = Queue()
        self._limiter: Limiter[AllocationId] = Limiter(limits)
        self._admission = Admission(self._queue, self._limiter, self._lanes)
        self._working: dict[AllocationId, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._stopping = False
        self._turned_at = clock.now()
        self._answered = False
        self._resync = Resync(
            api=api, clock=clock, emit=self._emit, rules=rules, backoff=backoff, policy=bulk, show=self._show
        )
        stops = self._keeper.stops
        self.adoption = Adoption(
            clock=clock,
            emit=self._emit,
            keeper=self._keeper,
            rails=Rails(keeper=self._keeper, limit=rail or Limit(), rules=rules, stops=stops),
            lanes=self._lanes,
            shown=self._board.shown,
            admission=self._admission,
            first_look_at=self._resync.first_look_at,
            place=self._place,
            wake=self._changed.set,
        )
        self._cycle = Cycle(
            api=api,
            clock=clock,
            journal=journal,
            emit=self._emit,
            rules=rules,
            admission=self._admission,
            backoff=backoff,
            keeper=self._keeper,
            resync_seconds=self._resync.next_look_seconds,
            generation=lambda: self.adoption.digest,
            stopping=lambda: self._stopping,
        )
        self.pauses = Pauses(
            keeper=self._keeper,
            clock=clock,
            emit=self._emit,
            lanes=self._lanes,
            place=self._place,
            wake=self._changed.set,
        )
        for lane in self._keeper.left_open():
            self._lanes[lane.id] = lane
            self._place(lane)

    def journal_works(self) -> None:
        """The journal can be written again: what waited for that is looked at now."""
        for lane in list(self._lanes.values()):
            if lane.recordable(self._clock.now()) and lane.id not in self._working:
                self._place(lane)
        self._changed.set()

    # What is wanted.

    def adopt(self, generation: Generation, *, approved: bool = False, whole: bool = True) -> None:
        """Put a generation in force at once, as far as the rail lets it; see `Adoption.adopt`."""
        self.adoption.adopt(generation, approved=approved, whole=whole)

    def conclude(self) -> None:
        """Nothing more comes: if all is settled now, it is what the next generation is compared with."""
        self.adoption.tend(settled=self._board.nothing_to_do(), least_seconds=0.0)

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
        self.pauses.tend()
        self.adoption.tend(settled=self._board.nothing_to_do())
        if self._resync.due(now) and self.adoption.generation is not None:
            self._resync.start(group, self._lanes, place=self._place, finished=self._changed.set)
        for lane, slot, probe in self._admission.admit(now, self._clock.uniform):
            self._working[lane.id] = group.create_task(self._work(lane, slot), name=f"{slot} {lane.id}")
            if probe:
                self._emit(events.ProbeStarted(allocation=lane.id, operation=slot))

    async def _wait(self) -> None:
        now = self._clock.now()
        resync_at = inf if self.adoption.generation is None else self._resync.at
        due_at = min(self._admission.next_at(now), resync_at)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(TICK_SECONDS, min(due_at - now, IDLE_SECONDS))):
                await self._changed.wait()

    async def _work(self, lane: Lane, slot: Slot) -> None:
        try:
            self.adoption.canaries.begun(lane.id)
            shown = await self._cycle.run(lane, slot)
            self._resync.looked(lane, shown=shown)
            self.adoption.canaries.looked(lane, shown=shown)
            self._answered = True
        finally:
            del self._working[lane.id]
            self._queue.done(lane.id)
            self._place(lane)
            self._changed.set()

    async def _drain(self) -> None:
        self._resync.cancel()
        if tasks := list(self._working.values()):
            await asyncio.wait(tasks, timeout=self._drain_seconds)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        open_intents = sum(lane.intent is not None for lane in self._lanes.values())
        self._emit(events.Stopped(open_intents=open_intents))

    def _place(self, lane: Lane) -> None:
        """Put a lane where it belongs in the queue, or let it go; and tell when its condition changed."""
        if lane.state in {State.IDLE, State.SETTLING}:
            disowned = lane.desired is None and lane.intent is None and not lane.problems
            if disowned and lane.id not in self._working:
                self._keeper.keep(lane)  # to be disowned is an edit too
                del self._lanes[lane.id]
                self._admission.forget(lane.id, self._clock.now(), self._clock.uniform)
                self._board.drop(lane.id)
                return
            self._queue.schedule(lane.id, lane.turn())
        self._show(lane)

    def _show(self, lane: Lane) -> None:
        """Tell when a lane's condition changed."""
        self._board.show(lane, resync_seconds=self._resync.interval_seconds, lanes=len(self._lanes))
        self.adoption.canaries.placed(lane.id)

    # What it says of itself.

    def settled(self) -> bool:
        """Whether nothing is unknown or under way any more; what cannot be in sync has said why."""
        failing = (
            lane
            for key, lane in self._lanes.items()
            if self._board.shown[key].condition is Condition.FAILING and not lane.restraint.terminal
        )
        return not self._board.unsettled() and not self._working and next(failing, None) is None

    def allocations(self) -> Iterator[AllocationStatus]:
        """Every allocation as it is now, sorted by id; those that go while this is read are left out."""
        return report.allocations(self._lanes, self._board.shown, self._moment())

    def explain(self, name: str) -> Explanation | NotFound:
        """One allocation, by its id or the beginning of it: all that is known of it now."""
        return explain(name, self._lanes, self._board.shown, self._moment())

    def sync(self) -> int:
        """Look at everything now, as a resync would; returns how many allocations that is."""
        self._resync.hurry(self._lanes, self._place)
        self._changed.set()
        return len(self._lanes)

    def _moment(self) -> report.Moment:
        return report.Moment(
            now=self._clock.now(),
            wall=self._clock.wall(),
            resync_seconds=self._resync.interval_seconds,
            bulk_at=self._resync.bulk_at,
        )

    def status(self) -> LoopStatus:
        """The loop as it is now."""
        now, ruling = self._clock.now(), self.adoption.ruling
        return LoopStatus(
            revision=self.adoption.digest or None,
            active_revision=self.adoption.active,
            active_since=self.adoption.active_since,
            conditions=dict(self._board.counts),
            open_intents=sum(lane.intent is not None for lane in self._lanes.values()),
            settle_seconds=self._keeper.settle.seconds(now),
            queued={slot.value: self._queue.due(slot, now) for slot in Slot},
            in_flight={slot.value: slots.in_flight for slot, slots in self._limiter.slots.items()},
            slow={slot.value: len(slots.slow) for slot, slots in self._limiter.slots.items()},
            limits={slot.value: int(slots.limit) for slot, slots in self._limiter.slots.items()},
            most={slot.value: slots.most for slot, slots in self._limiter.slots.items()},
            breakers_open={slot.value: slots.breaker.open for slot, slots in self._limiter.slots.items()},
            last_full_read=self._last_full_read(),
            first_answer_seen=self._answered or self._resync.answered,
            stalled=self._stalled(now),
            stopping=self._stopping,
            changes=ruling.changes if ruling else 0,
            held_reason=ruling.reason if ruling else "",
            held_since=self.adoption.held_since,
            canaries=self.adoption.canaries.verified(),
            pauses=self.pauses.ends(),
        )

    def _last_full_read(self) -> float | None:
        """Since when (wall clock) every allocation has been looked at, as far as looks succeed."""
        if self._resync.bulk and not self._resync.failing:
            return self._resync.finished_at
        return report.looked_at(self._lanes, self._moment())

    def _stalled(self, now: float) -> str | None:
        lag = now - self._turned_at - IDLE_SECONDS
        if lag > STALL_SECONDS:
            return f"the dispatcher has not turned for {lag + IDLE_SECONDS:.0f} s"
        overdue = now - self._cycle.earliest_deadline()
        if overdue > STALL_SECONDS:
            return f"a request has outlived its deadline by {overdue:.0f} s"
        return None
