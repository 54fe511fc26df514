"""What passes between a lane and the loop: values that say what to send and how an update ended. Pure.

The verdict on an update whose outcome is unknown is here too, because it is a question about what was sent
(`Intent`) and not about what is wanted now.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import inf

from allocsync.planning.diff import Change, leaf
from allocsync.planning.model import Cloud, Desired


class State(StrEnum):
    """Where a lane is."""

    IDLE = "idle"
    LOOKING = "looking"
    SETTLING = "settling"
    POSTING = "posting"


@dataclass(slots=True)
class Intent:
    """An update that was decided: what it changes and for which desired state.

    `sequence` is its number in the journal; `unknown_since` is None until its outcome is known to be unknown.
    """

    changes: tuple[Change, ...]
    desired: Desired
    sequence: int = 0
    unknown_since: float | None = None

    def settles_at(self, settle_seconds: float) -> float:
        """A read that begins before this time cannot say that it was not applied."""
        return inf if self.unknown_since is None else self.unknown_since + settle_seconds


@dataclass(frozen=True, slots=True)
class Update:
    """What a look decided to send. `snapshot_ended` is when the snapshot it is built on had arrived."""

    body: Cloud
    changes: tuple[Change, ...]
    desired: Desired
    snapshot_ended: float


@dataclass(frozen=True, slots=True)
class Settled:
    """How an update ended whose outcome was unknown, and how long it was."""

    sequence: int
    outcome: str  # applied, applied_partial, not_applied, superseded, void
    waited_seconds: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What a look found out and what to do."""

    settled: Settled | None = None
    update: Update | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a read says of an intent; `unshown` are the leaves of a partly applied one that do not show it."""

    outcome: str
    unshown: tuple[Change, ...] = ()


def judge(intent: Intent, cloud: Cloud, *, begun: float, settle_seconds: float) -> Verdict | None:
    """Live, in a read that began at `begun`, against what was sent; None while that says nothing.

    Evidence is not symmetric: what was sent being there proves it from any read; its absence proves nothing
    until the settle time is over, because the update may still land.
    """
    unshown = tuple(change for change in intent.changes if leaf(cloud, change.field) != change.desired)
    if not unshown:
        return Verdict("applied")
    if begun < intent.settles_at(settle_seconds):
        return None
    if not all(leaf(cloud, change.field) == change.live for change in unshown):
        return Verdict("superseded")
    if len(unshown) < len(intent.changes):
        return Verdict("applied_partial", unshown)
    return Verdict("not_applied")
