"""The rules under which each golden journal is recorded and restored.

The rule: a journal is restored under the rules it was recorded under, so that no restored time is cut off by
a limit. Only what differs from the defaults is here.

Left out: what is recorded (`scenarios`).
"""

from allocsync.reconcile.parameters import Parameters

_OTHERS = {
    # Longer than the time between the gap and the restart, so that the wait after a gap is still in force.
    "gap_after_damage": Parameters(settle_seconds=60.0),
    "write_quota": Parameters(writes_per_hour=5),
}


def rules_of(name: str) -> Parameters:
    """The rules of the journal with this name."""
    return _OTHERS.get(name, Parameters())
