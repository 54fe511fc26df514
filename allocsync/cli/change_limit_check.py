"""Whether a revision would await approval because of the change limit, for `plan`.

The rule: the comparison and the baseline are the daemon's own, so `plan` and the daemon decide alike. If the
journal cannot be read or its baseline is invalid, the answer is None: it is not known whether the revision
would await approval. `plan` then says nothing about the limit, as for a revision within the limit.

Left out: the comparison (`planning.change_limit`), and how the daemon acts on it (`reconcile.rollout`).
"""

from allocsync.errors import AllocsyncError
from allocsync.journal import reader
from allocsync.model.desired_state import Revision
from allocsync.planning import change_limit
from allocsync.reconcile.rollout.declarations import BASELINE, decode_baseline
from allocsync.runtime.wiring import build_change_limit
from allocsync.settings.model import Settings


def review_changes(settings: Settings, revision: Revision) -> change_limit.ChangeReview | None:
    """Compare the revision with the baseline in the journal; None if that cannot be read."""
    try:
        with reader.opened(settings.state_dir) as connection:
            baseline = decode_baseline(reader.memories(connection, BASELINE))
    except (AllocsyncError, OSError, ValueError):
        return None
    return change_limit.review_changes(baseline, revision, build_change_limit(settings))
