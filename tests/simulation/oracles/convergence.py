"""P1: once nothing goes wrong any more, everything that can be comes into line, within a stated time.

The time, after the last thing that went wrong: the settle time (what the journal tells, where a second try
was taken for a late landing of the first and taught a longer one), the longest backoff or wish of the server
that is running, a grace, two resyncs and half a minute. Not for what is missing, refused, contested or
rejected for good: there the rules allow hours.
"""

import sqlite3
from collections.abc import Mapping

from allocsync.model.desired_state import Desired, Mode
from allocsync.model.ids import AllocationId
from allocsync.planning.diff import compare
from allocsync.reconcile.parameters import Rules
from tests.simulation.engine.history import History
from tests.simulation.engine.server import Server
from tests.simulation.oracles.history_evidence import told_settle_seconds, unsettled
from tests.simulation.oracles.liveness import Liveness

RULES = Rules()
MARGIN_SECONDS = 30.0
BACK_AGAIN_SECONDS = 300.0  # until the probe of one that was missing


def in_line_within_seconds(history: History, liveness: Liveness, resync_seconds: float) -> float:
    """The stated time, from now."""
    gone = any(version.cloud is None for truth in history.truths.values() for version in truth.versions)
    return (
        max(liveness.settle_most_seconds(), told_settle_seconds(liveness.journal))
        + liveness.longest_wait_seconds()
        + RULES.grace_seconds
        + 2.2 * resync_seconds
        + MARGIN_SECONDS
        + (BACK_AGAIN_SECONDS if gone else 0.0)
    )


def out_of_line(
    server: Server,
    liveness: Liveness,
    wanted: Mapping[AllocationId, Desired],
    journal: sqlite3.Connection | None,
) -> list[str]:
    """What is not in line, and should be."""
    left = []
    for key, truth in server.history.truths.items():
        desired, cloud = wanted.get(key) or server.history.rail.stands.get(key), truth.now.cloud
        if unsettled(truth, server.history.gap_at):
            left.append(f"{key}: the outcome of an update is open")
        if desired is None or cloud is None or desired.mode is not Mode.ENFORCE:
            continue
        if not liveness.resting(key) and key not in server.history.rail.perhaps:
            left += [
                f"{key}: {each.field} is {each.live}, not {each.desired}" for each in compare(desired, cloud)
            ]
    if journal is None:
        return [*left, "no process runs"]
    return left + [
        f"{key}: row {sequence} is an open intent"
        for key, sequence in journal.execute("SELECT allocation, sequence FROM open_intents")
    ]
