"""One managed allocation: what is known of it, what may be sent, and when it is read next. Pure.

It has four states. Idle waits for `next_read_at`. Reading has a snapshot under way. Posting has an update
under way. Settling waits to read back an update of unknown outcome.

    Idle ──begin_read──▶ Reading ──on_read──▶ Idle | Settling | Idle with an Update to send
    Idle ──begin_update──▶ Posting ──on_update_response──▶ Idle | Settling
    Settling ──begin_read, at the settle time──▶ Reading

The rules: while the outcome of an update is unknown, nothing is sent, whatever changes. The verdict on an
update compares with what was sent; the next update compares with the desired state of now. Every attribute
changes only through the methods of this class. A method returns what to do and never does it.

Left out: requests (`reconciler`), until when updates are forbidden (`write_backoff`, `gates.write_gate`), and
the condition (`status.condition_rules`).
"""

from dataclasses import dataclass, field

from allocsync.model import api_answers, desired_state
from allocsync.model.api_answers import RejectionClass
from allocsync.model.change import Change
from allocsync.model.cloud import Cloud
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import IntentRecord, OpenIntent
from allocsync.model.times import LONG_AGO, NEVER, Monotonic
from allocsync.planning.diff import compare, pending, update_body
from allocsync.reconcile.allocation.field_records import AnotherWriter
from allocsync.reconcile.allocation.read_back import APPLIED, ReadBack
from allocsync.reconcile.allocation.updates import Decision, Finding, Intent, State, Update
from allocsync.reconcile.allocation.write_backoff import (
    BACKOFF,
    JOURNAL,
    RETRY_AFTER,
    TAKEOVER,
    RejectedBy,
    WriteBackoff,
)
from allocsync.reconcile.events import ConvergenceCause, UpdateCause
from allocsync.reconcile.gates.write_gate import WriteGate
from allocsync.reconcile.operation import Operation, Priority, QueueEntry
from allocsync.reconcile.parameters import Parameters

CLOCK_SECONDS = 1.0  # for people, two times that differ by less are the same


@dataclass(slots=True, kw_only=True)
class ManagedAllocation:
    """The state of one allocation. All times are monotonic, in seconds, and passed in by the caller.

    `delay_seconds`, where a method takes it, is the backoff to apply if the request failed.
    """

    id: AllocationId
    rules: Parameters
    read_back: ReadBack
    next_read_at: Monotonic
    state: State = State.IDLE
    write_backoff: WriteBackoff = field(default_factory=WriteBackoff)
    write_gate: WriteGate = field(default_factory=WriteGate)  # shared by all allocations
    desired: desired_state.Desired | None = None
    problems: tuple[str, ...] = ()  # the mistakes in its newest entry; `desired` is the last without any
    changes: tuple[Change, ...] = ()  # the differences that the latest read showed
    compared: desired_state.Desired | None = None  # the desired state that they were computed for
    observed_at: Monotonic = LONG_AGO  # when the latest usable read or list read began
    written_at: Monotonic = LONG_AGO  # when the latest update ended, whatever its outcome
    answer_age_seconds: float = 0.0  # how old the answer of the latest read was; 0 unless a cache gave it
    list_differs: bool = False  # the list shows a difference that no read has confirmed yet
    is_heartbeat: bool = False  # the next read shows whether the API is reachable
    missing: bool = False
    probes: int = 0  # reads in a row that found it missing
    pending_since: Monotonic | None = None  # since when a PENDING status holds back an update
    read_failures: int = 0
    build_aborts: int = 0  # updates in a row that a check stopped just before sending
    edited_during_request: bool = False  # an edit, or `retry`, came while a request was under way
    converged: desired_state.Desired | None = None  # the desired state that it was last in sync with

    @property
    def intent(self) -> Intent | None:
        """The update that is under way or whose outcome is unknown; None without one."""
        return self.read_back.intent

    @property
    def difference_cause(self) -> ConvergenceCause:
        """Why the allocation may differ: never in sync in this process (`first`), edited since, or drift."""
        if self.converged is None:
            return "first"
        return "drift" if self.converged == self.desired else "edit"

    def set_desired(
        self, desired: desired_state.Desired | None, *, now: Monotonic, problems: tuple[str, ...] = ()
    ) -> None:
        """Set what the files declare.

        `desired` is None if the files do not declare the allocation or declare it with mistakes only, which
        are then in `problems`.

        An edit makes a read due at once, or when Retry-After ends, and ends backoffs and rejections. The
        records of the fields whose value it changes are forgotten, those of other fields are not. After an
        edit during a request, that read is due when the request has ended. While an outcome is unknown, an
        edit does not change when the read-back is due. The first declaration makes a read due too, but ends
        nothing: what the checkpoint restored stays. An equal one changes only where it comes from.
        """
        self.problems = problems
        before, self.desired = self.desired, desired  # an equal one may come from another place in the files
        if desired == before:
            return
        if before is not None:
            self.write_backoff.edit()
            self.read_back.field_records.edit(_values(before), _values(desired))
            self.read_failures = self.probes = 0
        self.edited_during_request = self.state in {State.READING, State.POSTING}
        if self.state is State.IDLE:
            self._wait_until(now, now)

    def retry(self, now: Monotonic) -> None:
        """A person asks for another try: field records, backoffs and rejections are forgotten.

        A read is due at once, or when Retry-After ends. After a request that is under way, it is due when
        that has ended. While an outcome is unknown, this does not change when the read-back is due.
        """
        self.write_backoff.edit()
        self.read_back.field_records.clear()
        self.read_failures = self.probes = 0
        self.edited_during_request = self.state in {State.READING, State.POSTING}
        if self.state is State.IDLE:
            self._wait_until(now, now)

    def keep_desired(self, problems: tuple[str, ...]) -> None:
        """The newest entry has these mistakes: the last declaration without any still applies."""
        self.problems = problems

    def update_source(self, desired: desired_state.Desired | None) -> None:
        """Take over an equal declaration that may come from another place in the files; no read is due."""
        self.desired = desired

    def restore_write_backoff(self, write_backoff: WriteBackoff) -> None:
        """Take over the write backoff that a checkpoint has of an earlier process."""
        self.write_backoff = write_backoff

    def outcome_unknown_since_restart(self, left: OpenIntent, now: Monotonic) -> None:
        """An earlier process sent this update, or was about to; its outcome is unknown from `now` on."""
        record = left.record
        intent = Intent(
            changes=record.changes,
            fields=record.fields,
            unmanaged_hash=record.unmanaged_hash,
            sequence=left.sequence,
        )
        self._settle(intent, now)
        self.written_at = now  # so that no older answer of a cache says what became of it
        self.write_backoff.outcome_unknown("the process ended before the outcome was known")

    def send_nothing_before(self, until: Monotonic) -> None:
        """Forbid updates before `until`: an update of an earlier process may be applied until then."""
        self.write_backoff.send_nothing_before(until)

    def queue_entry(self) -> QueueEntry:
        """When the next read is due, in which kind of slot and how urgently; `NEVER` if none is due.

        A write slot is for a read that an update will probably follow.
        """
        if self.intent is not None:
            return QueueEntry(self.next_read_at, Operation.READ, Priority.READ_BACK)
        if self.desired is None or self.desired.mode is desired_state.Mode.SUSPEND:
            return QueueEntry(NEVER, Operation.READ, Priority.RESYNC)
        enforced = (
            self.desired.mode is desired_state.Mode.ENFORCE
            and self.write_gate.prohibited_until(self.id) == LONG_AGO
        )
        if self.is_heartbeat:
            return QueueEntry(self.next_read_at, Operation.READ, Priority.EDIT)
        if self.read_failures:
            return QueueEntry(self.next_read_at, Operation.READ, Priority.RETRY)
        if self.desired != self.compared:
            operation = (
                Operation.WRITE
                if enforced and (self.list_differs or self.compared is not None)
                else Operation.READ
            )
            return QueueEntry(self.next_read_at, operation, Priority.EDIT)
        if enforced and (self.changes or self.list_differs):
            if self.changes and self.read_back.field_records.all_accepted(self.changes):
                # This read only confirms an accepted update, so it needs no write slot.
                return QueueEntry(self.next_read_at, Operation.READ, Priority.DRIFT)
            priority = Priority.RETRY if self.write_backoff.failures else Priority.DRIFT
            return QueueEntry(self.next_read_at, Operation.WRITE, priority)
        return QueueEntry(self.next_read_at, Operation.READ, Priority.RESYNC)

    # When the next read is due.

    def waits_for(self, now: Monotonic) -> str:
        """What the next read waits for at `now`, for people, while it is not due."""
        until = self.write_backoff.until
        if self.intent is not None:
            return "the settle time"
        if self.next_read_at == until.get(TAKEOVER):
            return "the settle time of earlier updates"
        if self.next_read_at == until.get(RETRY_AFTER):
            return "Retry-After of the API"
        if self.next_read_at == until.get(JOURNAL):
            return "the journal"
        if self.read_failures or self.next_read_at == until.get(BACKOFF):
            failures = self.read_failures + self.write_backoff.failures
            return f"the backoff after {failures} failed request{'s' if failures != 1 else ''}"
        if self.missing:
            return "the next probe of a missing allocation"
        return (self.changes and self._update_waits_for(now)) or "the resync"

    def _update_waits_for(self, now: Monotonic) -> str:
        """What ends when the next read is due, so that an update may follow; empty if nothing does."""
        if self.answer_age_seconds:
            return "a newer answer than that of the cache"
        records = self.read_back.field_records
        if records.all_accepted(self.changes):
            return "the confirmation of the update"
        attempts = [records.blocked_until(change, now) for change in self.changes]
        if self.write_backoff.terminal == self.changes:
            attempts.append(self.write_backoff.terminal_until)
        if self.next_read_at in attempts:
            return "the next attempt"
        ends = {
            "the end of the pause": self.write_gate.prohibited_until(self.id),
            **self.write_gate.shared_limits_until(self.id, now),
        }
        return next((what for what, at in ends.items() if abs(at - self.next_read_at) < CLOCK_SECONDS), "")

    def read_now(self, now: Monotonic) -> None:
        """Make a read due at once, or when Retry-After ends."""
        self.next_read_at = self.write_backoff.allowed_at(now)

    def read_no_later_than(self, at: Monotonic) -> bool:
        """Make a read due at `at`, or when Retry-After ends, unless one is due sooner.

        Returns whether that made it sooner.
        """
        due = self.write_backoff.allowed_at(at)
        is_sooner = due < self.next_read_at
        self.next_read_at = min(self.next_read_at, due)
        return is_sooner

    def read_as_heartbeat(self, now: Monotonic) -> None:
        """Make a read due at once, or when Retry-After ends, that shows whether the API is reachable.

        It goes before retries, which can take all slots in an outage.
        """
        self.is_heartbeat = True
        self.read_no_later_than(now)

    def schedule_first_read(self, at: Monotonic, now: Monotonic) -> None:
        """Make the first read of a newly declared allocation due at `at`, but not before Retry-After ends."""
        self.next_read_at = max(at, self.write_backoff.allowed_at(now))

    def postpone_until(self, at: Monotonic) -> bool:
        """Let no read be due before `at`.

        Returns False, and does nothing, if a request is under way, an outcome is unknown, or the desired
        state changed during the latest request.
        """
        if self.state is not State.IDLE or self.edited_during_request:
            return False
        self.next_read_at = max(self.next_read_at, at)
        return True

    def forgive(self, operation: Operation, failures: int, *, until: Monotonic) -> None:
        """The API, not this allocation, caused this many failures of `operation`.

        A read that waits for the backoff of such failures is due at `until` at the latest, or when
        Retry-After ends.
        """
        if operation is Operation.READ:
            backing_off = self.read_failures > 0
            self.read_failures = max(0, self.read_failures - failures)
        else:
            backing_off = self.next_read_at <= self.write_backoff.until.get(BACKOFF, LONG_AGO)
            self.write_backoff.forgive(failures, until)
        if backing_off and self.state in {State.IDLE, State.SETTLING}:
            self.next_read_at = self.write_backoff.allowed_at(min(self.next_read_at, until))

    # Reading.

    def begin_read(self) -> None:
        """A read begins.

        Raises:
            ValueError: a request is under way.
        """
        if self.state not in {State.IDLE, State.SETTLING}:
            raise ValueError(f"{self.id} is {self.state}: one request at a time")
        self.state, self.edited_during_request, self.list_differs = State.READING, False, False
        self.is_heartbeat = False

    def on_read(
        self,
        snapshot: api_answers.Snapshot,
        *,
        begun: Monotonic,
        now: Monotonic,
        delay_seconds: float,
        resync_seconds: float,
    ) -> Decision:
        """Judge a read that began at `begun` and ended at `now`, and decide what to do.

        If a cache answered, the read is judged as one that began when the answer was made. An answer that was
        made before the latest update ended, or before the latest observation, is not used.

        `resync_seconds` is the longest wait from `now` to the next read, if this one found the allocation.
        """
        self.state = State.IDLE if self.intent is None else State.SETTLING
        if isinstance(snapshot, api_answers.Failed):
            self.read_failures += 1
            retry_after = None if snapshot.retry_after_seconds is None else now + delay_seconds
            self.write_backoff.read_failed(snapshot.reason, retry_after=retry_after)
            self._wait_until(now + delay_seconds, now)
            return Decision(failed=True)
        age_seconds = self.answer_age_seconds = snapshot.evidence_age_seconds
        begun -= age_seconds
        self.read_failures = 0
        if age_seconds and begun < max(self.observed_at, self.written_at):
            decision = Decision(failed=True)
            self.next_read_at = now if self._needs_newer_than(begun) else now + resync_seconds
        elif isinstance(snapshot, api_answers.Missing):
            decision = self._on_missing(begun, now)
        else:
            self.missing, self.probes = False, 0
            decision = self._decide(snapshot.cloud, begun, now, now + resync_seconds)
        if age_seconds:
            self._wait_for_cache(now)
        return decision

    def _needs_newer_than(self, evidence_at: Monotonic) -> bool:
        """Whether more is due than the next resync, which an answer made at `evidence_at` cannot decide."""
        return (
            self.intent is not None
            or evidence_at < self.written_at
            or bool(self.changes)
            or self.compared != self.desired
        )

    def _wait_for_cache(self, now: Monotonic) -> None:
        """Let the cache's answer become older before the next read, which would get the same one.

        Its lifetime is not known, so the wait is the age of the answer: with each read the age doubles.
        """
        wait = min(max(self.answer_age_seconds, self.rules.confirm_seconds), self.rules.cache_wait_seconds)
        self._wait_until(max(self.next_read_at, self.write_backoff.allowed_at(now + wait)), now)

    def _on_missing(self, begun: Monotonic, now: Monotonic) -> Decision:
        findings = self.read_back.found_missing(now)
        self.state, self.missing = State.IDLE, True
        self.write_backoff.found_missing()
        self.pending_since, self.changes, self.compared, self.observed_at = None, (), None, begun
        probe = min(self.rules.missing_first_seconds * 2**self.probes, self.rules.missing_max_seconds)
        self.probes += 1
        self._wait_until(now + probe, now)
        return Decision(findings)

    def _decide(self, cloud: Cloud, begun: Monotonic, now: Monotonic, resync_at: Monotonic) -> Decision:
        findings = self.read_back.judge(cloud, begun=begun, now=now)
        if self.intent is not None:
            self.next_read_at = self.intent.settles_at
            return Decision(findings)
        self.state = State.IDLE
        if any(finding.outcome in APPLIED for finding in findings):
            self.write_backoff.succeed()
        if self.desired is None:
            self.next_read_at = NEVER
            return Decision(findings)
        observed, another_writer = self._observe(self.desired, cloud, begun, now)
        update = self._plan(self.desired, cloud, now, resync_at)
        if self.edited_during_request:
            self._wait_until(now, now)
        return Decision(findings + observed, update, another_writer=another_writer)

    def _observe(
        self, desired: desired_state.Desired, cloud: Cloud, begun: Monotonic, now: Monotonic
    ) -> tuple[tuple[Finding, ...], AnotherWriter | None]:
        changes = compare(desired, cloud)
        before = _values(self.compared)
        for change in self.changes:
            before.pop(change.field, None)
        were_equal = frozenset(
            change.field for change in changes if before.get(change.field) == change.desired
        )
        observed = self.read_back.observe(_values(desired), changes, were_equal, begun=begun, now=now)
        self.changes, self.compared, self.observed_at = changes, desired, begun
        if not changes:
            self.write_backoff.nothing_to_send()
            self.pending_since, self.converged = None, desired
        return observed

    def _plan(
        self, desired: desired_state.Desired, cloud: Cloud, now: Monotonic, resync_at: Monotonic
    ) -> Update | None:
        """The update to send now; None if there is none, and then `next_read_at` is set."""
        blocked = [self.read_back.field_records.blocked_until(change, now) for change in self.changes]
        self.next_read_at = min(resync_at, *(until for until in blocked if until is not None), NEVER)
        if None not in blocked or desired.mode is not desired_state.Mode.ENFORCE:
            return None
        if pending(cloud):
            self.pending_since = now if self.pending_since is None else self.pending_since
            self.next_read_at = min(self.next_read_at, now + self.rules.resync_bulk_seconds)
            return None
        self.pending_since = None
        body, problems = update_body(desired, cloud)
        self.write_backoff.body_built(self.changes, problems, now + self.rules.terminal_seconds)
        gate_until = self.write_gate.earliest_write_at(self.id, now)
        until = self.write_backoff.blocked_until(
            self.changes, now, begun=self.observed_at, gate_until=gate_until
        )
        if until is not None:
            self.next_read_at = min(resync_at, until)
            return None
        if self.answer_age_seconds > self.rules.fresh_seconds:
            self.next_read_at = now
            return None  # what others wrote since then would be overwritten
        self.write_backoff.update_planned()
        why = "drift" if self.difference_cause == "drift" else "desired state"
        cause: UpdateCause = "retry" if self.write_backoff.failures else self.difference_cause
        return Update(body, self.changes, desired, snapshot_ended=now, why=why, cause=cause)

    def _wait_until(self, next_read_at: Monotonic, now: Monotonic) -> None:
        """Set when the next read is due.

        After an edit during the request it is due at once, or when Retry-After ends.
        """
        if self.intent is None and (self.edited_during_request or next_read_at <= now):
            next_read_at = self.write_backoff.allowed_at(now)
        self.next_read_at = next_read_at

    def _settle(self, intent: Intent, now: Monotonic) -> None:
        self.state = State.SETTLING
        self.read_back.outcome_unknown(intent, now)
        self.next_read_at = intent.settles_at

    # Sending.

    def begin_update(self, record: IntentRecord) -> Intent:
        """An update is about to be recorded and sent. Returns its intent.

        Raises:
            ValueError: a request is under way, or the outcome of an update is unknown.
        """
        if self.intent is not None or self.state is not State.IDLE:
            raise ValueError(f"{self.id} is {self.state}: it cannot begin an update")
        self.state = State.POSTING
        intent = Intent(changes=record.changes, fields=record.fields, unmanaged_hash=record.unmanaged_hash)
        self.read_back.begin(intent)
        return intent

    def abort_reason(self, update: Update, now: Monotonic, *, commit_seconds: float) -> str | None:
        """Why the update must not be sent after all, or None; asked just before it is sent.

        The desired state changed, a gate closed, or the snapshot is too old. It may be `fresh_seconds` old.
        After an abort it may be older by `commit_seconds`, the time of a commit to the journal: otherwise a
        slow disk would abort every attempt.
        """
        if self.desired != update.desired:
            return "the desired state changed"
        if why := self.write_gate.blocked_reason(self.id, now):
            return why
        max_age_seconds = self.rules.fresh_seconds + (commit_seconds if self.build_aborts else 0.0)
        if now - update.snapshot_ended > max_age_seconds:
            return f"the snapshot is older than {max_age_seconds:.1f} s"
        return None

    def journal_unavailable(self, reason: str, *, now: Monotonic) -> None:
        """The journal could not record the update, so it was not sent.

        No read is due, and no update may be sent, for `wait_max_seconds`; `journal_available` ends both
        sooner. An edit ends only the wait for the read.
        """
        self.state = State.IDLE
        self.read_back.end()
        until = now + self.rules.wait_max_seconds
        self.write_backoff.journal_unavailable(reason, until)
        # Nothing is read before that either: a full disk here is no reason to load the API.
        self._wait_until(until, now)

    def journal_available(self, now: Monotonic) -> bool:
        """The journal can be written again: a read is due. Returns whether the allocation waited for it."""
        waited = self.write_backoff.journal_available()
        if waited and self.state is State.IDLE:
            self._wait_until(now, now)
        return waited

    def abort_update(self, reason: str, *, now: Monotonic, delay_seconds: float) -> None:
        """The update was not sent: a read is due at once, to build it anew.

        The second abort in a row counts as a failure and waits for the backoff, unless it follows an edit.
        """
        self.state, self.next_read_at = State.IDLE, now
        self.read_back.end()
        self.build_aborts += 1
        if self.build_aborts > 1 and not self.edited_during_request:
            self.build_aborts = 0
            self.write_backoff.fail(reason, now + delay_seconds)
            self.next_read_at = now + delay_seconds

    def sent_but_cut_off(self, intent: Intent, reason: str, now: Monotonic) -> None:
        """The process ends while the update is under way; its outcome is unknown from `now` on."""
        self.state = State.SETTLING
        self.read_back.outcome_unknown(intent, now)
        self.write_backoff.outcome_unknown(reason)

    def on_update_response(
        self,
        response: api_answers.UpdateAnswer,
        *,
        now: Monotonic,
        delay_seconds: float,
        confirm_seconds: float,
        resync_seconds: float,
    ) -> None:
        """The update ended at `now`; its response decides what comes next.

        `confirm_seconds` is the wait from `now` to the first read that confirms an accepted update; until one
        does, each further wait is doubled, and the last read is at the end of the propagation window.
        `resync_seconds` is the longest wait from `now` after an update that must not be sent again as it is,
        and has no other use.

        Raises:
            ValueError: no update is under way.
        """
        intent = self.intent
        if intent is None or self.state is not State.POSTING:
            raise ValueError(f"{self.id} is {self.state}: no update is under way")
        self.written_at, self.build_aborts = now, 0
        self.state = State.IDLE
        self.read_back.end()
        until = now + delay_seconds
        match response:
            case api_answers.OutcomeUnknown():
                self._settle(intent, now)
                self.write_backoff.fail(response.reason, until, response.retry_after_seconds)
            case api_answers.Accepted():
                self.write_backoff.succeed()
                self.read_back.accept(intent, now, status=response.status, confirm_seconds=confirm_seconds)
                self._wait_until(now + confirm_seconds, now)
            case (
                api_answers.Rejected(kind=RejectionClass.BODY | RejectionClass.GONE)
                | api_answers.NotSent(terminal=True)
            ):
                by = RejectedBy.API if isinstance(response, api_answers.Rejected) else RejectedBy.CHECK
                self.write_backoff.reject(
                    self.changes, response.reason, now + self.rules.terminal_seconds, by
                )
                self.missing = (
                    isinstance(response, api_answers.Rejected) and response.kind is RejectionClass.GONE
                )
                wait = self.rules.missing_first_seconds if self.missing else self.rules.terminal_seconds
                self._wait_until(now + min(resync_seconds, wait), now)
            case _:
                retry_after = (
                    response.retry_after_seconds if isinstance(response, api_answers.Rejected) else None
                )
                self.write_backoff.fail(response.reason, until, retry_after)
                if isinstance(response, api_answers.Rejected) and response.kind is RejectionClass.OTHER:
                    until = min(until, now + resync_seconds)  # this backoff can be longer than a resync
                self._wait_until(until, now)

    def on_listed(self, cloud: Cloud | None, *, begun: Monotonic, now: Monotonic) -> bool:
        """Use the entry of a list that began at `begun`; None if the list lacks the allocation.

        An entry may confirm that the allocation is in sync, or make a read due. If there is no entry, a read
        is due, because only a read shows that an allocation is missing. The list is not used if it began
        before the latest observation or the end of the latest update, during a request, or while an outcome
        is unknown. Returns whether a field record has ended, so that the checkpoint must forget it.
        """
        is_older = begun <= max(self.observed_at, self.written_at)
        if self.state is not State.IDLE or self.desired is None or is_older:
            return False
        if cloud is None:
            if not self.missing:
                self.read_no_later_than(now)
            return False
        changes = compare(self.desired, cloud)
        is_known = changes == self.changes and self.compared == self.desired
        may_be_late = self.read_back.late_writes.may_show_in(cloud)
        if changes and is_known and not may_be_late and (self.pending_since is None or pending(cloud)):
            self.observed_at = begun  # nothing is new, so the next read stays when it is
        elif (
            changes
            or self.missing
            or may_be_late
            or (read_needed_at := self.read_back.field_records.read_needed_at(self.rules)) <= now
        ):
            self.list_differs = bool(changes)
            self.read_no_later_than(now)
        else:
            self.changes, self.observed_at, self.list_differs = (), begun, False
            self.compared = self.converged = self.desired
            self.read_failures, self.pending_since, self.next_read_at = 0, None, read_needed_at
            self.write_backoff.nothing_to_send()
            return self.read_back.field_records.forget_old(now, self.rules)
        return False


def _values(desired: desired_state.Desired | None) -> dict[str, str]:
    """The declared fields and their values."""
    return {} if desired is None else dict(desired.fields)
