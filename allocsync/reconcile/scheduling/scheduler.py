"""Who goes next: what is due (`queue`) meets what there is room for (`limiter`). Pure.

The rules: which allocation goes and in which slot is one synchronous step. A probe is the due allocation that
has failed least often, so never one that keeps failing while there is another. What failed because the API
served nobody is forgiven: it counts for no backoff, and comes back within ten seconds, many not at once. As
one of those that failed is served, the next of them goes (`recovery`). For a second after the files may have
changed the periodic looks make way: reading the files takes the same processor, and what is in them goes
first. What failed before takes half of all places at most: however many hang, some are left for what is new.

Left out: the requests themselves (`loop`, `cycle`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from allocsync.model.api_answers import Failed, Live, Missing, Snapshot, UpdateAnswer
from allocsync.model.ids import AllocationId
from allocsync.reconcile.allocation.managed_allocation import Lane
from allocsync.reconcile.allocation.updates import State
from allocsync.reconcile.allocation.write_backoff import BACKOFF
from allocsync.reconcile.operation import Priority, Slot
from allocsync.reconcile.scheduling.concurrency import Limiter
from allocsync.reconcile.scheduling.response_class import result_of
from allocsync.reconcile.scheduling.work_queue import Queue

SPREAD_SECONDS, SPREAD_PER_SECOND = 10.0, 100  # a few need no more than the limits to be no burst
MAKE_WAY_SECONDS = 1.0  # and then not again for as long

Uniform = Callable[[float, float], float]


@dataclass(frozen=True, slots=True)
class Turned:
    """A breaker has opened, or has closed after so long and so many probes."""

    slot: Slot
    opened: bool
    open_seconds: float
    probes: int


class Admission:
    """See the module. It shares the queue, the limiter and the lanes with the loop."""

    def __init__(
        self,
        queue: Queue[AllocationId],
        limiter: Limiter[AllocationId],
        lanes: Mapping[AllocationId, Lane],
    ) -> None:
        self._queue = queue
        self._limiter = limiter
        self._lanes = lanes
        self._way_until = -inf
        self._retries: dict[Slot, set[AllocationId]] = {slot: set() for slot in Slot}  # under way

    def make_way(self, now: float) -> None:
        """The files may have changed: the periodic looks wait, half of the time at most."""
        if now >= self._way_until + MAKE_WAY_SECONDS:
            self._way_until = now + MAKE_WAY_SECONDS

    def admit(self, now: float, uniform: Uniform) -> Iterator[tuple[Lane, Slot, bool]]:
        """Give slots to what is due while there is any of both: which lane goes, in which, as a probe?"""
        for slot in Slot:
            while self._limiter.waits(slot, now) is None:
                probe = self._limiter.probing(slot)
                fewest = self._failures_in(slot) if probe else None
                key = self._queue.take(slot, now, fewest=fewest, without=self._without(slot, now))
                if key is None:
                    break
                lane = self._lanes[key]
                failures = _failures(lane)
                self._limiter.admit(slot, key, now, failures=failures, chance=uniform(0, 1) if probe else 0.0)
                if lane.turn().priority is Priority.RETRY:
                    self._retries[slot].add(key)
                yield lane, slot, probe

    def _without(self, slot: Slot, now: float) -> Sequence[Priority]:
        """What does not go now, however many slots are free."""
        full = 2 * len(self._retries[slot]) >= self._limiter.slots[slot].most
        return [
            *([Priority.RESYNC] if now < self._way_until else []),
            *([Priority.RETRY] if full else []),
        ]

    def _failures_in(self, slot: Slot) -> Callable[[AllocationId], int]:
        return lambda key: _failures(self._lanes[key]) + self._limiter.failures(slot, key)

    def next_at(self, now: float) -> float:
        """When more may go by the passing of time alone."""
        made_way_at = self._way_until if now < self._way_until else inf
        return min(self._queue.next_at(now), self._limiter.opens_at(now), made_way_at)

    def promote(self, lane: Lane, now: float) -> bool:
        """Have a write slot take the place of the lane's read slot, if there is one."""
        promoted = self._limiter.promote(lane.id, now)
        if promoted and lane.id in self._retries[Slot.READ]:
            self._retries[Slot.READ].remove(lane.id)
            self._retries[Slot.WRITE].add(lane.id)
        return promoted

    def release(self, lane: Lane, slot: Slot, now: float) -> None:
        """Give the lane's slot back."""
        self._limiter.release(slot, lane.id, now)
        self._retries[slot].discard(lane.id)

    def close(self, slot: Slot, until: float) -> None:
        """The server wants no such request before then, whatever it is for."""
        self._limiter.close(slot, until)

    def forget(self, key: AllocationId, now: float, uniform: Uniform) -> None:
        """It is declared no more, and has no lane."""
        self._queue.forget(key)
        for slot in Slot:
            self._done(slot, key, now, uniform)

    def hear(
        self,
        lane: Lane,
        held: Slot,
        answer: Snapshot | UpdateAnswer,
        *,
        begun: float,
        now: float,
        uniform: Uniform,
    ) -> Turned | None:
        """A request of the lane was answered, and the lane knows; what it says of the API counts for all."""
        asked = Slot.READ if isinstance(answer, Live | Missing | Failed) else Slot.WRITE
        result = result_of(answer)
        if result is None:
            return None
        heard = self._limiter.hear(asked, held, lane.id, result, begun=begun, now=now, keys=len(self._lanes))
        self._let_go(asked, heard.forgiven, now, uniform)
        if asked is Slot.READ and not lane.restraint.failures:
            self._done(Slot.WRITE, lane.id, now, uniform)
        if now < heard.wait_until and lane.state is State.IDLE and not lane.edited:
            lane.look_at = max(lane.look_at, heard.wait_until)
            self._queue.schedule(lane.id, lane.turn())
        if not heard.turned:
            return None
        breaker = self._limiter.slots[asked].breaker
        return Turned(asked, breaker.open, now - breaker.opened_at, breaker.probes)

    def _let_go(self, slot: Slot, forgiven: Mapping[AllocationId, int], now: float, uniform: Uniform) -> None:
        """So many failures of these were not theirs: they may try again soon."""
        spread_seconds = min(SPREAD_SECONDS, len(forgiven) / SPREAD_PER_SECOND)
        for key, failures in forgiven.items():
            if key in self._lanes:
                _forgive(self._lanes[key], slot, failures, until=now + uniform(0, spread_seconds))
                self._queue.schedule(key, self._lanes[key].turn())

    def _done(self, slot: Slot, key: AllocationId, now: float, uniform: Uniform) -> None:
        """There is nothing to ask for it in such a slot any more."""
        self._let_go(slot, dict.fromkeys(self._limiter.done(slot, key), 0), now, uniform)


def _failures(lane: Lane) -> int:
    return lane.read_failures + lane.restraint.failures


def _forgive(lane: Lane, asked: Slot, failures: int, *, until: float) -> None:
    """These failures were the API's: what waits for a backoff of theirs waits until then at most."""
    if asked is Slot.READ:
        backing_off = lane.read_failures > 0
        lane.read_failures = max(0, lane.read_failures - failures)
    else:
        backing_off = lane.look_at == lane.restraint.until.get(BACKOFF)
        lane.restraint.forgive(failures, until)
    if backing_off and lane.state in {State.IDLE, State.SETTLING}:
        lane.look_at = lane.restraint.allowed_at(min(lane.look_at, until))
