"""Who goes next: what is due (`queue`) meets what there is room for (`limiter`). Pure.

The rules: which allocation goes and in which slot is one synchronous step. A probe is the due allocation that
has failed least often, so never one that keeps failing while there is another. What failed because the API
served nobody is forgiven: it counts for no backoff, and comes back within ten seconds, many not at once. As
one of those that failed is served, the next of them goes (`retry_wakeup`). For a second after the files may
have changed the periodic looks make way: reading the files takes the same processor, and what is in them goes
first. What failed before takes half of all places at most: however many hang, some are left for what is new.

Left out: the requests themselves (`loop`, `cycle`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from allocsync.model.api_answers import Failed, Live, Missing, Snapshot, UpdateAnswer
from allocsync.model.ids import AllocationId
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.operation import Operation, Priority
from allocsync.reconcile.scheduling.concurrency import ConcurrencyLimits
from allocsync.reconcile.scheduling.response_class import class_of
from allocsync.reconcile.scheduling.work_queue import WorkQueue

SPREAD_SECONDS, SPREAD_PER_SECOND = 10.0, 100  # a few need no more than the limits to be no burst
MAKE_WAY_SECONDS = 1.0  # and then not again for as long

Uniform = Callable[[float, float], float]


@dataclass(frozen=True, slots=True)
class BreakerChange:
    """A breaker has opened, or has closed after so long and so many probes."""

    operation: Operation
    opened: bool
    open_seconds: float
    probes: int


class Scheduler:
    """See the module. It shares the queue, the limiter and the lanes with the loop."""

    def __init__(
        self,
        queue: WorkQueue[AllocationId],
        limiter: ConcurrencyLimits[AllocationId],
        allocations: Mapping[AllocationId, ManagedAllocation],
    ) -> None:
        self._queue = queue
        self._concurrency = limiter
        self._allocations = allocations
        self._way_until = -inf
        self._retries: dict[Operation, set[AllocationId]] = {
            operation: set() for operation in Operation
        }  # under way

    def prefer_edits(self, now: float) -> None:
        """The files may have changed: the periodic looks wait, half of the time at most."""
        if now >= self._way_until + MAKE_WAY_SECONDS:
            self._way_until = now + MAKE_WAY_SECONDS

    def admit(self, now: float, uniform: Uniform) -> Iterator[tuple[ManagedAllocation, Operation, bool]]:
        """Give slots to what is due while there is any of both: which lane goes, in which, as a probe?"""
        for operation in Operation:
            while self._concurrency.waits(operation, now) is None:
                probe = self._concurrency.probing(operation)
                fewest = self._failures_in(operation) if probe else None
                key = self._queue.take(operation, now, fewest=fewest, without=self._without(operation, now))
                if key is None:
                    break
                allocation = self._allocations[key]
                failures = _failures(allocation)
                self._concurrency.admit(
                    operation, key, now, failures=failures, chance=uniform(0, 1) if probe else 0.0
                )
                if allocation.queue_entry().priority is Priority.RETRY:
                    self._retries[operation].add(key)
                yield allocation, operation, probe

    def _without(self, operation: Operation, now: float) -> Sequence[Priority]:
        """What does not go now, however many slots are free."""
        full = 2 * len(self._retries[operation]) >= self._concurrency.limits[operation].most
        return [
            *([Priority.RESYNC] if now < self._way_until else []),
            *([Priority.RETRY] if full else []),
        ]

    def _failures_in(self, operation: Operation) -> Callable[[AllocationId], int]:
        return lambda key: _failures(self._allocations[key]) + self._concurrency.failures(operation, key)

    def next_at(self, now: float) -> float:
        """When more may go by the passing of time alone."""
        made_way_at = self._way_until if now < self._way_until else inf
        return min(self._queue.next_at(now), self._concurrency.opens_at(now), made_way_at)

    def promote(self, allocation: ManagedAllocation, now: float) -> bool:
        """Have a write slot take the place of the lane's read slot, if there is one."""
        promoted = self._concurrency.promote(allocation.id, now)
        if promoted and allocation.id in self._retries[Operation.READ]:
            self._retries[Operation.READ].remove(allocation.id)
            self._retries[Operation.WRITE].add(allocation.id)
        return promoted

    def release(self, allocation: ManagedAllocation, operation: Operation, now: float) -> None:
        """Give the lane's slot back."""
        self._concurrency.release(operation, allocation.id, now)
        self._retries[operation].discard(allocation.id)

    def close(self, operation: Operation, until: float) -> None:
        """The server wants no such request before then, whatever it is for."""
        self._concurrency.close(operation, until)

    def forget(self, key: AllocationId, now: float, uniform: Uniform) -> None:
        """It is declared no more, and has no lane."""
        self._queue.forget(key)
        for operation in Operation:
            self._done(operation, key, now, uniform)

    def record_response(
        self,
        allocation: ManagedAllocation,
        admitted_for: Operation,
        answer: Snapshot | UpdateAnswer,
        *,
        begun: float,
        now: float,
        uniform: Uniform,
    ) -> BreakerChange | None:
        """A request of the lane was answered, and the lane knows; what it says of the API counts for all."""
        asked = Operation.READ if isinstance(answer, Live | Missing | Failed) else Operation.WRITE
        result = class_of(answer)
        if result is None:
            return None
        heard = self._concurrency.record_response(
            asked, admitted_for, allocation.id, result, begun=begun, now=now, keys=len(self._allocations)
        )
        self._forgive_all(asked, heard.forgiven, now, uniform)
        if asked is Operation.READ and not allocation.write_backoff.failures:
            self._done(Operation.WRITE, allocation.id, now, uniform)
        if now < heard.wait_until and allocation.postpone_until(heard.wait_until):
            self._queue.schedule(allocation.id, allocation.queue_entry())
        if not heard.turned:
            return None
        breaker = self._concurrency.limits[asked].breaker
        return BreakerChange(asked, breaker.open, now - breaker.opened_at, breaker.probes)

    def _forgive_all(
        self, operation: Operation, forgiven: Mapping[AllocationId, int], now: float, uniform: Uniform
    ) -> None:
        """So many failures of these were not theirs: they may try again soon."""
        spread_seconds = min(SPREAD_SECONDS, len(forgiven) / SPREAD_PER_SECOND)
        for key, failures in forgiven.items():
            if key in self._allocations:
                until = now + uniform(0, spread_seconds)
                self._allocations[key].forgive(operation, failures, until=until)
                self._queue.schedule(key, self._allocations[key].queue_entry())

    def _done(self, operation: Operation, key: AllocationId, now: float, uniform: Uniform) -> None:
        """There is nothing to ask for it in such a slot any more."""
        self._forgive_all(operation, dict.fromkeys(self._concurrency.done(operation, key), 0), now, uniform)


def _failures(allocation: ManagedAllocation) -> int:
    return allocation.read_failures + allocation.write_backoff.failures
