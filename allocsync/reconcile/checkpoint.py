"""The checkpoint: what survives a restart, written to the journal and restored from it.

Of each allocation: its field records, late writes, write backoff, and what reads showed of a field while an
update of it was open. Of all: the settle time, the propagation window, the write quota, the table of
declarations (`rollout.declarations`) and pauses (`pause_control`). Open intents are rows of the journal.

The rule: a value goes to the journal when it changes, through the same queue as the outcomes, so it is on the
disk before the next intent. A new managed allocation starts with what an earlier process knew of it.

Left out: the stored form (`checkpoint_codecs`), how the journal stores it (`journal.writer`), and the other
files of the state directory (`api.discovery`, `runtime.listen_token`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import Restored
from allocsync.model.times import Monotonic, WallTime, clock_offset_seconds
from allocsync.reconcile import checkpoint_codecs as codecs
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.propagation_window import PropagationWindow
from allocsync.reconcile.allocation.read_back import ReadBack
from allocsync.reconcile.allocation.settle_time import SettleTime
from allocsync.reconcile.gates.write_gate import WriteGate
from allocsync.reconcile.gates.write_quota import WriteQuota
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.ports import Clock, Journal

ALLOCATION = "allocation/"  # a prefix of stored keys
SETTLE, WINDOW, WRITES = "settle", "window", "writes"  # stored keys
MAX_AGE_SECONDS = 86_400.0  # older values of allocations are dropped; every delay in them is shorter


class Checkpoint:
    """Creates managed allocations and stores what must survive a restart.

    `settle_time`, `propagation_window` and `write_gate` are shared by all managed allocations.
    """

    def __init__(self, journal: Journal, clock: Clock, rules: Parameters, restored: Restored) -> None:
        self._journal = journal
        self._clock = clock
        self._rules = rules
        self._open = restored.open_intents
        self._values = dict(restored.memories)
        # Fixed, so that the same time is always stored in the same way even when the wall clock is set.
        self._offset_seconds = clock_offset_seconds(clock.wall(), clock.now())
        now = clock.now()
        clocks = self._clocks(now)
        self.settle_time = (
            codecs.decode_settle_time(self._values[SETTLE], clocks, rules)
            if SETTLE in self._values
            else SettleTime(rules)
        )
        self.propagation_window = (
            codecs.decode_propagation_window(self._values[WINDOW], clocks, rules)
            if WINDOW in self._values
            else PropagationWindow(rules)
        )
        spent = codecs.decode_write_quota(self._values[WRITES], clocks) if WRITES in self._values else []
        self.write_gate = WriteGate(
            windows=rules.windows,
            write_quota=WriteQuota(rules.writes_per_hour, spent=spent),
            offset_seconds=self._offset_seconds,
        )
        self._count_open_intents()
        for name in [name for name in self._values if name.startswith(ALLOCATION)]:
            if self._values[name]["at"] < clock.wall() - MAX_AGE_SECONDS:
                self.save_value(name, None)
        # An update that was sent before a gap in the journal may still be applied, so nothing is sent for the
        # settle time. A time that is over already is not set: it would be stored for every allocation.
        self._nothing_before = None
        if restored.gap_at is not None:
            until = clocks.from_wall(restored.gap_at, latest=now) + self.settle_time.seconds(now)
            self._nothing_before = until if until > now else None

    def _count_open_intents(self) -> None:
        """Spend a token for each open intent that the stored write quota may lack.

        An intent is on the disk before its update is sent, but the token that the update spent is stored with
        a later commit. The process may have ended in between.
        """
        if self._rules.writes_per_hour is None:
            return
        stored_at = WallTime(self._values[WRITES]["at"]) if WRITES in self._values else None
        for left in self._open:
            if stored_at is None or left.at + self._rules.fresh_seconds >= stored_at:
                self.spend_quota(left.allocation)

    def _clocks(self, now: Monotonic) -> codecs.Clocks:
        return codecs.Clocks(self._offset_seconds, now)

    def allocations_with_open_intents(self) -> Iterator[ManagedAllocation]:
        """Create an allocation for each intent that an earlier process left open.

        The outcome of its update counts as unknown from now on.
        """
        for left in self._open:
            allocation = self.create_allocation(left.allocation)
            allocation.outcome_unknown_since_restart(left, self._clock.now())
            yield allocation

    def create_allocation(self, key: AllocationId) -> ManagedAllocation:
        """A new managed allocation with what the checkpoint has of it. A read is due at once."""
        now = self._clock.now()
        read_back = ReadBack(
            rules=self._rules, settle_time=self.settle_time, propagation_window=self.propagation_window
        )
        allocation = ManagedAllocation(
            id=key, rules=self._rules, read_back=read_back, next_read_at=now, write_gate=self.write_gate
        )
        name = f"{ALLOCATION}{key}"
        if name in self._values:
            codecs.decode_allocation(allocation, self._values[name], self._clocks(now))
        if self._nothing_before is not None:
            allocation.send_nothing_before(self._nothing_before)
        return allocation

    def save(self, allocation: ManagedAllocation) -> None:
        """Store what must survive a restart of this allocation and of what is learned, where it changed."""
        clocks = self._clocks(self._clock.now())
        self.save_value(f"{ALLOCATION}{allocation.id}", codecs.encode_allocation(allocation, clocks))
        self.save_value(SETTLE, codecs.encode_settle_time(self.settle_time, clocks))
        self.save_value(WINDOW, codecs.encode_propagation_window(self.propagation_window, clocks))

    def spend_quota(self, key: AllocationId) -> None:
        """An update is about to be sent: it counts towards the write quota."""
        self.write_gate.write_quota.spend(key, self._clock.now())
        self.save_value(
            WRITES, codecs.encode_write_quota(self.write_gate.write_quota, self._clocks(self._clock.now()))
        )

    def stored(self, prefix: str) -> Mapping[str, Any]:
        """All stored values whose keys begin with `prefix`, by the rest of the key."""
        return {
            name.removeprefix(prefix): value
            for name, value in self._values.items()
            if name.startswith(prefix)
        }

    def save_value(self, name: str, value: dict[str, Any] | None) -> None:
        """Store a value if it changed, with `at`, when that was (Unix seconds); None deletes it."""
        before = self._values.get(name)
        if value is None and before is None:
            return
        if value is not None:
            value = {**value, "at": self._clock.wall() if before is None else before["at"]}
            if value == before:
                return
            value["at"] = self._clock.wall()
        self._journal.remember(name, value)
        if value is None:
            del self._values[name]
        else:
            self._values[name] = value
