"""P1: after the last fault, everything that can converge does so within a stated time.

The time is the sum of the settle time (that of the journal too, which can be longer if a retry was taken for
a late write), the longest backoff or Retry-After that is still running, the longest
wait for the gates, two propagation windows, two resyncs
and half a minute. In the first window an accepted update does not show, and in the second the next one does;
a window can be longer after a 202, and by what was learned. Allocations that are missing, ignored, in
conflict or rejected for good are not covered: there the rules allow hours.

Left out: the time until each single request (`liveness`).
"""

import sqlite3
from collections.abc import Collection, Mapping

from allocsync.model.desired_state import Desired, Mode
from allocsync.model.ids import AllocationId
from allocsync.planning.diff import compare
from tests.simulation.engine.history import History
from tests.simulation.engine.server import Server
from tests.simulation.oracles.history_evidence import (
    journal_settle_seconds,
    longest_window_seconds,
    unsettled,
)
from tests.simulation.oracles.liveness import LivenessOracle
from tests.simulation.oracles.write_gates import WriteGatesOracle

MARGIN_SECONDS = 30.0
BACK_AGAIN_SECONDS = 300.0  # until a missing allocation is read again


def convergence_seconds(
    history: History,
    liveness: LivenessOracle,
    gates: WriteGatesOracle,
    *,
    now: float,
    resync_seconds: float,
) -> float:
    """The stated time, from `now`."""
    gone = any(version.cloud is None for truth in history.truths.values() for version in truth.versions)
    return (
        max(liveness.longest_settle_seconds(), journal_settle_seconds(liveness.journal))
        + liveness.longest_wait_seconds()
        + 2 * longest_window_seconds(history.truths.values())
        + gates.longest_closed_seconds(now)
        + 2.2 * resync_seconds
        + MARGIN_SECONDS
        + (BACK_AGAIN_SECONDS if gone else 0.0)
    )


def differences(
    server: Server,
    liveness: LivenessOracle,
    declared: Mapping[AllocationId, Desired],
    journal: sqlite3.Connection | None,
    disputed: Collection[AllocationId] = (),
) -> list[str]:
    """What has not converged, in words; empty if everything has.

    Allocations that are `disputed` for good need no desired values.
    """
    left = []
    for key, truth in server.history.truths.items():
        desired, cloud = (
            declared.get(key) or server.history.change_limit.still_active.get(key),
            truth.now.cloud,
        )
        if unsettled(truth, server.history.gap_at):
            left.append(f"{key}: the outcome of an update is open")
        if key in disputed or desired is None or cloud is None or desired.mode is not Mode.ENFORCE:
            continue
        if not liveness.allows_hours(key) and key not in server.history.change_limit.possibly_held:
            left += [
                f"{key}: {each.field} is {each.live}, not {each.desired}" for each in compare(desired, cloud)
            ]
    if journal is None:
        return [*left, "no process runs"]
    return left + [
        f"{key}: row {sequence} is an open intent"
        for key, sequence in journal.execute("SELECT allocation, sequence FROM open_intents")
    ]
