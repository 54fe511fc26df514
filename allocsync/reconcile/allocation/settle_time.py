"""S, the settle time: how long an update of unknown outcome may still land, as far as we know. Pure.

S = clamp(max(the first value, 2 x the largest lag seen, the longest unknown of the last hour), 5 s, 180 s),
one for the whole API. A read that begins sooner cannot say "not applied".

The rule: only a landing that was seen teaches a lag, never a wait of our own, or S would feed on itself; and
that nothing landed teaches nothing. A second try that is carried out at once looks like a late landing of the
first. So a landing that may be either is believed while little is known, and later only where second tries
come true clearly more often than first ones do, which late landings alone explain.
"""

import math
from collections.abc import Sequence

from allocsync.reconcile.parameters import Parameters

HOUR_SECONDS = 3600.0
LITTLE, MUCH = 30, 400  # tries: with fewer first ones each landing is believed; of more the older count half
CLEARLY = 3.0  # standard deviations


class SettleTime:
    """What was learned. Times are on the caller's clock."""

    def __init__(
        self, rules: Parameters, *, lag_seconds: float = 0.0, unknowns: Sequence[tuple[float, float]] = ()
    ) -> None:
        """`lag_seconds` and `unknowns` are what a checkpoint has of an earlier process."""
        self._rules = rules
        self.lag_seconds = lag_seconds
        # Unknown outcomes that were settled, of first and of later tries, and how many of them were applied.
        self._tries = {False: 0.0, True: 0.0}
        self._applied = {False: 0.0, True: 0.0}
        self.unknowns = list(unknowns)  # when, how long it took: longer ones first

    def seconds(self, now: float) -> float:
        """S as it is now."""
        longest = next((took for at, took in self.unknowns if at > now - HOUR_SECONDS), 0.0)
        learned = max(self._rules.settle_least_seconds, 2 * self.lag_seconds, longest)
        return max(self._rules.settle_seconds, min(learned, self._rules.settle_most_seconds))

    def lagged(self, seconds: float, *, certain: bool) -> None:
        """A late landing was seen this long after its outcome became unknown.

        Not certain: it may have been a later update with the same values. Such a one teaches once at the
        most: the longer S is, the longer the lag that it seems to show.
        """
        if certain or (not self.lag_seconds and self._is_late()):
            self.lag_seconds = max(self.lag_seconds, seconds)

    def tried(self, *, again: bool, applied: bool) -> None:
        """An unknown outcome is settled; `again`: an older update of the same values may still land."""
        self._tries[again] += 1
        self._applied[again] += applied
        if self._tries[again] > MUCH:
            self._tries[again] /= 2
            self._applied[again] /= 2

    def _is_late(self) -> bool:
        """Whether second tries, with one more that came true, do so clearly more often than first ones."""
        first, again = self._tries[False], self._tries[True] + 1
        if first < LITTLE:
            return True
        share = (self._applied[False] + 1) / (first + 2)
        deviation = math.sqrt(share * (1 - share) * (1 / first + 1 / again))
        return (self._applied[True] + 1) / again > share + CLEARLY * deviation

    def took(self, seconds: float, now: float) -> None:
        """An update of unknown outcome took this long until it was known to be unknown."""
        kept = [(at, took) for at, took in self.unknowns if at > now - HOUR_SECONDS and took > seconds]
        self.unknowns = [*kept, (now, seconds)]
