"""The write quota: how many updates may be sent in an hour. Pure.

A bucket of tokens. An update spends one token, which comes back an hour later.

The rules: no hour has more updates than the limit, across restarts too. An allocation that finds no token
reserves a turn at the time a token comes back, so that thousands do not all try for the same token. Tokens
are counted by the minute, and all tokens of a minute come back together, an hour after the minute ends.

Left out: storing the spent tokens (`checkpoint`), and what else prevents updates (`write_gate`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from allocsync.model.ids import AllocationId
from allocsync.model.times import LONG_AGO, Monotonic

HOUR, MINUTE = 3600.0, 60.0


@dataclass(slots=True)
class WriteQuota:
    """The bucket. All times are monotonic seconds.

    Attributes:
        max_per_hour: the limit; None means that there is none.
        spent: pairs (start, number of updates), oldest first; a minute starts with its first update.
        turns: the time of the turn that each waiting allocation has reserved.
    """

    max_per_hour: int | None = None
    spent: list[tuple[Monotonic, int]] = field(default_factory=list)
    turns: dict[AllocationId, Monotonic] = field(default_factory=dict)
    _reserved: Counter[Monotonic] = field(default_factory=Counter)  # turns by their time

    def is_exhausted(self, now: Monotonic) -> bool:
        """Whether no token is left now."""
        if self.max_per_hour is None:
            return False
        return sum(number for at, number in self.spent if at + MINUTE + HOUR > now) >= self.max_per_hour

    def frees_at(self, now: Monotonic) -> Monotonic | None:
        """When enough tokens have come back for an update; None if one is left now."""
        if self.max_per_hour is None:
            return None
        spent = [(at, number) for at, number in self.spent if at + MINUTE + HOUR > now]
        left, at = sum(number for _, number in spent), None
        for start, number in spent:
            if left < self.max_per_hour:
                break
            left, at = left - number, start + MINUTE + HOUR
        return at

    def reserve_turn(self, key: AllocationId, now: Monotonic) -> Monotonic:
        """Time at which this allocation may try again, or `LONG_AGO` if a token is left now.

        An allocation keeps its turn until the time has come; then it reserves another one.
        """
        if not self.is_exhausted(now):
            self._release_turn(key)
            return LONG_AGO
        if self.turns.get(key, LONG_AGO) <= now:
            self._release_turn(key)
            self.turns[key] = at = self._next_turn_at(now)
            self._reserved[at] += 1
        return self.turns[key]

    def _release_turn(self, key: AllocationId) -> None:
        at = self.turns.pop(key, None)
        if at is not None:
            self._reserved[at] -= 1
            if not self._reserved[at]:
                del self._reserved[at]

    def _next_turn_at(self, now: Monotonic) -> Monotonic:
        """When the first unreserved token comes back; if all are reserved, when the last token does."""
        returns = [(at + MINUTE + HOUR, number) for at, number in self.spent if at + MINUTE + HOUR > now]
        unreserved = (at for at, number in returns if self._reserved[at] < number)
        return next(unreserved, returns[-1][0])

    def spend(self, key: AllocationId, now: Monotonic) -> None:
        """Spend a token for an update of this allocation that is sent now."""
        self._release_turn(key)
        if self.max_per_hour is None:
            return
        self.spent = [(at, number) for at, number in self.spent if at + MINUTE + HOUR > now]
        if self.spent and now - self.spent[-1][0] < MINUTE:
            at, number = self.spent[-1]
            self.spent[-1] = (at, number + 1)
        else:
            self.spent.append((now, 1))

    def restore(self, spent: Sequence[tuple[Monotonic, int]]) -> None:
        """Take over what an earlier process spent: the start of each minute and its number of updates."""
        self.spent = list(spent)
