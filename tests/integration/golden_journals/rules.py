"""The parameters with which each golden journal is recorded and restored.

The rule: a journal is restored with the parameters that it was recorded with, so that no limit shortens a
restored time. Journals with default parameters are not listed.

Left out: what is recorded (`scenarios`).
"""

from allocsync.reconcile.parameters import Parameters

_OTHERS = {
    # Longer than the time between the gap and the restart, so that updates are still forbidden.
    "gap_after_damage": Parameters(settle_seconds=60.0),
    "write_quota": Parameters(writes_per_hour=5),
}


def rules_of(name: str) -> Parameters:
    """The parameters of the journal with this name."""
    return _OTHERS.get(name, Parameters())
