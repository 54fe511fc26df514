"""A cache in front of reads: a GET may be answered with what an earlier one was answered.

The rules: an answer is kept for a fixed time, whatever is written meanwhile. Its age counts from when the
truth was read. A maximum age of zero keeps nothing.

Left out: what allocsync makes of the age (`DaemonProcess.live_of`).
"""

from dataclasses import dataclass, field

from allocsync.model.cloud import Cloud
from allocsync.model.ids import AllocationId


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer: when (virtual seconds) and at which order number the truth was read, None if gone."""

    at: float
    order: int
    cloud: Cloud | None


@dataclass(slots=True)
class ReadCache:
    """See the module. `hits` counts the answers that an earlier read had."""

    max_age_seconds: float
    hits: int = 0
    _kept: dict[AllocationId, Kept] = field(default_factory=dict)

    def find(self, key: AllocationId, now: float) -> Kept | None:
        """The answer that is kept of this allocation, if it is not too old."""
        kept = self._kept.get(key)
        if kept is None or now - kept.at >= self.max_age_seconds:
            return None
        self.hits += 1
        return kept

    def keep(self, key: AllocationId, answer: Kept) -> None:
        """The truth was read."""
        if self.max_age_seconds > 0:
            self._kept[key] = answer
