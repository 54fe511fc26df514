"""Read-back: learns from reads what became of the updates that were sent for one allocation. Pure.

The rules: the outcome of an update is read, never guessed. The verdict compares the live object with what was
sent, not with the desired state of now. Each read is judged in this order: first late applications of older
updates, then the open intent; differences that neither explains are changes by another writer.

Left out: how long the settle time is (`settle_time`, asked here), how long an accepted update may take to
show (`propagation_window`, asked here), when a read is due and what is sent next (`managed_allocation`), what
a record of a field causes (`field_records`), and how late applications are detected (`late_writes`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from allocsync.model.change import Change
from allocsync.model.cloud import Cloud, Json, field_value
from allocsync.model.intent_record import hash_unmanaged_fields
from allocsync.model.times import Monotonic
from allocsync.reconcile.allocation.field_records import AnotherWriter, FieldRecords
from allocsync.reconcile.allocation.late_writes import Detection, LateWrite, LateWrites
from allocsync.reconcile.allocation.propagation_window import PropagationWindow
from allocsync.reconcile.allocation.settle_time import SettleTime
from allocsync.reconcile.allocation.updates import Finding, Intent
from allocsync.reconcile.parameters import Parameters

APPLIED = frozenset({"applied", "applied_partial"})
_PROCESSING = 202  # the status of an update that is accepted and not done


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of an intent; `unshown` are the changes of a partly applied one that do not show."""

    outcome: str
    unshown: tuple[Change, ...] = ()


def judge(
    intent: Intent, cloud: Cloud, *, begun: Monotonic, late_fields: frozenset[str] = frozenset()
) -> Verdict | None:
    """Compare the changes of an update with a read that began at `begun` (monotonic); None: no proof yet.

    The presence of the sent values proves in any read that the update was applied. Their absence proves
    nothing before the settle time is over, because the update may still be applied. After that, a field with
    neither the old nor the sent value makes it superseded. The values of `late_fields` come from older
    updates, so they do not show that this one was applied in part.
    """
    unshown = tuple(change for change in intent.changes if field_value(cloud, change.field) != change.desired)
    if not unshown:
        return Verdict("applied")
    if intent.unknown_since is None or begun < intent.settles_at:
        return None
    if not all(field_value(cloud, change.field) == change.live for change in unshown):
        return Verdict("superseded")
    shown = {change.field for change in intent.changes} - {change.field for change in unshown}
    if not shown <= late_fields:
        return Verdict("applied_partial", unshown)
    return Verdict("not_applied")


@dataclass(slots=True, kw_only=True)
class ReadBack:
    """The open intent, the field records and the late writes of one allocation.

    `settle_time` and `propagation_window` are shared by all allocations of one API. `intent` is the update
    that is under way or whose outcome is unknown, None without one. `late_fields` are the fields that late
    applications explain in the latest read. `late_values` has the values that late applications gave to
    fields while the intent was open.
    `unmanaged_changed`: in that time a read showed other unmanaged fields than the intent carries.
    """

    rules: Parameters
    settle_time: SettleTime
    propagation_window: PropagationWindow
    intent: Intent | None = None
    field_records: FieldRecords = field(default_factory=FieldRecords)
    late_writes: LateWrites = field(default_factory=LateWrites)
    late_fields: frozenset[str] = frozenset()
    late_values: dict[str, Json] = field(default_factory=dict)
    unmanaged_changed: bool = False

    def restore(
        self,
        *,
        field_records: FieldRecords,
        late_writes: LateWrites,
        late_values: dict[str, Json],
        unmanaged_changed: bool,
    ) -> None:
        """Take over what a checkpoint has of an earlier process."""
        self.field_records, self.late_writes = field_records, late_writes
        self.late_values, self.unmanaged_changed = late_values, unmanaged_changed

    def begin(self, intent: Intent) -> None:
        """An update is about to be recorded and sent."""
        self.intent = intent

    def end(self) -> None:
        """The update has ended, or was not sent: no intent is under way."""
        self.intent = None

    def outcome_unknown(self, intent: Intent, now: Monotonic) -> None:
        """The outcome of this update is unknown from `now` (monotonic) on; a read has to prove it.

        Only a read after the settle time can prove that it was not applied.
        """
        intent.outcome_unknown(now, self.settle_time.seconds(now))
        self.intent = intent

    def accept(self, intent: Intent, now: Monotonic, *, status: int, confirm_seconds: float) -> None:
        """The API accepted the update with this status: its window begins, and it becomes a late write.

        The first GET that looks for it is due `confirm_seconds` after `now` (monotonic).
        """
        window_seconds = self.propagation_window.seconds(now)
        if status == _PROCESSING:
            window_seconds = max(window_seconds, self.rules.processing_window_seconds)
        self.field_records.accept(
            intent.changes,
            at=now,
            window_seconds=window_seconds,
            confirm_seconds=confirm_seconds,
            rules=self.rules,
        )
        before = {change.field: change.live for change in intent.changes}
        self.late_writes.add(
            self._late_write(intent, now, now, accepted=True), None, begun=now, before=before
        )

    def found_missing(self, now: Monotonic) -> tuple[Finding, ...]:
        """The allocation does not exist: an open intent is closed as void, and becomes a late write."""
        intent = self._close()
        if intent is None:
            return ()
        before = dict(intent.fields) | {change.field: change.live for change in intent.changes}
        late_write = self._late_write(intent, _since(intent, now), now, accepted=False)
        self.late_writes.add(late_write, None, begun=now, before=before)
        return (self._finding(intent, "void", "410: the allocation is gone", now),)

    def _close(self) -> Intent | None:
        intent, self.intent = self.intent, None
        self.late_values, self.unmanaged_changed = {}, False
        return intent

    def judge(self, cloud: Cloud, *, begun: Monotonic, now: Monotonic) -> tuple[Finding, ...]:
        """What a read from `begun` to `now` (monotonic) shows about sent updates.

        It closes the open intent if the read proves its outcome.
        """
        open_fields = dict(self.intent.fields) if self.intent is not None else {}
        is_retry = any(late_write.fields == open_fields for late_write in self.late_writes.late_writes)
        detection = self.late_writes.observe(
            cloud, self.field_records, open_fields, begun=begun, now=now, rules=self.rules
        )
        self.late_fields = detection.fields
        self.field_records.explain_by_late_write(self.late_fields)
        findings = list(self._detected(detection, begun))
        if self.intent is not None:
            restored = frozenset(late_write.unmanaged_hash for late_write in detection.overwritten)
            verdict = tuple(self._verdict(self.intent, cloud, begun, now, restored))
            if verdict:
                self.settle_time.count_outcome(is_retry=is_retry, applied=verdict[0].outcome in APPLIED)
            findings.extend(verdict)
        return tuple(findings)

    def observe(
        self,
        desired: Mapping[str, str],
        changes: tuple[Change, ...],
        were_equal: frozenset[str],
        *,
        begun: Monotonic,
        now: Monotonic,
    ) -> tuple[tuple[Finding, ...], AnotherWriter | None]:
        """Record the differences to the desired values in the read that `judge` was given.

        `were_equal` are those of the fields that had the desired value in the read before. Returns a finding
        for each accepted update that did not show in its window, and what a person must be told.
        """
        observed = self.field_records.observe(
            desired,
            changes,
            changed_back=were_equal - self.late_fields,
            begun=begun,
            now=now,
            window_seconds=self.propagation_window.seconds(now),
            rules=self.rules,
        )
        if observed.shown_after_seconds:
            self.propagation_window.learn(observed.shown_after_seconds, now)
        return tuple(self._missed_updates(observed.missed, now)), observed.another_writer

    def _detected(self, detection: Detection, begun: Monotonic) -> Iterator[Finding]:
        for application in detection.applications:
            if application.lag_is_known:
                self.settle_time.learn_lag(application.waited_seconds, certain=application.is_certain)
            yield Finding(
                sequence=application.sequence,
                outcome="late_applied",
                reason=f"applied at most {application.waited_seconds:.0f} s after its outcome was given up",
                waited_seconds=application.waited_seconds,
                fields=tuple(sorted(application.fields)),
            )
        for late_write in detection.overwritten:
            yield _overwrite(late_write.sequence, begun - late_write.since)

    def _verdict(
        self, intent: Intent, cloud: Cloud, begun: Monotonic, now: Monotonic, restored: frozenset[str]
    ) -> Iterator[Finding]:
        """`restored` are the hashes of unmanaged fields whose stale overwrite is reported already."""
        since = _since(intent, now)
        intent.outcome_unknown(since, self.settle_time.seconds(now))
        live_hash = hash_unmanaged_fields(cloud, [name for name, _ in intent.fields])
        changed = self.unmanaged_changed = self.unmanaged_changed or live_hash != intent.unmanaged_hash
        self.late_values.update({name: field_value(cloud, name) for name in self.late_fields})
        late_fields = frozenset(
            change.field
            for change in intent.changes
            if self.late_values.get(change.field) == change.desired or self._is_accepted(change)
        )
        verdict = judge(intent, cloud, begun=begun, late_fields=late_fields)
        if verdict is None:
            return
        self._close()
        yield self._finding(intent, verdict.outcome, _REASONS[verdict.outcome], now)
        overwrote = changed and live_hash == intent.unmanaged_hash
        if overwrote and live_hash not in restored:
            yield _overwrite(intent.sequence, begun - since)
        if verdict.outcome not in APPLIED:
            self.late_writes.add(self._late_write(intent, since, now, accepted=False), cloud, begun=begun)
            return
        # The update was applied: fields that do not show yet get the propagation window, as after a 2xx.
        self.field_records.accept(
            verdict.unshown,
            at=since,
            window_seconds=self.propagation_window.seconds(since),
            confirm_seconds=self.rules.confirm_seconds,
            rules=self.rules,
        )
        if self.late_fields and not overwrote:
            # An older update was applied late; whether this one was applied as well is unknown.
            self.late_writes.add(self._late_write(intent, since, now, accepted=False), cloud, begun=begun)

    def _is_accepted(self, change: Change) -> bool:
        """Whether an older update with the same value was accepted and may be the one that shows."""
        accepted = self.field_records.accepted(change.field)
        return accepted is not None and accepted.value == change.desired

    def _missed_updates(self, missed: frozenset[str], now: Monotonic) -> Iterator[Finding]:
        """A finding for each accepted update among the late writes whose fields did not show in its window.

        Of several updates of one field, that is the latest.
        """
        for late_write in reversed(self.late_writes.late_writes):
            fields = missed & late_write.changes if late_write.accepted else frozenset[str]()
            missed -= fields
            if fields:
                yield Finding(
                    sequence=late_write.sequence,
                    outcome="applied_partial" if fields < late_write.changes else "not_applied",
                    reason=f"accepted, and no read shows it in time: {', '.join(sorted(fields))}",
                    waited_seconds=now - late_write.since,
                    fields=tuple(sorted(fields)),
                )

    def _late_write(self, intent: Intent, since: Monotonic, now: Monotonic, *, accepted: bool) -> LateWrite:
        return LateWrite(
            sequence=intent.sequence,
            since=since,
            until=now + self.rules.late_write_seconds,
            fields=dict(intent.fields),
            changes=frozenset(change.field for change in intent.changes),
            unmanaged_hash=intent.unmanaged_hash,
            accepted=accepted,
        )

    def _finding(self, intent: Intent, outcome: str, reason: str, now: Monotonic) -> Finding:
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


def _since(intent: Intent, now: Monotonic) -> Monotonic:
    return now if intent.unknown_since is None else intent.unknown_since


def _overwrite(sequence: int, waited_seconds: float) -> Finding:
    return Finding(
        sequence=sequence,
        outcome="stale_overwrite",
        reason="applied late: it restored old values of unmanaged fields that another writer had changed",
        waited_seconds=waited_seconds,
    )
