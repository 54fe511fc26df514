"""The settle time: how long an update of unknown outcome may still be applied, as learned so far. Pure.

It is one value for the whole API: the largest of the configured first value, twice the largest lag seen, and
the longest request of the last hour that ended with an unknown outcome. A lag is the time from the end of a
request to the read that shows its late application. What is learned counts up to `settle_max_seconds`; the
settle time is never shorter than the configured first value. A read that begins before the settle time is
over cannot show that an update was not applied.

The rules: a lag is learned only from a late application that a read detected, never from how long allocsync
waited itself; otherwise the settle time would lengthen itself. An update that was not applied teaches
nothing. A retry that is applied at once looks like a late application of the first update. Such an ambiguous
detection counts only while no lag is known, and only in two cases: few outcomes of first updates are known,
or retries turn out applied significantly more often than first updates. Only late applications explain that.

Left out: how a late application is detected (`late_writes`).
"""

import math
from collections.abc import Sequence

from allocsync.model.times import Monotonic
from allocsync.reconcile.parameters import Parameters

HOUR_SECONDS = 3600.0
MIN_FIRST_OUTCOMES = 30  # with fewer outcomes of first updates, the first ambiguous detection counts
MAX_OUTCOMES = 400  # above this number the counts are halved, so that newer outcomes weigh more
SIGNIFICANT_DEVIATIONS = 3.0  # standard deviations


class SettleTime:
    """The settle time and what it is computed from. All times are monotonic, in seconds.

    `lag_seconds` is the largest lag seen, 0 if none is known. `unknowns` has pairs for updates that ended
    with an unknown outcome: when the update ended, and how many seconds its request took. An update is
    dropped after an hour, or once a later one took as long; so the oldest and longest comes first.
    """

    def __init__(
        self, rules: Parameters, *, lag_seconds: float = 0.0, unknowns: Sequence[tuple[Monotonic, float]] = ()
    ) -> None:
        """`lag_seconds` and `unknowns` come from the checkpoint of an earlier process."""
        self._rules = rules
        self.lag_seconds = lag_seconds
        self.unknowns = list(unknowns)
        # Resolved unknown outcomes, and how many of them were applied; the key is whether it was a retry.
        self._resolved = {False: 0.0, True: 0.0}
        self._applied = {False: 0.0, True: 0.0}

    def seconds(self, now: Monotonic) -> float:
        """The settle time at `now`, in seconds."""
        longest = next((took for at, took in self.unknowns if at > now - HOUR_SECONDS), 0.0)
        learned = max(self._rules.settle_min_seconds, 2 * self.lag_seconds, longest)
        return max(self._rules.settle_seconds, min(learned, self._rules.settle_max_seconds))

    def learn_lag(self, seconds: float, *, certain: bool) -> None:
        """Learn that an update was applied at most this many seconds after the end of its request.

        If it is not `certain`, another update with the same values may have been applied instead. An
        uncertain lag counts only as the module says, and never once a lag is known: the longer the settle
        time is, the longer the lag that a retry seems to show.
        """
        if certain or (not self.lag_seconds and self._retries_show_late_applications()):
            self.lag_seconds = max(self.lag_seconds, seconds)

    def count_outcome(self, *, is_retry: bool, applied: bool) -> None:
        """Count an unknown outcome that a read resolved.

        `is_retry`: when it was judged, an older update with the same fields and values could still be
        applied.
        """
        self._resolved[is_retry] += 1
        self._applied[is_retry] += applied
        if self._resolved[is_retry] > MAX_OUTCOMES:
            self._resolved[is_retry] /= 2
            self._applied[is_retry] /= 2

    def record_unknown(self, seconds: float, now: Monotonic) -> None:
        """Record that an update ended with an unknown outcome at `now`; its request took `seconds`."""
        longer = [(at, took) for at, took in self.unknowns if at > now - HOUR_SECONDS and took > seconds]
        self.unknowns = [*longer, (now, seconds)]

    def _retries_show_late_applications(self) -> bool:
        """Whether retries are applied significantly more often than first updates.

        One more applied retry is counted: the one to judge. True while fewer than
        `MIN_FIRST_OUTCOMES` outcomes of first updates are known.
        """
        first, retries = self._resolved[False], self._resolved[True] + 1
        if first < MIN_FIRST_OUTCOMES:
            return True
        share = (self._applied[False] + 1) / (first + 2)
        deviation = math.sqrt(share * (1 - share) * (1 / first + 1 / retries))
        return (self._applied[True] + 1) / retries > share + SIGNIFICANT_DEVIATIONS * deviation
