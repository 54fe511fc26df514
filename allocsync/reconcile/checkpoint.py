"""What survives a restart, on its way to the journal and back: memories of allocations, S, open intents.

The rule: a memory is handed to the journal when it changed, in the same queue as the outcomes, so that it is
on the disk before the next intent. A lane is born with what an earlier one knew of its allocation.

Left out: what is remembered (`memory`, `past`, `restraint`) and how it is stored (the journal).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import Restored
from allocsync.reconcile import checkpoint_allocation
from allocsync.reconcile.allocation.managed_allocation import Lane
from allocsync.reconcile.allocation.read_back import Past
from allocsync.reconcile.allocation.settle_time import Settle
from allocsync.reconcile.checkpoint_times import restored as restored_time
from allocsync.reconcile.gates.write_gate import Stops
from allocsync.reconcile.gates.write_quota import Budget
from allocsync.reconcile.parameters import Rules
from allocsync.reconcile.ports import Clock, Journal

ALLOCATION, SETTLE, WRITES = "allocation/", "settle", "writes"  # the keys of what is kept
FORGOTTEN_SECONDS = 86_400.0  # older than anything that is slowed down; also of what nobody declares any more


class Keeper:
    """Makes lanes, and keeps what must outlive them. `settle` and `stops` are shared by all lanes."""

    def __init__(self, journal: Journal, clock: Clock, rules: Rules, restored: Restored) -> None:
        self._journal = journal
        self._clock = clock
        self._rules = rules
        self._open = restored.open_intents
        self._kept = dict(restored.memories)
        # Fixed, so that a time is kept the same each time: the wall clock is set now and then.
        self._offset_seconds = clock.wall() - clock.now()
        now = clock.now()
        self.settle = Settle(rules)
        self.stops = Stops(budget=Budget(rules.writes_per_hour), windows=rules.windows)
        self.stops.offset_seconds = self._offset_seconds
        if WRITES in self._kept:
            self.stops.budget.load(self._kept[WRITES], self._offset_seconds, now)
        if SETTLE in self._kept:
            self.settle.load(self._kept[SETTLE], self._offset_seconds, now)
        for name in [name for name in self._kept if name.startswith(ALLOCATION)]:
            if self._kept[name]["at"] < clock.wall() - FORGOTTEN_SECONDS:
                self.keep_value(name, None)
        # What was sent before a gap may still land: nothing is sent before that time is over, whoever runs.
        # One that is over is no restraint, and would only be kept for every lane.
        self._nothing_before = None
        if restored.gap_at is not None:
            until = restored_time(restored.gap_at, self._offset_seconds, now) + self.settle.seconds(now)
            self._nothing_before = until if until > now else None

    def left_open(self) -> Iterator[Lane]:
        """A lane for each update whose outcome an earlier process did not learn: unknown from now on."""
        for left in self._open:
            lane = self.lane(left.allocation)
            checkpoint_allocation.resume(lane, left, self._clock.now())
            yield lane

    def lane(self, key: AllocationId) -> Lane:
        """A new lane, with what is remembered of its allocation."""
        now = self._clock.now()
        past = Past(rules=self._rules, settle=self.settle)
        lane = Lane(id=key, rules=self._rules, past=past, look_at=now, stops=self.stops)
        name = f"{ALLOCATION}{key}"
        if name in self._kept:
            checkpoint_allocation.load(lane, self._kept[name], self._offset_seconds, now)
        if self._nothing_before is not None:
            checkpoint_allocation.wait(lane, self._nothing_before)
        return lane

    def keep(self, lane: Lane) -> None:
        """Have what must survive a restart kept, where it changed."""
        self.keep_value(f"{ALLOCATION}{lane.id}", checkpoint_allocation.dump(lane, self._offset_seconds))
        self.keep_value(SETTLE, self.settle.dump(self._offset_seconds))

    def spend(self, key: AllocationId) -> None:
        """An update leaves: it counts for the hour."""
        self.stops.budget.spend(key, self._clock.now())
        self.keep_value(WRITES, self.stops.budget.dump(self._offset_seconds))

    def recalled(self, prefix: str) -> Mapping[str, Any]:
        """All that is kept under names that begin so, by the rest of the name."""
        return {
            name.removeprefix(prefix): value for name, value in self._kept.items() if name.startswith(prefix)
        }

    def keep_value(self, name: str, value: dict[str, Any] | None) -> None:
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
