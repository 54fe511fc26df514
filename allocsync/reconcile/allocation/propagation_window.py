"""The propagation window: how long an accepted update may take to show, as learned so far. Pure.

It is one value for the whole API: one and a half times the longest time, over the last day, from the first
acceptance of a value to the first GET that shows it, within a least and a greatest value. An update keeps the
window that it had when it was accepted.

The rule: a time is learned only if an earlier GET after the acceptance did not show the value. Otherwise a
daemon that was stopped, or that could not read, would take its own absence for a slow API.

Left out: what a value that does not show in time causes (`field_records`).
"""

from collections.abc import Sequence

from allocsync.model.times import Monotonic
from allocsync.reconcile.parameters import Parameters

DAY_SECONDS = 86_400.0
FACTOR = 1.5


class PropagationWindow:
    """The propagation window and what it is computed from. All times are monotonic, in seconds.

    `shown` has pairs for values that took longer than the least window allows for: when a GET first showed
    the value, and how many seconds that was after its first acceptance. A pair is dropped after a day, or
    once a later one took as long; so the oldest and longest comes first.
    """

    def __init__(self, rules: Parameters, *, shown: Sequence[tuple[Monotonic, float]] = ()) -> None:
        """`shown` comes from the checkpoint of an earlier process."""
        self._rules = rules
        self.shown = list(shown)

    def seconds(self, now: Monotonic) -> float:
        """The window of an update that is accepted at `now`, in seconds."""
        longest = next((took for at, took in self.shown if at > now - DAY_SECONDS), 0.0)
        return min(
            max(self._rules.propagation_window_seconds, FACTOR * longest),
            self._rules.propagation_window_max_seconds,
        )

    def learn(self, seconds: float, now: Monotonic) -> None:
        """Learn that a GET at `now` was the first to show a value, `seconds` after its first acceptance."""
        if FACTOR * seconds <= self._rules.propagation_window_seconds:
            return
        longer = [(at, took) for at, took in self.shown if at > now - DAY_SECONDS and took > seconds]
        self.shown = [*longer, (now, seconds)]
