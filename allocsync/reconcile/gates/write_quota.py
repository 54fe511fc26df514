"""How many updates may be sent in an hour: a bucket whose tokens come back an hour after they were spent.

The rule: in no hour are there more updates than the limit, over restarts too. Whoever finds the bucket empty
is given a turn at which a token is back, so that thousands do not all come for one. Tokens are kept by the
minute and come back with the last of theirs. Pure.
"""

from collections import Counter
from dataclasses import dataclass, field
from math import inf

from allocsync.model.ids import AllocationId

HOUR, MINUTE = 3600.0, 60.0


@dataclass(slots=True)
class WriteQuota:
    """`spent` has the begin of each minute with updates and their number; `most` is None without a limit."""

    most: int | None = None
    spent: list[tuple[float, int]] = field(default_factory=list)
    turns: dict[AllocationId, float] = field(default_factory=dict)
    _waiting: Counter[float] = field(default_factory=Counter)  # how many have each turn

    def empty(self, now: float) -> bool:
        """Whether there is no token now."""
        if self.most is None:
            return False
        return sum(number for at, number in self.spent if at + MINUTE + HOUR > now) >= self.most

    def next_turn(self, key: AllocationId, now: float) -> float:
        """When this allocation may ask again; minus infinity: now."""
        if not self.empty(now):
            self._give_up(key)
            return -inf
        if self.turns.get(key, -inf) <= now:
            self._give_up(key)
            self.turns[key] = at = self._next_turn(now)
            self._waiting[at] += 1
        return self.turns[key]

    def _give_up(self, key: AllocationId) -> None:
        at = self.turns.pop(key, None)
        if at is not None:
            self._waiting[at] -= 1
            if not self._waiting[at]:
                del self._waiting[at]

    def _next_turn(self, now: float) -> float:
        """When the first token comes back that nobody waits for; else when the last of them does."""
        backs = [(at + MINUTE + HOUR, number) for at, number in self.spent if at + MINUTE + HOUR > now]
        free = (at for at, number in backs if self._waiting[at] < number)
        return next(free, backs[-1][0])

    def spend(self, key: AllocationId, now: float) -> None:
        """An update leaves."""
        self._give_up(key)
        if self.most is None:
            return
        self.spent = [(at, number) for at, number in self.spent if at + MINUTE + HOUR > now]
        if self.spent and now - self.spent[-1][0] < MINUTE:
            at, number = self.spent[-1]
            self.spent[-1] = (at, number + 1)
        else:
            self.spent.append((now, 1))
