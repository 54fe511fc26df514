"""What survives a restart, on its way to the journal and back: memories of allocations, S, open intents.

The rule: a memory is handed to the journal when it changed, in the same queue as the outcomes, so that it is
on the disk before the next intent. A lane is born with what an earlier one knew of its allocation.

Left out: what is remembered (`memory`, `past`, `restraint`) and how it is stored (the journal).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import Restored
from allocsync.reconcile import checkpoint_codecs as codecs
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.read_back import ReadBack
from allocsync.reconcile.allocation.settle_time import SettleTime
from allocsync.reconcile.gates.write_gate import WriteGate
from allocsync.reconcile.gates.write_quota import WriteQuota
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.ports import Clock, Journal

ALLOCATION, SETTLE, WRITES = "allocation/", "settle", "writes"  # the keys of what is kept
FORGOTTEN_SECONDS = 86_400.0  # older than anything that is slowed down; also of what nobody declares any more


class Checkpoint:
    """Makes lanes, and keeps what must outlive them. `settle` and `stops` are shared by all lanes."""

    def __init__(self, journal: Journal, clock: Clock, rules: Parameters, restored: Restored) -> None:
        self._journal = journal
        self._clock = clock
        self._rules = rules
        self._open = restored.open_intents
        self._kept = dict(restored.memories)
        # Fixed, so that a time is kept the same each time: the wall clock is set now and then.
        self._offset_seconds = clock.wall() - clock.now()
        now = clock.now()
        clocks = self._clocks(now)
        self.settle_time = (
            codecs.decode_settle_time(self._kept[SETTLE], clocks, rules)
            if SETTLE in self._kept
            else SettleTime(rules)
        )
        self.write_gate = WriteGate(write_quota=WriteQuota(rules.writes_per_hour), windows=rules.windows)
        self.write_gate.set_wall_clock_offset(self._offset_seconds)
        if WRITES in self._kept:
            self.write_gate.write_quota.restore(codecs.decode_write_quota(self._kept[WRITES], clocks))
        for name in [name for name in self._kept if name.startswith(ALLOCATION)]:
            if self._kept[name]["at"] < clock.wall() - FORGOTTEN_SECONDS:
                self.save_value(name, None)
        # What was sent before a gap may still land: nothing is sent before that time is over, whoever runs.
        # One that is over is no restraint, and would only be kept for every lane.
        self._nothing_before = None
        if restored.gap_at is not None:
            until = clocks.from_wall(restored.gap_at, latest=now) + self.settle_time.seconds(now)
            self._nothing_before = until if until > now else None

    def _clocks(self, now: float) -> codecs.Clocks:
        return codecs.Clocks(self._offset_seconds, now)

    def left_open(self) -> Iterator[ManagedAllocation]:
        """A lane for each update whose outcome an earlier process did not learn: unknown from now on."""
        for left in self._open:
            allocation = self.allocation(left.allocation)
            allocation.outcome_unknown_since_restart(left, self._clock.now())
            yield allocation

    def allocation(self, key: AllocationId) -> ManagedAllocation:
        """A new lane, with what is remembered of its allocation."""
        now = self._clock.now()
        read_back = ReadBack(rules=self._rules, settle_time=self.settle_time)
        allocation = ManagedAllocation(
            id=key, rules=self._rules, read_back=read_back, next_read_at=now, write_gate=self.write_gate
        )
        name = f"{ALLOCATION}{key}"
        if name in self._kept:
            codecs.decode_allocation(allocation, self._kept[name], self._clocks(now))
        if self._nothing_before is not None:
            allocation.send_nothing_before(self._nothing_before)
        return allocation

    def save(self, allocation: ManagedAllocation) -> None:
        """Have what must survive a restart kept, where it changed."""
        clocks = self._clocks(self._clock.now())
        self.save_value(f"{ALLOCATION}{allocation.id}", codecs.encode_allocation(allocation, clocks))
        self.save_value(SETTLE, codecs.encode_settle_time(self.settle_time, clocks))

    def spend(self, key: AllocationId) -> None:
        """An update leaves: it counts for the hour."""
        self.write_gate.write_quota.spend(key, self._clock.now())
        self.save_value(
            WRITES, codecs.encode_write_quota(self.write_gate.write_quota, self._clocks(self._clock.now()))
        )

    def stored(self, prefix: str) -> Mapping[str, Any]:
        """All that is kept under names that begin so, by the rest of the name."""
        return {
            name.removeprefix(prefix): value for name, value in self._kept.items() if name.startswith(prefix)
        }

    def save_value(self, name: str, value: dict[str, Any] | None) -> None:
        """Have this kept under the name, where it changed; None forgets it."""
        before = self._kept.get(name)
        if value is None and before is None:
            return
        if value is not None:
            value = {**value, "at": self._clock.wall() if before is None else before["at"]}
            if value == before:
                return
            value["at"] = self._clock.wall()
        self._journal.remember(name, value)
        if value is None:
            del self._kept[name]
        else:
            self._kept[name] = value
