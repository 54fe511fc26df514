"""The status of a controller that works, for tests to change by `dataclasses.replace`."""

from allocsync.model.times import WallTime
from allocsync.reconcile.status.controller_status import ControllerStatus

WORKING = ControllerStatus(
    revision="7f3a91c2",
    observed_revision="7f3a91c2",
    active_revision="7f3a91c2",
    active_since=WallTime(1.0),
    conditions={},
    open_intents=0,
    settle_seconds=10.0,
    queued={},
    in_flight={},
    slow={},
    limits={},
    max_in_flight={},
    breakers_open={},
    last_full_read=None,
    resync_seconds=60.0,
    first_answer_seen=True,
    stalled=None,
    stopping=False,
)
