"""Tells when the API becomes unreachable and reachable again, and reads two allocations as a heartbeat.

The rules: whether the API is reachable is decided in one place, `scheduling.reachability`, from all requests:
reads, updates and the list. A change is emitted once. A heartbeat reads the allocations that were read the
longest ago. Those whose latest request succeeded go first, because only they can show that the API has
failed; missing ones go last, because they are probed slowly. While the circuit breaker of reads is open, they
are due and wait for a probe; so a probe is never left to allocations that always fail.

Left out: the requests themselves (`reconciler`, `resync`), and when they go (`scheduling`).
"""

from collections.abc import Callable, Collection, Mapping
from heapq import nsmallest

from allocsync.model.api_answers import Failed, Live, Missing, Snapshot, UpdateAnswer
from allocsync.model.desired_state import Mode
from allocsync.model.ids import AllocationId
from allocsync.model.times import Monotonic, clock_offset_seconds, to_wall_time
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.updates import State
from allocsync.reconcile.events import ApiReachable, ApiUnreachable, Observer
from allocsync.reconcile.ports import Clock
from allocsync.reconcile.scheduling.reachability import HEARTBEAT_READS, Reachability
from allocsync.reconcile.scheduling.response_class import ResponseClass, classify_response

_TOO_MANY_REQUESTS = 429


class ApiHealth:
    """Keeps `reachability`, which is read-only for others."""

    def __init__(
        self,
        *,
        clock: Clock,
        emit: Observer,
        allocations: Mapping[AllocationId, ManagedAllocation],
        heartbeat_seconds: float,
        on_recovered: Callable[[], None],
    ) -> None:
        """`on_recovered` is called when an outage has ended."""
        self._clock = clock
        self._emit = emit
        self._allocations = allocations
        self._on_recovered = on_recovered
        self.reachability = Reachability(
            heartbeat_seconds=heartbeat_seconds, heartbeat_at=clock.now() + heartbeat_seconds
        )

    def record_response(
        self, key: AllocationId, answer: Snapshot | UpdateAnswer, *, begun: Monotonic
    ) -> None:
        """A GET or a POST of this allocation, which began at `begun` (monotonic), has ended."""
        response_class = classify_response(answer)
        if response_class is None:
            return  # nothing was sent
        if response_class is ResponseClass.SERVED or getattr(answer, "status", None) == _TOO_MANY_REQUESTS:
            self._record_success(key)
            return
        is_read = isinstance(answer, Live | Missing | Failed)
        if self.reachability.record_failure(
            key,
            getattr(answer, "reason", ""),
            is_read=is_read,
            begun=begun,
            now=self._clock.now(),
            key_count=sum(_is_read(each) or each.intent is not None for each in self._allocations.values()),
        ):
            offset_seconds = clock_offset_seconds(self._clock.wall(), self._clock.now())
            since = to_wall_time(self.reachability.since, offset_seconds)
            self._emit(ApiUnreachable(reason=self.reachability.reason, since=since))

    def list_answered(self) -> None:
        """The list was read completely."""
        self._record_success(None)

    def forget(self, key: AllocationId) -> None:
        """The allocation is released: its failures say nothing about those that remain."""
        self.reachability.forget(key)

    def _record_success(self, key: AllocationId | None) -> None:
        since, now = self.reachability.since, self._clock.now()
        if self.reachability.record_success(key, now):
            self._emit(ApiReachable(unreachable_seconds=now - since))
            self._on_recovered()

    def tick(self, requeue: Callable[[ManagedAllocation], None]) -> None:
        """Have the allocations of a heartbeat read if one is due."""
        now = self._clock.now()
        if now < self.reachability.heartbeat_at:
            return
        self.reachability.record_heartbeat(now)
        for allocation in self._choose():
            allocation.read_as_heartbeat(now)
            requeue(allocation)

    def _choose(self) -> Collection[ManagedAllocation]:
        """The allocations that a heartbeat reads. Retry-After of each is obeyed by `read_no_later_than`."""
        idle = (
            allocation
            for allocation in self._allocations.values()
            if allocation.state is State.IDLE and _is_read(allocation)
        )
        in_outage = self.reachability.reachable is False

        def order(each: ManagedAllocation) -> tuple[bool, bool, float]:
            # In an outage by chance, because many of those read the longest ago may fail by themselves.
            last = self._clock.uniform(0, 1) if in_outage else float(each.observed_at)
            return self.reachability.is_failing(each.id), each.missing, last

        return nsmallest(HEARTBEAT_READS, idle, key=order)


def _is_read(allocation: ManagedAllocation) -> bool:
    """Whether the declaration of an allocation has it read."""
    return allocation.desired is not None and allocation.desired.mode is not Mode.SUSPEND
