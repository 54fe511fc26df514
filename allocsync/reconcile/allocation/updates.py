"""The values of one update: what is sent, the intent that is recorded, and what is found out about it. Pure.

The rule: only `Intent` changes after it is made, and only by its own methods.

Left out: which update is decided (`managed_allocation`) and how its outcome is judged (`read_back`).
"""

from dataclasses import dataclass
from enum import StrEnum

from allocsync.model.change import Change
from allocsync.model.cloud import Cloud
from allocsync.model.desired_state import Desired
from allocsync.model.intent_record import IntentRecord, hash_unmanaged_fields
from allocsync.model.times import LONG_AGO, Monotonic
from allocsync.reconcile.allocation.field_records import AnotherWriter
from allocsync.reconcile.events import UpdateCause


class State(StrEnum):
    """What a managed allocation is doing."""

    IDLE = "idle"
    READING = "reading"
    SETTLING = "settling"
    POSTING = "posting"


@dataclass(slots=True, kw_only=True)
class Intent:
    """An update that was decided: the changes it makes and the fields that its body carries.

    `sequence` is its row in the journal, 0 before it is recorded. `unknown_since` (monotonic seconds) is None
    until its outcome is unknown. A read that begins before `settles_at` (monotonic seconds) cannot show that
    the update was not applied.
    """

    changes: tuple[Change, ...]
    fields: tuple[tuple[str, str], ...]
    unmanaged_hash: str
    sequence: int = 0
    unknown_since: Monotonic | None = None
    settles_at: Monotonic = LONG_AGO

    def set_sequence(self, sequence: int) -> None:
        """The journal has recorded the intent in this row."""
        self.sequence = sequence

    def outcome_unknown(self, since: Monotonic, settle_seconds: float) -> None:
        """The outcome is unknown since `since` (monotonic). `settles_at` never becomes earlier."""
        self.unknown_since = since
        self.settles_at = max(self.settles_at, since + settle_seconds)


@dataclass(frozen=True, slots=True)
class Update:
    """An update to send.

    `snapshot_ended` (monotonic seconds) is when the snapshot arrived that the body is built on. `why` is for
    people: "drift" or "desired state". `cause` is for metrics.
    """

    body: Cloud
    changes: tuple[Change, ...]
    desired: Desired
    snapshot_ended: Monotonic
    why: str = ""
    cause: UpdateCause = "first"

    def record(self, revision: str) -> IntentRecord:
        """What the journal records of the update; `revision` is the active one."""
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
    """What a read shows about an update that was sent: one of `intent_record.OUTCOMES`, and why.

    `waited_seconds` counts from when the outcome became unknown, or from when the update was accepted.
    `fields` are those that a late application shows or that do not show, otherwise all that the update
    changed; none for a stale overwrite.
    """

    sequence: int
    outcome: str
    reason: str
    waited_seconds: float
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of a read: what it shows about earlier updates, and the update to send, if any.

    `failed`: the read got no usable answer. `another_writer` is None unless a person must be told now.
    """

    findings: tuple[Finding, ...] = ()
    update: Update | None = None
    failed: bool = False
    another_writer: AnotherWriter | None = None
