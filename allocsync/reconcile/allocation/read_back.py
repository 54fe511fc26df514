"""What was sent for one allocation and what became of it: the open intent, its verdict, ghosts, leaves. Pure.

The rules: an update's outcome is learned from a read and never guessed. The verdict compares with what was
sent, not with what is wanted now. Late landings are told apart from fights: first ghosts are looked for, then
the open intent is judged, and what is left of changes is somebody else's.

Left out: what is sent next (`lane`), and what a leaf's memory does (`leaves`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from allocsync.model.change import Change
from allocsync.model.cloud import Cloud, Json, field_value
from allocsync.model.intent_record import hash_unmanaged_fields
from allocsync.reconcile.allocation.field_records import FieldRecords
from allocsync.reconcile.allocation.late_writes import Detection, LateWrite, LateWrites
from allocsync.reconcile.allocation.settle_time import SettleTime
from allocsync.reconcile.allocation.updates import Finding, Intent
from allocsync.reconcile.parameters import Parameters


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a read says of an intent; `unshown` are the leaves of a partly applied one that do not show it."""

    outcome: str
    unshown: tuple[Change, ...] = ()


def judge(
    intent: Intent, cloud: Cloud, *, begun: float, late_fields: frozenset[str] = frozenset()
) -> Verdict | None:
    """Live, in a read that began at `begun`, against what was sent; None while that says nothing.

    Evidence is not symmetric: what was sent being there proves it from any read; its absence proves nothing
    until the settle time is over, because the update may still land. Leaves that late landings of older
    updates explain (`landed`) do not show that this one ran in part.
    """
    unshown = tuple(change for change in intent.changes if field_value(cloud, change.field) != change.desired)
    if not unshown:
        return Verdict("applied")
    if intent.unknown_since is None or begun < intent.settles_at:
        return None
    if not all(field_value(cloud, change.field) == change.live for change in unshown):
        return Verdict("superseded")
    reported = {change.field for change in intent.changes} - {change.field for change in unshown}
    if not reported <= late_fields:
        return Verdict("applied_partial", unshown)
    return Verdict("not_applied")


@dataclass(slots=True, kw_only=True)
class ReadBack:
    """See the module. `settle` is shared by all allocations of one API."""

    rules: Parameters
    settle_time: SettleTime
    intent: Intent | None = None
    field_records: FieldRecords = field(default_factory=FieldRecords)
    late_writes: LateWrites = field(default_factory=LateWrites)
    late_fields: frozenset[str] = frozenset()  # the leaves that late landings explain in the latest look
    # What they set leaves to, since the intent is open.
    meanwhile: dict[str, Json] = field(default_factory=dict)
    moved: bool = False  # since then somebody else changed what is not declared

    def unknown(self, intent: Intent, now: float) -> None:
        """Nobody knows how the update ended: it is judged by reading, S from now at the earliest."""
        intent.unknown(now, self.settle_time.seconds(now))
        self.intent = intent
        self.field_records.supersede(intent.changes)

    def accepted(self, intent: Intent, now: float) -> None:
        """The API took the update: it gets grace to show, and may land late."""
        self.field_records.accept(intent.changes, at=now)
        before = {change.field: change.live for change in intent.changes}
        self.late_writes.add(
            self._late_write(intent, now, now, accepted=True), None, begun=now, before=before
        )

    def gone(self, now: float) -> tuple[Finding, ...]:
        """The allocation is missing: what was open will not be known."""
        intent = self._close()
        if intent is None:
            return ()
        before = dict(intent.fields) | {change.field: change.live for change in intent.changes}
        late_write = self._late_write(intent, _since(intent, now), now, accepted=False)
        self.late_writes.add(late_write, None, begun=now, before=before)
        return (self._finding(intent, "void", "410: the allocation is gone", now),)

    def _close(self) -> Intent | None:
        intent, self.intent = self.intent, None
        self.meanwhile, self.moved = {}, False
        return intent

    def judge(self, cloud: Cloud, *, begun: float, now: float) -> tuple[Finding, ...]:
        """What a look that began at `begun` says of what was sent; it closes the open intent if it can."""
        opened = dict(self.intent.fields) if self.intent is not None else {}
        again = any(late_write.fields == opened for late_write in self.late_writes.late_writes)
        detection = self.late_writes.observe(
            cloud, self.field_records, opened, begun=begun, now=now, rules=self.rules
        )
        self.late_fields = detection.fields
        self.field_records.late_fields(self.late_fields)
        findings = list(self._detected(detection, begun))
        if self.intent is not None:
            told = frozenset(late_write.unmanaged_hash for late_write in detection.overwritten)
            verdict = tuple(self._verdict(self.intent, cloud, begun, now, told))
            if verdict:
                self.settle_time.tried(
                    again=again, applied=verdict[0].outcome in {"applied", "applied_partial"}
                )
            findings.extend(verdict)
        return tuple(findings)

    def observe(
        self, changes: tuple[Change, ...], were_equal: frozenset[str], *, begun: float, now: float
    ) -> tuple[Finding, ...]:
        """The same look shows these differences to what is wanted; `were_equal` are those that were right."""
        ignored = self.field_records.observe(
            changes, flipped=were_equal - self.late_fields, begun=begun, now=now, rules=self.rules
        )
        return tuple(self._refusals(ignored, now)) if ignored else ()

    def _detected(self, detection: Detection, begun: float) -> Iterator[Finding]:
        for application in detection.applications:
            if application.lag_is_known:
                self.settle_time.lagged(application.waited_seconds, certain=application.alone)
            yield Finding(
                sequence=application.sequence,
                outcome="late_applied",
                reason=f"applied {application.waited_seconds:.0f} s after it was given up, or before",
                waited_seconds=application.waited_seconds,
                fields=tuple(sorted(application.fields)),
            )
        for late_write in detection.overwritten:
            yield _overwrite(late_write.sequence, begun - late_write.since)

    def _verdict(
        self, intent: Intent, cloud: Cloud, begun: float, now: float, told: frozenset[str]
    ) -> Iterator[Finding]:
        since = _since(intent, now)
        intent.unknown(since, self.settle_time.seconds(now))
        rest = hash_unmanaged_fields(cloud, [name for name, _ in intent.fields])
        moved = self.moved = self.moved or rest != intent.unmanaged_hash
        self.meanwhile.update({name: field_value(cloud, name) for name in self.late_fields})
        late_fields = frozenset(
            change.field
            for change in intent.changes
            if self.meanwhile.get(change.field) == change.desired or self._is_accepted(change)
        )
        verdict = judge(intent, cloud, begun=begun, late_fields=late_fields)
        if verdict is None:
            return
        self._close()
        yield self._finding(intent, verdict.outcome, _REASONS[verdict.outcome], now)
        came_back = moved and rest == intent.unmanaged_hash
        if came_back and rest not in told:
            yield _overwrite(intent.sequence, begun - since)
        if verdict.outcome not in {"applied", "applied_partial"}:
            self.late_writes.add(self._late_write(intent, since, now, accepted=False), cloud, begun=begun)
            return
        # Leaves of it that do not show get grace, as after a 2xx: it ran, nothing is sent again.
        self.field_records.accept(verdict.unshown, at=since)
        if self.late_fields and not came_back:
            # An older one landed: whether this one ran as well, nobody knows.
            self.late_writes.add(self._late_write(intent, since, now, accepted=False), cloud, begun=begun)

    def _is_accepted(self, change: Change) -> bool:
        """Whether an older update of the same value was accepted, and may be the one that shows."""
        accepted = self.field_records.accepted(change.field)
        return accepted is not None and accepted.value == change.desired

    def _refusals(self, ignored: frozenset[str], now: float) -> Iterator[Finding]:
        """What an accepted update did not do, where that update is still remembered."""
        for late_write in self.late_writes.late_writes:
            fields = ignored & late_write.changes if late_write.accepted else frozenset[str]()
            if fields:
                yield Finding(
                    sequence=late_write.sequence,
                    outcome="applied_partial" if fields < late_write.changes else "not_applied",
                    reason=f"accepted, and not honoured: {', '.join(sorted(fields))}",
                    waited_seconds=now - late_write.since,
                    fields=tuple(sorted(fields)),
                )

    def _late_write(self, intent: Intent, since: float, now: float, *, accepted: bool) -> LateWrite:
        return LateWrite(
            sequence=intent.sequence,
            since=since,
            until=now + self.rules.late_write_seconds,
            fields=dict(intent.fields),
            changes=frozenset(change.field for change in intent.changes),
            unmanaged_hash=intent.unmanaged_hash,
            accepted=accepted,
        )

    def _finding(self, intent: Intent, outcome: str, reason: str, now: float) -> Finding:
        return Finding(
            sequence=intent.sequence,
            outcome=outcome,
            reason=reason,
            waited_seconds=now - _since(intent, now),
            fields=tuple(change.field for change in intent.changes),
        )


_REASONS: Mapping[str, str] = {
    "applied": "read back: its values are there",
    "applied_partial": "read back: some of its values are there, the others are as before",
    "not_applied": "read back after the settle time: all is as before",
    "superseded": "read back after the settle time: neither as before nor as sent",
}


def _since(intent: Intent, now: float) -> float:
    return now if intent.unknown_since is None else intent.unknown_since


def _overwrite(sequence: int, waited_seconds: float) -> Finding:
    return Finding(
        sequence=sequence,
        outcome="stale_overwrite",
        reason="its landing put back what somebody else had changed in fields that are not declared",
        waited_seconds=waited_seconds,
    )
