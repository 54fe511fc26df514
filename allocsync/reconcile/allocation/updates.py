"""What passes between a lane and the loop: values that say what to send and how an update ended. Pure.

The verdict on an update whose outcome is unknown is here too, because it is a question about what was sent
(`Intent`) and not about what is wanted now.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import inf

from allocsync.model.change import Change
from allocsync.model.cloud import Cloud
from allocsync.model.desired_state import Desired
from allocsync.model.intent_record import IntentRecord, hash_unmanaged_fields


class State(StrEnum):
    """Where a lane is."""

    IDLE = "idle"
    READING = "looking"
    SETTLING = "settling"
    POSTING = "posting"


@dataclass(slots=True, kw_only=True)
class Intent:
    """An update that was decided: what it changes and what its body carries.

    `sequence` is its row in the journal; `unknown_since` is None until its outcome is known to be unknown. A
    read that begins before `settles_at` cannot say that it was not applied.
    """

    changes: tuple[Change, ...]
    fields: tuple[tuple[str, str], ...]
    unmanaged_hash: str
    sequence: int = 0
    unknown_since: float | None = None
    settles_at: float = -inf

    def unknown(self, since: float, settle_seconds: float) -> None:
        """Nobody knows how it ended, since then; a longer settle time moves the judgement, a shorter not."""
        self.unknown_since = since
        self.settles_at = max(self.settles_at, since + settle_seconds)

    def recorded_as(self, sequence: int) -> None:
        """The intent is in the journal, in the row `sequence`."""
        self.sequence = sequence


@dataclass(frozen=True, slots=True)
class Update:
    """What a look decided to send. `snapshot_ended` is when the snapshot it is built on had arrived.

    `why` is for people: because of drift, or of the desired state.
    """

    body: Cloud
    changes: tuple[Change, ...]
    desired: Desired
    snapshot_ended: float
    why: str = ""

    def record(self, revision: str) -> IntentRecord:
        """What is written down of it."""
        names = [name for name, _ in self.desired.fields]
        return IntentRecord(
            changes=self.changes,
            fields=self.desired.fields,
            unmanaged_hash=hash_unmanaged_fields(self.body, names),
            revision=revision,
            reason=self.why,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found out about an update after it had been sent: one of `record.OUTCOMES`, and why.

    `waited_seconds` is since its outcome became unknown, or since it was accepted.
    """

    sequence: int
    outcome: str
    reason: str
    waited_seconds: float
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What a look found out and what to do; `failed`: it showed nothing."""

    findings: tuple[Finding, ...] = ()
    update: Update | None = None
    failed: bool = False
