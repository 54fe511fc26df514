"""Would the daemon hold this generation? Asked by `plan` and `apply`, answered from the journal beside it.

The rule: it is the same comparison with the same baseline as the daemon's own, so a plan without a word of it
is one that goes through. Where no journal can be read, or what it says makes no sense, nothing is known.
"""

from allocsync.errors import AllocsyncError
from allocsync.journal import reader
from allocsync.model.desired_state import Generation
from allocsync.planning.change_limit import Ruling, review_changes
from allocsync.reconcile.rollout.change_review import BASELINE, baseline_from
from allocsync.runtime.wiring import limit_of
from allocsync.settings.model import Settings


def ruling_of(settings: Settings, generation: Generation) -> Ruling | None:
    """What the rail says of it; None where what it would be compared with cannot be read."""
    try:
        with reader.opened(settings.state_dir) as connection:
            baseline = baseline_from(reader.memories(connection, BASELINE))
    except (AllocsyncError, OSError, ValueError):
        return None
    return review_changes(baseline, generation, limit_of(settings))
