"""The order of due allocations: a keyed, de-duplicated, delayed queue with priorities. Pure.

The rule: a key has at most one entry, and is never handed out twice at once. Scheduling a key that is handed
out takes effect when the key comes back; scheduling one that waits replaces its entry. Among the due keys the
most urgent goes first. Every tenth key of an operation is the least urgent one, so that urgent keys cannot
starve the resync.

Left out: the priorities (`operation.Priority`), when an allocation is due and with which priority
(`allocation.managed_allocation`), and whether a slot is free (`concurrency`).
"""

from collections import deque
from collections.abc import Callable, Collection, Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

from allocsync.model.times import NEVER, Monotonic
from allocsync.reconcile.operation import Operation, Priority, QueueEntry

Key = TypeVar("Key", bound=Hashable)

RESYNC_EVERY = 10  # the least urgent goes first once in so many keys handed out

_URGENT_FIRST = tuple(Priority)
_LEAST_URGENT_FIRST = tuple(reversed(Priority))


class WorkQueue(Generic[Key]):
    """The queue; times are monotonic seconds.

    Entries are numbered. An entry is current while its key has its number; an outdated one is skipped.
    """

    def __init__(self) -> None:
        self._entries: dict[Key, tuple[int, QueueEntry]] = {}
        self._delayed: list[tuple[Monotonic, int, Key]] = []
        self._due: dict[Operation, dict[Priority, deque[tuple[int, Key]]]] = {
            operation: {priority: deque() for priority in Priority} for operation in Operation
        }
        self._handed_out: dict[Key, QueueEntry | None] = {}
        self._last_number = 0
        self._handed_out_counts = dict.fromkeys(Operation, 0)

    def schedule(self, key: Key, entry: QueueEntry) -> None:
        """Make this the key's only entry; with `NEVER` as its time, the key has no entry.

        If the key is handed out, this takes effect at `done`.
        """
        if key in self._handed_out:
            self._handed_out[key] = entry
            return
        self._entries.pop(key, None)
        if entry.at == NEVER:
            return
        self._last_number += 1
        self._entries[key] = (self._last_number, entry)
        heappush(self._delayed, (entry.at, self._last_number, key))
        if len(self._delayed) > 64 + 2 * len(self._entries):
            self._delayed = [entry for entry in self._delayed if self._is_current(entry[1], entry[2])]
            heapify(self._delayed)

    def forget(self, key: Key) -> None:
        """Remove the key's entry; a key that is handed out stays so until `done`, and then has no entry."""
        self._entries.pop(key, None)
        if key in self._handed_out:
            self._handed_out[key] = None

    def take(
        self,
        operation: Operation,
        now: Monotonic,
        *,
        failures_of: Callable[[Key], int] | None = None,
        excluding: Collection[Priority] = (),
    ) -> Key | None:
        """Hand out the most urgent key that is due for this operation; None if there is none.

        If `failures_of` is given, hand out a probe instead: the due key with the fewest failures. Otherwise
        keys with a priority in `excluding` are left in the queue.
        """
        self._move_due(now)
        if failures_of is not None:
            return self._take_probe(operation, failures_of)
        return self._take_urgent(operation, excluding)

    def _take_urgent(self, operation: Operation, excluding: Collection[Priority]) -> Key | None:
        due = self._due[operation]
        count = self._handed_out_counts[operation] + 1
        for priority in _LEAST_URGENT_FIRST if count % RESYNC_EVERY == 0 else _URGENT_FIRST:
            while due[priority] and priority not in excluding:
                number, key = due[priority].popleft()
                if self._is_current(number, key):
                    self._handed_out_counts[operation] = count
                    return self._hand_out(key)
        return None

    def _take_probe(self, operation: Operation, failures_of: Callable[[Key], int]) -> Key | None:
        """Hand out the due key with the fewest failures; the entry left behind is outdated, and skipped."""
        due = (entry for entries in self._due[operation].values() for entry in entries)
        keys = [key for number, key in due if self._is_current(number, key)]
        return self._hand_out(min(keys, key=failures_of)) if keys else None

    def _hand_out(self, key: Key) -> Key:
        del self._entries[key]
        self._handed_out[key] = None
        return key

    def done(self, key: Key) -> None:
        """The key comes back; an entry that was scheduled while it was handed out takes effect.

        Raises:
            KeyError: the key was not handed out.
        """
        entry = self._handed_out.pop(key)
        if entry is not None:
            self.schedule(key, entry)

    def next_at(self, now: Monotonic) -> Monotonic:
        """When the next entry becomes due, apart from those due already; `NEVER` if there is none."""
        self._move_due(now)
        return self._delayed[0][0] if self._delayed else NEVER

    def count_due(self, operation: Operation, now: Monotonic) -> int:
        """How many keys are due for this operation."""
        self._move_due(now)
        return sum(
            1
            for entries in self._due[operation].values()
            for number, key in entries
            if self._is_current(number, key)
        )

    def _is_current(self, number: int, key: Key) -> bool:
        entry = self._entries.get(key)
        return entry is not None and entry[0] == number

    def _move_due(self, now: Monotonic) -> None:
        """Move the entries that are due to `_due`, and drop outdated ones from the front."""
        any_due = False
        while self._delayed:
            at, number, key = self._delayed[0]
            is_current = self._is_current(number, key)
            if is_current and at > now:
                break
            heappop(self._delayed)
            if is_current:
                entry = self._entries[key][1]
                self._due[entry.operation][entry.priority].append((number, key))
                any_due = True
        if any_due:
            self._drop_outdated()

    def _drop_outdated(self) -> None:
        """Drop outdated entries from `_due`; they would pile up while nothing is taken, as in an outage."""
        queues = [entries for by_priority in self._due.values() for entries in by_priority.values()]
        if sum(map(len, queues)) > 64 + 2 * len(self._entries):
            for entries in queues:
                current = [entry for entry in entries if self._is_current(*entry)]
                entries.clear()
                entries.extend(current)
