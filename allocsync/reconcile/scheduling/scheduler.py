"""Admits due allocations (`work_queue`) to free slots (`concurrency`). Pure.

The rules: choosing an allocation and giving it a slot is one synchronous step. A probe is the due allocation
with the fewest failures, so an allocation that keeps failing is never the probe while another one is due.
Failures of an API that serves no allocation are forgiven: they count for no backoff, and their allocations
come back within ten seconds, spread out if there are many. When a failing allocation succeeds, the next
failing one goes (`retry_wakeup`). For a second after the files may have changed, periodic reads wait: parsing
the files needs the same processor, and the edits in them go first. Retries take at most half of the
hard maximum of an operation, so requests that hang leave some slots for new work. While the limit is low,
retries may take all of it. Neither rule applies to a probe.

Left out: when an allocation is due and how urgent it is (`allocation.managed_allocation`), and the requests
themselves (`controller`, `reconciler`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from allocsync.model.api_answers import Failed, Live, Missing, Snapshot, UpdateAnswer
from allocsync.model.ids import AllocationId
from allocsync.model.times import LONG_AGO, NEVER, Monotonic
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.operation import Operation, Priority
from allocsync.reconcile.scheduling.concurrency import ConcurrencyLimits
from allocsync.reconcile.scheduling.response_class import classify_response
from allocsync.reconcile.scheduling.work_queue import WorkQueue

# Forgiven allocations come back spread over this time, or sooner if there are few.
SPREAD_SECONDS, SPREAD_PER_SECOND = 10.0, 100
PREFER_EDITS_SECONDS = 1.0  # periodic reads wait this long, then go for at least as long

Uniform = Callable[[float, float], float]


@dataclass(frozen=True, slots=True)
class BreakerChange:
    """The breaker of an operation has opened, or has closed.

    When it closes, `open_seconds` and `probes` say how long it was open and how many probes were sent.
    """

    operation: Operation
    opened: bool
    open_seconds: float
    probes: int


class Scheduler:
    """Gives slots to due allocations. It shares queue, limits and allocations with the controller.

    Times are monotonic seconds; `uniform(low, high)` returns a random number.
    """

    def __init__(
        self,
        queue: WorkQueue[AllocationId],
        concurrency: ConcurrencyLimits[AllocationId],
        allocations: Mapping[AllocationId, ManagedAllocation],
    ) -> None:
        self._queue = queue
        self._concurrency = concurrency
        self._allocations = allocations
        self._prefer_edits_until = LONG_AGO
        self._retries: dict[Operation, set[AllocationId]] = {
            operation: set() for operation in Operation
        }  # in flight

    def prefer_edits(self, now: Monotonic) -> None:
        """The files may have changed: periodic reads wait for a second.

        A call within two seconds of an earlier one changes nothing, so they wait half of the time at most.
        """
        if now >= self._prefer_edits_until + PREFER_EDITS_SECONDS:
            self._prefer_edits_until = now + PREFER_EDITS_SECONDS

    def admit(self, now: Monotonic, uniform: Uniform) -> Iterator[tuple[ManagedAllocation, Operation, bool]]:
        """Give free slots to due allocations.

        Yields the allocation, the operation of its slot, and whether it is a probe. Each slot is given only
        when the caller asks for the next item.
        """
        for operation in Operation:
            while self._concurrency.wait_until(operation, now) is None:
                is_probe = self._concurrency.is_probing(operation)
                key = self._queue.take(
                    operation,
                    now,
                    failures_of=self._failures_for(operation) if is_probe else None,
                    excluding=self._excluded(operation, now),
                )
                if key is None:
                    break
                allocation = self._allocations[key]
                failures = _failures_of(allocation)
                self._concurrency.admit(
                    operation, key, now, failures=failures, chance=uniform(0, 1) if is_probe else 0.0
                )
                if allocation.queue_entry().priority is Priority.RETRY:
                    self._retries[operation].add(key)
                yield allocation, operation, is_probe

    def _excluded(self, operation: Operation, now: Monotonic) -> Sequence[Priority]:
        """The priorities that do not go now, however many slots are free."""
        is_full = 2 * len(self._retries[operation]) >= self._concurrency.limits[operation].maximum
        return [
            *([Priority.RESYNC] if now < self._prefer_edits_until else []),
            *([Priority.RETRY] if is_full else []),
        ]

    def _failures_for(self, operation: Operation) -> Callable[[AllocationId], int]:
        return lambda key: (
            _failures_of(self._allocations[key]) + self._concurrency.failures_of(operation, key)
        )

    def next_at(self, now: Monotonic) -> Monotonic:
        """When more may be admitted because time passes; `NEVER` if time alone changes nothing."""
        edits_over_at = self._prefer_edits_until if now < self._prefer_edits_until else NEVER
        return min(self._queue.next_at(now), self._concurrency.next_admission_at(now), edits_over_at)

    def promote(self, allocation: ManagedAllocation, now: Monotonic) -> bool:
        """Replace the allocation's read slot with a write slot, if one is free; returns whether it was."""
        promoted = self._concurrency.promote(allocation.id, now)
        if promoted and allocation.id in self._retries[Operation.READ]:
            self._retries[Operation.READ].remove(allocation.id)
            self._retries[Operation.WRITE].add(allocation.id)
        return promoted

    def release(self, allocation: ManagedAllocation, operation: Operation, now: Monotonic) -> None:
        """Give the allocation's slot back.

        Raises:
            KeyError: the allocation has none.
        """
        self._concurrency.release(operation, allocation.id, now)
        self._retries[operation].discard(allocation.id)

    def block_until(self, operation: Operation, until: Monotonic) -> None:
        """Admit nothing for this operation before `until`, because the server asks for it."""
        self._concurrency.block_until(operation, until)

    def forget(self, key: AllocationId, now: Monotonic, uniform: Uniform) -> None:
        """Remove an allocation that is no longer managed."""
        self._queue.forget(key)
        for operation in Operation:
            self._withdraw(operation, key, now, uniform)

    def record_response(
        self,
        allocation: ManagedAllocation,
        admitted_for: Operation,
        answer: Snapshot | UpdateAnswer,
        *,
        begun: Monotonic,
        now: Monotonic,
        uniform: Uniform,
    ) -> BreakerChange | None:
        """Apply what a response says about the API to limits, breaker, and when allocations are read next.

        Call it after the allocation has taken in the response. `admitted_for` is the operation of its slot,
        and `begun` is when the request began. `uniform(low, high)` returns a random number, to spread the
        reads of allocations whose failures are forgiven. Returns a change of the breaker, or None.
        """
        requested = Operation.READ if isinstance(answer, Live | Missing | Failed) else Operation.WRITE
        response_class = classify_response(answer)
        if response_class is None:
            return None
        effect = self._concurrency.record_response(
            requested,
            admitted_for,
            allocation.id,
            response_class,
            begun=begun,
            now=now,
            key_count=len(self._allocations),
        )
        self._forgive_all(requested, effect.forgiven, now, uniform)
        if requested is Operation.READ and not allocation.write_backoff.failures:
            self._withdraw(Operation.WRITE, allocation.id, now, uniform)
        if now < effect.wait_until and allocation.postpone_until(effect.wait_until):
            self._queue.schedule(allocation.id, allocation.queue_entry())
        if not effect.breaker_changed:
            return None
        breaker = self._concurrency.limits[requested].breaker
        return BreakerChange(requested, breaker.open, now - breaker.opened_at, breaker.probes)

    def _forgive_all(
        self, operation: Operation, forgiven: Mapping[AllocationId, int], now: Monotonic, uniform: Uniform
    ) -> None:
        """Forgive so many failures of each, and let each retry soon."""
        spread_seconds = min(SPREAD_SECONDS, len(forgiven) / SPREAD_PER_SECOND)
        for key, failures in forgiven.items():
            if key in self._allocations:
                until = now + uniform(0, spread_seconds)
                self._allocations[key].forgive(operation, failures, until=until)
                self._queue.schedule(key, self._allocations[key].queue_entry())

    def retry_reads(self, now: Monotonic, uniform: Uniform) -> None:
        """An outage has ended: each allocation whose read failed is read soon, whatever its backoff."""
        failing = {key: 0 for key, allocation in self._allocations.items() if allocation.read_failures}
        self._forgive_all(Operation.READ, failing, now, uniform)

    def _withdraw(self, operation: Operation, key: AllocationId, now: Monotonic, uniform: Uniform) -> None:
        """The allocation has no request for this operation any more: let others retry in its place."""
        woken = self._concurrency.withdraw(operation, key)
        self._forgive_all(operation, dict.fromkeys(woken, 0), now, uniform)


def _failures_of(allocation: ManagedAllocation) -> int:
    return allocation.read_failures + allocation.write_backoff.failures
