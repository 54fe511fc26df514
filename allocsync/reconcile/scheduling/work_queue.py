"""Which allocation is next: a keyed, de-duplicated, delayed queue with priorities. Pure.

The rule: a key has at most one entry, and is never handed out twice at once. Scheduling a key that is handed
out is remembered and takes effect when it comes back; scheduling one that waits replaces its entry. Among
what is due, the more urgent goes first, and every tenth turn goes to the resync, so that urgency without end
cannot starve it.

Left out: why something is due (`lane`) and whether there is room for it (`limiter`).
"""

from collections import deque
from collections.abc import Callable, Collection, Hashable
from heapq import heapify, heappop, heappush
from math import inf
from typing import Generic, TypeVar

from allocsync.reconcile.operation import Operation, Priority, QueueEntry

Key = TypeVar("Key", bound=Hashable)

RESYNC_TURN = 10  # every so many turns the least urgent goes first


_URGENT_FIRST = tuple(Priority)
_LEAST_URGENT_FIRST = tuple(reversed(Priority))


class WorkQueue(Generic[Key]):
    """The queue. An entry is alive while its number is the one that its key has; dead ones are skipped."""

    def __init__(self) -> None:
        self._entries: dict[Key, tuple[int, QueueEntry]] = {}
        self._delayed: list[tuple[float, int, Key]] = []
        self._due: dict[Operation, dict[Priority, deque[tuple[int, Key]]]] = {
            operation: {priority: deque() for priority in Priority} for operation in Operation
        }
        self._taken: dict[Key, QueueEntry | None] = {}
        self._numbers = 0
        self._turns = dict.fromkeys(Operation, 0)

    def schedule(self, key: Key, entry: QueueEntry) -> None:
        """Make this the key's only entry; infinity as the time means that it has none."""
        if key in self._taken:
            self._taken[key] = entry
            return
        self._entries.pop(key, None)
        if entry.at == inf:
            return
        self._numbers += 1
        self._entries[key] = (self._numbers, entry)
        heappush(self._delayed, (entry.at, self._numbers, key))
        if len(self._delayed) > 64 + 2 * len(self._entries):
            self._delayed = [entry for entry in self._delayed if self._alive(entry[1], entry[2])]
            heapify(self._delayed)

    def forget(self, key: Key) -> None:
        """Drop the key's entry; if it is handed out, it stays out until it comes back."""
        self._entries.pop(key, None)
        if key in self._taken:
            self._taken[key] = None

    def take(
        self,
        operation: Operation,
        now: float,
        *,
        fewest: Callable[[Key], int] | None = None,
        without: Collection[Priority] = (),
    ) -> Key | None:
        """Hand out the most urgent key that is due for this kind of slot, or None.

        Where `fewest` is given, one for which it gives the smallest number goes: a probe. Else none goes that
        has one of the priorities in `without`.
        """
        self._mature(now)
        return self._turn(operation, without) if fewest is None else self._probe(operation, fewest)

    def _turn(self, operation: Operation, without: Collection[Priority]) -> Key | None:
        due = self._due[operation]
        entry = self._turns[operation] + 1
        for priority in _LEAST_URGENT_FIRST if entry % RESYNC_TURN == 0 else _URGENT_FIRST:
            while due[priority] and priority not in without:
                number, key = due[priority].popleft()
                if self._alive(number, key):
                    self._turns[operation] = entry
                    return self._hand_out(key)
        return None

    def _probe(self, operation: Operation, fewest: Callable[[Key], int]) -> Key | None:
        """Of all that is due; the entry that stays behind is dead, and skipped."""
        due = (entry for entries in self._due[operation].values() for entry in entries)
        keys = [key for number, key in due if self._alive(number, key)]
        return self._hand_out(min(keys, key=fewest)) if keys else None

    def _hand_out(self, key: Key) -> Key:
        del self._entries[key]
        self._taken[key] = None
        return key

    def done(self, key: Key) -> None:
        """The key comes back; what was scheduled meanwhile takes effect.

        Raises:
            KeyError: the key was not handed out.
        """
        entry = self._taken.pop(key)
        if entry is not None:
            self.schedule(key, entry)

    def next_at(self, now: float) -> float:
        """When the next entry that waits is due (infinity: none waits); those due already do not count."""
        self._mature(now)
        return self._delayed[0][0] if self._delayed else inf

    def due(self, operation: Operation, now: float) -> int:
        """How many keys are due for this kind of slot."""
        self._mature(now)
        return sum(
            1
            for entries in self._due[operation].values()
            for number, key in entries
            if self._alive(number, key)
        )

    def _alive(self, number: int, key: Key) -> bool:
        entry = self._entries.get(key)
        return entry is not None and entry[0] == number

    def _mature(self, now: float) -> None:
        """Move what is due to its place among the due, and drop dead entries from the front."""
        moved = False
        while self._delayed:
            at, number, key = self._delayed[0]
            alive = self._alive(number, key)
            if alive and at > now:
                break
            heappop(self._delayed)
            if alive:
                entry = self._entries[key][1]
                self._due[entry.operation][entry.priority].append((number, key))
                moved = True
        if moved:
            self._bury()

    def _bury(self) -> None:
        """Drop dead entries among the due: where nothing is taken, as in an outage, they would pile up."""
        queues = [entries for by_priority in self._due.values() for entries in by_priority.values()]
        if sum(map(len, queues)) > 64 + 2 * len(self._entries):
            for entries in queues:
                alive = [entry for entry in entries if self._alive(*entry)]
                entries.clear()
                entries.extend(alive)
