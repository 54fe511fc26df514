"""S, the settle time: how long an update of unknown outcome may still land, as far as we know. Pure.

S = clamp(max(the first value, 2 x the largest lag seen, the longest unknown of the last hour), 5 s, 180 s),
one for the whole API. A read that begins sooner cannot say "not applied".

The rule: only a landing that was seen teaches a lag, never a wait of our own, or S would feed on itself; and
that nothing landed teaches nothing. Where the first value is below 5 s somebody has asked for that.
"""

from collections.abc import Mapping
from typing import Any

from allocsync.reconcile.keeping import kept, restored
from allocsync.reconcile.rules import Rules

HOUR_SECONDS = 3600.0


class Settle:
    """What was learned. Times are on the caller's clock."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.lag_seconds = 0.0
        self._unknowns: list[tuple[float, float]] = []  # when, how long it took: longer ones first

    def seconds(self, now: float) -> float:
        """S as it is now."""
        longest = next((took for at, took in self._unknowns if at > now - HOUR_SECONDS), 0.0)
        learned = max(self._rules.settle_least_seconds, 2 * self.lag_seconds, longest)
        return max(self._rules.settle_seconds, min(learned, self._rules.settle_most_seconds))

    def lagged(self, seconds: float, *, certain: bool) -> None:
        """A late landing was seen this long after its outcome became unknown.

        Not certain: it may have been a later update with the same values. Such a one is believed while
        nothing was learned yet, and not again: the longer S is, the longer the lag that it seems to show.
        """
        if certain or not self.lag_seconds:
            self.lag_seconds = max(self.lag_seconds, seconds)

    def took(self, seconds: float, now: float) -> None:
        """An update of unknown outcome took this long until it was known to be unknown."""
        kept = [(at, took) for at, took in self._unknowns if at > now - HOUR_SECONDS and took > seconds]
        self._unknowns = [*kept, (now, seconds)]

    def dump(self, offset_seconds: float) -> dict[str, Any]:
        """What has to survive a restart, times moved by this much."""
        return {
            "lag_seconds": round(self.lag_seconds, 3),
            "unknowns": [[kept(at, offset_seconds), round(took, 3)] for at, took in self._unknowns],
        }

    def load(self, data: Mapping[str, Any], offset_seconds: float, now: float) -> None:
        """Take what `dump` gave."""
        self.lag_seconds = data["lag_seconds"]
        self._unknowns = [(restored(at, offset_seconds, now), took) for at, took in data["unknowns"]]
