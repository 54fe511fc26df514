"""Pauses: no updates of one allocation, or of all, until a given time.

The rules: a pause has an end, a reason and an owner, and survives a restart. A new pause replaces the one of
the same scope. The pause of all allocations and the pauses of single ones are set and lifted independently.
A pause is lifted by a person, or ends by itself: the gate ignores it from its end on, and `tick`, which the
controller calls, removes it then. After it, an update is built on a new read, as always.

Left out: what a pause forbids (`gates.write_gate`), and which allocation a name means (`model.ids`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from allocsync.model.ids import AllocationId, NotFound, find
from allocsync.model.times import WallTime, clock_offset_seconds
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.updates import State
from allocsync.reconcile.checkpoint import Checkpoint
from allocsync.reconcile.checkpoint_codecs import encode_pause
from allocsync.reconcile.events import Observer, PauseBegun, PauseEnded, PauseLifted, Scope
from allocsync.reconcile.gates.pause import Pause
from allocsync.reconcile.ports import Clock

MAX_PAUSE_SECONDS = 30 * 86_400.0  # for longer, `mode: suspend` in the files is the right means
_KEY, _ALL, _ONE = "pause/", "all", "of/"  # parts of the stored keys


@dataclass(frozen=True, slots=True)
class Begun:
    """A pause that was set; `key` is None if it is of all allocations."""

    key: AllocationId | None
    pause: Pause


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifted:
    """The answer to `lift`: whether there was such a pause, and which pauses remain.

    `key` is None for all allocations. `others` is the number of pauses of single allocations that remain,
    `everything` the remaining pause of all (None after a lift of that one).
    """

    key: AllocationId | None
    was_paused: bool
    others: int
    everything: Pause | None


class PauseControl:
    """Sets, lifts, ends and stores pauses. A name or key of None means all allocations."""

    def __init__(
        self,
        *,
        checkpoint: Checkpoint,
        clock: Clock,
        emit: Observer,
        allocations: Mapping[AllocationId, ManagedAllocation],
        requeue: Callable[[ManagedAllocation], None],
        wake_dispatcher: Callable[[], None],
    ) -> None:
        """Restore the stored pauses.

        `requeue` queues an allocation anew; `wake_dispatcher` has the dispatcher run at once.
        """
        self._write_gate = checkpoint.write_gate
        self._checkpoint = checkpoint
        self._clock = clock
        self._emit = emit
        self._allocations = allocations
        self._requeue = requeue
        self._wake_dispatcher = wake_dispatcher
        for name, stored in checkpoint.stored(_KEY).items():
            key = None if name == _ALL else AllocationId(name.removeprefix(_ONE))
            pause = self._pause(WallTime(stored["ends_at"]) - clock.wall(), stored["reason"], stored["owner"])
            self._write_gate.set_pause(key, pause)

    def begin(self, name: str | None, *, seconds: float, reason: str, owner: str) -> Begun | NotFound:
        """Pause one allocation or all for `seconds`; more than MAX_PAUSE_SECONDS is shortened to that.

        `name` is an id or a unique beginning of one. Return NotFound if no declared allocation has it.
        """
        key = None if name is None else find(name, self._allocations)
        if isinstance(key, NotFound):
            return key
        pause = self._pause(seconds, reason, owner)
        self._write_gate.set_pause(key, pause)
        self._checkpoint.save_value(_stored_key(key), encode_pause(pause))
        self._emit(
            PauseBegun(allocation=key, scope=scope_of(key), ends=pause.ends, reason=reason, owner=owner)
        )
        self._requeue_affected(key)
        return Begun(key, pause)

    def lift(self, name: str | None, *, by: str) -> Lifted | NotFound:
        """End a pause before its time; pauses of another scope stay.

        `name` may also be a paused allocation that is no longer declared. Return NotFound if nothing has it.
        """
        key = None if name is None else find(name, self._allocations.keys() | self._write_gate.pauses.keys())
        if isinstance(key, NotFound):
            return key
        was_paused = self._remove(key) is not None
        if was_paused:
            self._emit(PauseLifted(allocation=key, scope=scope_of(key), by=by))
            self._requeue_affected(key)
        everything = self._write_gate.everything if key is not None else None
        return Lifted(
            key=key, was_paused=was_paused, others=len(self._write_gate.pauses), everything=everything
        )

    def tick(self) -> None:
        """End the pauses whose time is over, and give the current wall clock to the write windows.

        A change of the wall clock does not move the end of a pause.
        """
        now, write_gate = self._clock.now(), self._write_gate
        write_gate.set_wall_clock_offset(clock_offset_seconds(self._clock.wall(), now))
        ended: list[AllocationId | None] = [
            key for key, pause in write_gate.pauses.items() if pause.until <= now
        ]
        if write_gate.everything is not None and write_gate.everything.until <= now:
            ended.append(None)
        for key in ended:
            self._remove(key)
            self._emit(PauseEnded(allocation=key, scope=scope_of(key)))
            self._requeue_affected(key)

    def ends(self) -> Mapping[str, tuple[int, WallTime]]:
        """Return for `all` and for `one` the number of pauses and the last end (Unix seconds; 0 if none)."""
        one = [pause.ends_at for pause in self._write_gate.pauses.values()]
        everything = [self._write_gate.everything.ends_at] if self._write_gate.everything else []
        return {
            scope: (len(each), max(each, default=WallTime(0.0)))
            for scope, each in (("all", everything), ("one", one))
        }

    def _pause(self, seconds: float, reason: str, owner: str) -> Pause:
        seconds = min(seconds, MAX_PAUSE_SECONDS)
        ends_at = self._clock.wall() + seconds
        ends = datetime.fromtimestamp(float(ends_at), UTC).isoformat(timespec="seconds")
        until = self._clock.now() + seconds
        return Pause(
            until=until, ends_at=ends_at, ends=ends.replace("+00:00", "Z"), reason=reason, owner=owner
        )

    def _remove(self, key: AllocationId | None) -> Pause | None:
        removed = self._write_gate.remove_pause(key)
        self._checkpoint.save_value(_stored_key(key), None)
        return removed

    def _requeue_affected(self, key: AllocationId | None) -> None:
        """Read the allocations whose update may be sent now, and report the new reason of the others."""
        now = self._clock.now()
        for allocation in [each for each in self._allocations.values() if key in {None, each.id}]:
            if (
                allocation.state is State.IDLE
                and allocation.changes
                and not self._write_gate.active_pause(allocation.id, now)
            ):
                allocation.read_no_later_than(now)
            self._requeue(allocation)
        self._wake_dispatcher()


def scope_of(key: AllocationId | None) -> Scope:
    """Return the scope of a pause or of a retry, as events and metrics name it."""
    return "all" if key is None else "one"


def _stored_key(key: AllocationId | None) -> str:
    return _KEY + (_ALL if key is None else _ONE + key)
