"""Pauses: somebody wants nothing to be sent, for one allocation or for all, until a certain time.

The rules: a pause has an end, a reason and an owner, and outlives a restart. A later one for the same takes
the place of the earlier. The pause of all and those of single allocations are set and lifted apart from each
other. When one ends, the next update is built on a new look, as always.

Left out: what a pause forbids (`stops`), and which allocation a name means (`explain`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from allocsync.model.ids import AllocationId, NotFound, find
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.updates import State
from allocsync.reconcile.checkpoint import Checkpoint
from allocsync.reconcile.checkpoint_codecs import encode_pause
from allocsync.reconcile.events import Observer, PauseBegun, PauseEnded, PauseLifted, Scope
from allocsync.reconcile.gates.pause import Pause
from allocsync.reconcile.ports import Clock

MOST_SECONDS = 30 * 86_400.0  # what is to stay longer is better said in the files, as mode: suspend
KEPT, ALL, ONE = "pause/", "all", "of/"


@dataclass(frozen=True, slots=True)
class Begun:
    """A pause that was set; `key` is None for all."""

    key: AllocationId | None
    pause: Pause


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifted:
    """Whether there was a pause to lift, and which others are left: of single ones, and of everything."""

    key: AllocationId | None
    there: bool
    others: int
    everything: Pause | None


class PauseControl:
    """Sets, lifts, ends and keeps pauses. A name of None means all allocations."""

    def __init__(
        self,
        *,
        checkpoint: Checkpoint,
        clock: Clock,
        emit: Observer,
        allocations: Mapping[AllocationId, ManagedAllocation],
        requeue: Callable[[ManagedAllocation], None],
        wake: Callable[[], None],
    ) -> None:
        """`place` puts a lane where it belongs in the queue, `wake` has the queue looked at."""
        self._write_gate = checkpoint.write_gate
        self._checkpoint = checkpoint
        self._clock = clock
        self._emit = emit
        self._allocations = allocations
        self._requeue = requeue
        self._wake = wake
        for name, each in checkpoint.stored(KEPT).items():
            key = None if name == ALL else AllocationId(name.removeprefix(ONE))
            self._write_gate.set_pause(
                key, self._pause(each["ends_at"] - clock.wall(), each["reason"], each["owner"])
            )

    def begin(self, name: str | None, *, seconds: float, reason: str, owner: str) -> Begun | NotFound:
        """Send nothing for so long, 30 days at most; the allocation may be named by the start of its id."""
        key = None if name is None else find(name, self._allocations)
        if isinstance(key, NotFound):
            return key
        pause = self._pause(seconds, reason, owner)
        self._write_gate.set_pause(key, pause)
        self._checkpoint.save_value(_name(key), encode_pause(pause))
        self._emit(
            PauseBegun(allocation=key, scope=scope_of(key), ends=pause.ends, reason=reason, owner=owner)
        )
        self._touched(key)
        return Begun(key, pause)

    def lift(self, name: str | None, *, by: str) -> Lifted | NotFound:
        """End a pause before its time, declared still or not; those of another scope stay."""
        key = None if name is None else find(name, self._allocations.keys() | self._write_gate.pauses.keys())
        if isinstance(key, NotFound):
            return key
        there = self._take(key) is not None
        if there:
            self._emit(PauseLifted(allocation=key, scope=scope_of(key), by=by))
            self._touched(key)
        everything = self._write_gate.everything if key is not None else None
        return Lifted(key=key, there=there, others=len(self._write_gate.pauses), everything=everything)

    def tick(self) -> None:
        """End those that are over."""
        now, write_gate = self._clock.now(), self._write_gate
        write_gate.set_wall_clock_offset(self._clock.wall() - now)  # wall clocks are set now and then
        over: list[AllocationId | None] = [
            key for key, pause in write_gate.pauses.items() if pause.until <= now
        ]
        if write_gate.everything is not None and write_gate.everything.until <= now:
            over.append(None)
        for key in over:
            self._take(key)
            self._emit(PauseEnded(allocation=key, scope=scope_of(key)))
            self._touched(key)

    def ends(self) -> Mapping[str, tuple[int, float]]:
        """By scope: how many there are, and when the last of them ends (wall clock; 0: there is none)."""
        one = [pause.ends_at for pause in self._write_gate.pauses.values()]
        everything = [self._write_gate.everything.ends_at] if self._write_gate.everything else []
        return {
            scope: (len(each), max(each, default=0.0)) for scope, each in (("all", everything), ("one", one))
        }

    def _pause(self, seconds: float, reason: str, owner: str) -> Pause:
        seconds = min(seconds, MOST_SECONDS)
        ends_at = self._clock.wall() + seconds
        ends = datetime.fromtimestamp(ends_at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        until = self._clock.now() + seconds
        return Pause(until=until, ends_at=ends_at, ends=ends, reason=reason, owner=owner)

    def _take(self, key: AllocationId | None) -> Pause | None:
        taken = self._write_gate.remove_pause(key)
        self._checkpoint.save_value(_name(key), None)
        return taken

    def _touched(self, key: AllocationId | None) -> None:
        """What may be sent now is looked at first; what may not says why."""
        now = self._clock.now()
        for allocation in [each for each in self._allocations.values() if key in {None, each.id}]:
            if (
                allocation.state is State.IDLE
                and allocation.changes
                and not self._write_gate.active_pause(allocation.id, now)
            ):
                allocation.next_read_at = min(
                    allocation.next_read_at, allocation.write_backoff.allowed_at(now)
                )
            self._requeue(allocation)
        self._wake()


def scope_of(key: AllocationId | None) -> Scope:
    """The word for what a pause is of, in events and metrics."""
    return "all" if key is None else "one"


def _name(key: AllocationId | None) -> str:
    return KEPT + (ALL if key is None else ONE + key)
