"""Whether the API is reachable, since when, and when a heartbeat is due to find out. Pure.

The rules:
- Every read and update that ends is recorded here, and every list that succeeds, so that logs, metrics,
  `status` and systemd say the same.
- The API is unreachable after two failed requests, of different allocations if there are two, with no success
  after the first of them began. It is reachable again after any success.
- A request failed if no status came, or a 5xx, a 401, 403, 404, a redirect, or a 200 that is not the
  allocation. A 429 comes from an API that works.
- An allocation that failed the time before proves nothing new, unless all of them fail. So a few that always
  fail are no outage, because a heartbeat reads others. If the first failure began 15 seconds ago, any
  two count: then no other allocation could be asked.
- Failed updates alone are no outage either: reads may work.
- A list that ends is a success. One that fails is not recorded: single reads may work.
- If nothing has succeeded for `heartbeat_seconds`, a heartbeat is due: two allocations are read. So an outage
  shows soon, even though no read is due for minutes.

Left out: which allocations a heartbeat reads (`api_health`), and how an outage is probed (`circuit_breaker`).
"""

from dataclasses import dataclass, field

from allocsync.model.ids import AllocationId
from allocsync.model.times import LONG_AGO, Monotonic

HEARTBEAT_READS = 2
_FAILURES_NEEDED = 2
_SILENT_HEARTBEATS = 1.5  # after so many heartbeats without a success, all failures count


@dataclass(slots=True)
class Reachability:
    """What the latest requests say of the API. All times are monotonic seconds.

    Attributes:
        reachable: None until the first request has ended.
        since: since when it is as `reachable` says; for an outage, when the first failed request began.
        reason: why the latest failed request failed; empty while the API is reachable.
        confirmed_at: when the latest request that succeeded ended; `LONG_AGO` before the first.
        heartbeat_seconds: the time without a success after which a heartbeat is due, and between two of them.
        heartbeat_at: when the next heartbeat is due.
    """

    heartbeat_seconds: float
    heartbeat_at: Monotonic
    reachable: bool | None = None
    since: Monotonic = LONG_AGO
    reason: str = ""
    confirmed_at: Monotonic = LONG_AGO
    # The failed requests since the latest success that count, by allocation: when the first began.
    _failed: dict[AllocationId, Monotonic] = field(default_factory=dict)
    _news: set[AllocationId] = field(default_factory=set)  # those of them that did not fail before
    _failures: int = 0
    _has_failed_read: bool = False
    _failing: set[AllocationId] = field(default_factory=set)  # those whose latest request failed

    def record_success(self, key: AllocationId | None, now: Monotonic) -> bool:
        """A request ended at `now`, and the API answered it; `key` is None for the list.

        Returns whether that ended an outage.
        """
        if key is not None:
            self._failing.discard(key)
        self._failed.clear()
        self._news.clear()
        self._failures, self._has_failed_read = 0, False
        self.confirmed_at, self.heartbeat_at, self.reason = now, now + self.heartbeat_seconds, ""
        ended = self.reachable is False
        if not self.reachable:
            self.reachable, self.since = True, now
        return ended

    def record_failure(
        self,
        key: AllocationId,
        reason: str,
        *,
        is_read: bool,
        begun: Monotonic,
        now: Monotonic,
        key_count: int,
    ) -> bool:
        """A request from `begun` to `now` failed; `key_count` is the number of managed allocations.

        Returns whether the API is unreachable from now on, and was not before.
        """
        is_news = key not in self._failing or len(self._failing) >= key_count
        self._failing.add(key)
        if self.reachable is False:
            self.reason = reason
            return False
        if begun < self.confirmed_at:
            return False
        self._failed.setdefault(key, begun)
        self._failures += 1
        self._has_failed_read |= is_read
        if is_news:
            self._news.add(key)
        needed = min(_FAILURES_NEEDED, key_count)
        since = min(self._failed.values())
        is_silent = now - since >= _SILENT_HEARTBEATS * self.heartbeat_seconds
        enough = is_silent or len(self._news) >= needed
        if self._failures < _FAILURES_NEEDED or not enough or not self._has_failed_read:
            return False
        self.reachable, self.since, self.reason = False, since, reason
        return True

    def record_heartbeat(self, now: Monotonic) -> None:
        """A heartbeat is sent now."""
        self.heartbeat_at = now + self.heartbeat_seconds

    def is_failing(self, key: AllocationId) -> bool:
        """Whether the latest request of this allocation failed."""
        return key in self._failing

    def forget(self, key: AllocationId) -> None:
        """The allocation is no longer managed."""
        self._failing.discard(key)
        self._failed.pop(key, None)
        self._news.discard(key)
