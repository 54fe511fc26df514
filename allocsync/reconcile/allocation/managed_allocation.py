"""One allocation's life: what is known of it, what happens next, and what may be sent. Pure.

Four states: Idle waits for `look_at`; Looking has a snapshot under way; Posting has an update under way;
Settling has an update whose outcome nobody knows.

    Idle ──begin_look──▶ Looking ──looked──▶ Idle | Settling | an Update to send
    an Update ──intend──▶ Posting ──posted──▶ Idle | Settling
    Settling ──begin_look, at the settle time──▶ Looking

The rules: until the outcome of an update is known nothing is sent, whatever changes. The verdict compares
with what was sent (`past`), the next plan with what is wanted now. A lane returns Decisions and never acts.

Left out: requests (`loop`), who forbids an update (`restraint`, `stops`), what to call it (`condition`).
"""

from dataclasses import dataclass, field
from math import inf

from allocsync.model import api_answers, desired_state
from allocsync.model.change import Change
from allocsync.model.cloud import Cloud
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import IntentRecord, OpenIntent
from allocsync.planning.diff import compare, pending, update_body
from allocsync.reconcile.allocation.read_back import ReadBack
from allocsync.reconcile.allocation.updates import Decision, Finding, Intent, State, Update
from allocsync.reconcile.allocation.write_backoff import (
    JOURNAL,
    RETRY_AFTER,
    TAKEOVER,
    RejectedBy,
    WriteBackoff,
)
from allocsync.reconcile.gates.write_gate import WriteGate
from allocsync.reconcile.operation import Operation, Priority, QueueEntry
from allocsync.reconcile.parameters import Parameters


@dataclass(slots=True, kw_only=True)
class ManagedAllocation:
    """See the module. `delay_seconds` is always the backoff to apply should it be needed."""

    id: AllocationId
    rules: Parameters
    read_back: ReadBack
    next_read_at: float
    state: State = State.IDLE
    write_backoff: WriteBackoff = field(default_factory=WriteBackoff)
    write_gate: WriteGate = field(default_factory=WriteGate)  # of all lanes
    desired: desired_state.Desired | None = None
    problems: tuple[str, ...] = ()  # what is wrong in the file, while there is no good version
    changes: tuple[Change, ...] = ()  # the differences that the latest look showed
    compared: desired_state.Desired | None = None  # what they were computed for
    observed_at: float = -inf  # when the latest usable observation began
    written_at: float = -inf  # when the latest update ended, however it ended
    suspected: bool = False  # a bulk answer differs: the next look will probably lead to an update
    missing: bool = False
    probes: int = 0  # looks in a row that found it missing
    pending_since: float | None = None
    read_failures: int = 0
    build_aborts: int = 0  # updates in a row that a check held back just before sending
    edited: bool = False  # while a request was under way
    converged: desired_state.Desired | None = None  # what it was last seen to be in sync with

    @property
    def intent(self) -> Intent | None:
        """The update that is under way, or whose outcome is open."""
        return self.read_back.intent

    def set_desired(
        self, desired: desired_state.Desired | None, *, now: float, problems: tuple[str, ...] = ()
    ) -> None:
        """The files say something: a first declaration, an edit, or (None) that it is disowned."""
        self.problems = problems
        before, self.desired = self.desired, desired  # equal ones may stand in another place now
        if desired == before:
            return
        if before is not None:
            self.write_backoff.edit()
            self.read_back.field_records.edit()
            self.read_failures = self.probes = 0
        self.edited = self.state in {State.READING, State.POSTING}
        if self.state is State.IDLE:
            self._rest(now, now)

    def outcome_unknown_since_restart(self, left: OpenIntent, now: float) -> None:
        """An earlier process sent this update, or was about to: its outcome is unknown from `now` on."""
        record = left.record
        intent = Intent(
            changes=record.changes,
            fields=record.fields,
            unmanaged_hash=record.unmanaged_hash,
            sequence=left.sequence,
        )
        self.state, self.write_backoff.error = (
            State.SETTLING,
            "the process ended before the outcome was known",
        )
        self.read_back.unknown(intent, now)
        self.next_read_at = intent.settles_at

    def send_nothing_before(self, until: float) -> None:
        """Forbid updates before `until` (monotonic): what an earlier process sent may land until then."""
        self.write_backoff.until[TAKEOVER] = until

    def queue_entry(self) -> QueueEntry:
        """When, in which kind of slot and how urgently this lane wants its next look."""
        if self.intent is not None:
            return QueueEntry(self.next_read_at, Operation.READ, Priority.READ_BACK)
        if self.desired is None or self.desired.mode is desired_state.Mode.SUSPEND:
            return QueueEntry(inf, Operation.READ, Priority.RESYNC)
        enforced = (
            self.desired.mode is desired_state.Mode.ENFORCE
            and self.write_gate.prohibited_until(self.id) == -inf
        )
        if self.read_failures:
            return QueueEntry(self.next_read_at, Operation.READ, Priority.RETRY)
        if self.desired != self.compared:
            operation = (
                Operation.WRITE
                if enforced and (self.suspected or self.compared is not None)
                else Operation.READ
            )
            return QueueEntry(self.next_read_at, operation, Priority.EDIT)
        if enforced and (self.changes or self.suspected):
            if self.changes and self.read_back.field_records.awaited(self.changes):
                return QueueEntry(
                    self.next_read_at, Operation.READ, Priority.DRIFT
                )  # confirms: waits for no write slot
            priority = Priority.RETRY if self.write_backoff.failures else Priority.DRIFT
            return QueueEntry(self.next_read_at, Operation.WRITE, priority)
        return QueueEntry(self.next_read_at, Operation.READ, Priority.RESYNC)

    # Looking.

    def begin_read(self) -> None:
        """A snapshot goes out."""
        if self.state not in {State.IDLE, State.SETTLING}:
            raise ValueError(f"{self.id} is {self.state}: one request at a time")
        self.state, self.edited, self.suspected = State.READING, False, False

    def on_read(
        self,
        snapshot: api_answers.Snapshot,
        *,
        begun: float,
        now: float,
        delay_seconds: float,
        resync_seconds: float,
    ) -> Decision:
        """A snapshot that began at `begun` ended at `now`: judge, compare, decide."""
        self.state = State.IDLE if self.intent is None else State.SETTLING
        match snapshot:
            case api_answers.Failed():
                self.write_backoff.error = snapshot.reason
                self.read_failures += 1
                if snapshot.retry_after_seconds is not None:
                    self.write_backoff.until[RETRY_AFTER] = now + delay_seconds
                self._rest(now + delay_seconds, now)
                return Decision(failed=True)
            case api_answers.Missing():
                return self._on_missing(begun, now)
            case _:
                self.read_failures, self.missing, self.probes = 0, False, 0
                return self._decide(snapshot.cloud, begun, now, now + resync_seconds)

    def _on_missing(self, begun: float, now: float) -> Decision:
        findings = self.read_back.gone(now)
        self.state, self.missing = State.IDLE, True
        self.read_failures, self.write_backoff.failures, self.write_backoff.terminal = 0, 0, ()
        self.pending_since, self.changes, self.compared, self.observed_at = None, (), None, begun
        probe = min(self.rules.missing_first_seconds * 2**self.probes, self.rules.missing_most_seconds)
        self.probes += 1
        self._rest(now + probe, now)
        return Decision(findings)

    def _decide(self, cloud: Cloud, begun: float, now: float, resync_at: float) -> Decision:
        findings = self.read_back.judge(cloud, begun=begun, now=now)
        if self.intent is not None:
            self.next_read_at = self.intent.settles_at
            return Decision(findings)
        self.state = State.IDLE
        if any(finding.outcome in {"applied", "applied_partial"} for finding in findings):
            self.write_backoff.failures, self.write_backoff.error = 0, ""
        if self.desired is None:
            self.next_read_at = inf
            return Decision(findings)
        findings += self._observe(compare(self.desired, cloud), begun, now)
        update = self._plan(self.desired, cloud, now, resync_at)
        if self.edited:
            self._rest(now, now)
        return Decision(findings, update)

    def _observe(self, changes: tuple[Change, ...], begun: float, now: float) -> tuple[Finding, ...]:
        before = dict(self.compared.fields) if self.compared is not None else {}
        for change in self.changes:
            before.pop(change.field, None)
        equal = frozenset(change.field for change in changes if before.get(change.field) == change.desired)
        findings = self.read_back.observe(changes, equal, begun=begun, now=now)
        self.changes, self.compared, self.observed_at = changes, self.desired, begun
        if not changes:
            self.write_backoff.relieve()
            self.pending_since, self.converged = None, self.desired
        return findings

    def _plan(self, desired: desired_state.Desired, cloud: Cloud, now: float, resync: float) -> Update | None:
        """The update to send now, or None with `look_at` set."""
        holds = [self.read_back.field_records.hold(change, now, self.rules) for change in self.changes]
        self.next_read_at = min(resync, *(until for until in holds if until is not None), inf)
        if None not in holds or desired.mode is not desired_state.Mode.ENFORCE:
            return None
        if pending(cloud):
            self.pending_since = now if self.pending_since is None else self.pending_since
            self.next_read_at = min(self.next_read_at, now + self.rules.resync_bulk_seconds)
            return None
        self.pending_since = None
        body, problems = update_body(desired, cloud)
        self.write_backoff.build(self.changes, problems, now + self.rules.terminal_seconds)
        stop = self.write_gate.earliest_write_at(self.id, now)
        until = self.write_backoff.forbids(self.changes, now, begun=self.observed_at, stopped_until=stop)
        if until is not None:
            self.next_read_at = min(resync, until)
            return None
        self.write_backoff.until.clear()
        why = "drift" if self.converged == desired else "desired state"
        return Update(body, self.changes, desired, snapshot_ended=now, why=why)

    def _rest(self, next_read_at: float, now: float) -> None:
        """Until when to rest: an edit is looked at now, but never before the server's own wish."""
        if self.intent is None and (self.edited or next_read_at <= now):
            next_read_at = self.write_backoff.allowed_at(now)
        self.next_read_at = next_read_at

    # Sending.

    def intend(self, record: IntentRecord) -> Intent:
        """The update is about to be recorded and sent."""
        if self.intent is not None or self.state is not State.IDLE:
            raise ValueError(f"{self.id} is {self.state}: it cannot begin an update")
        self.state = State.POSTING
        intent = Intent(changes=record.changes, fields=record.fields, unmanaged_hash=record.unmanaged_hash)
        self.read_back.intent = intent
        return intent

    def recheck(self, update: Update, now: float, *, commit_seconds: float) -> str | None:
        """Just before sending: why it must not leave, or None. Once rebuilt, a slow disk is allowed for."""
        edited = self.desired != update.desired
        if why := "the desired state changed" if edited else self.write_gate.blocked_reason(self.id, now):
            return why
        fresh = self.rules.fresh_seconds + (commit_seconds if self.build_aborts else 0.0)
        if now - update.snapshot_ended > fresh:
            return f"the snapshot is older than {fresh:.1f} s"
        return None

    def unrecorded(self, reason: str, *, now: float) -> None:
        """The journal could not be written, so the update did not leave: it waits until `recordable`."""
        self.read_back.intent, self.state = None, State.IDLE
        self.write_backoff.journal_problem = reason
        # No looks meanwhile: a full disk here is no reason to load the API.
        self.write_backoff.until[JOURNAL] = until = now + self.rules.wait_most_seconds
        self._rest(until, now)

    def recordable(self, now: float) -> bool:
        """The journal can be written again; whether that changes anything here."""
        waited = self.write_backoff.until.pop(JOURNAL, None) is not None
        self.write_backoff.journal_problem = ""
        if waited and self.state is State.IDLE:
            self._rest(now, now)
        return waited

    def withdraw(self, reason: str, *, now: float, delay_seconds: float) -> None:
        """The update did not leave: rebuilt at once; twice in a row, edits aside, counts as a failure."""
        self.read_back.intent, self.state, self.next_read_at = None, State.IDLE, now
        self.build_aborts += 1
        if self.build_aborts > 1 and not self.edited:
            self.build_aborts = 0
            self.write_backoff.fail(reason, now + delay_seconds)
            self.next_read_at = now + delay_seconds

    def posted(
        self,
        answer: api_answers.UpdateAnswer,
        *,
        now: float,
        delay_seconds: float,
        confirm_seconds: float,
        resync_seconds: float,
    ) -> None:
        """The update ended; how it ended decides what comes next."""
        intent = self.intent
        if intent is None or self.state is not State.POSTING:
            raise ValueError(f"{self.id} is {self.state}: no update is under way")
        self.written_at, self.build_aborts = now, 0
        self.read_back.intent, self.state = None, State.IDLE
        until = now + delay_seconds
        match answer:
            case api_answers.OutcomeUnknown():
                self.read_back.unknown(intent, now)
                self.state = State.SETTLING
                self.write_backoff.fail(answer.reason, until, answer.retry_after_seconds)
                self.next_read_at = intent.settles_at
            case api_answers.Accepted():
                self.write_backoff.failures, self.write_backoff.error = 0, ""
                self.read_back.accepted(intent, now)
                self._rest(now + confirm_seconds, now)
            case api_answers.Rejected(terminal=True) | api_answers.NotSent(terminal=True):
                by = RejectedBy.API if isinstance(answer, api_answers.Rejected) else RejectedBy.CHECK
                self.write_backoff.reject(self.changes, answer.reason, now + self.rules.terminal_seconds, by)
                self.missing = isinstance(answer, api_answers.Rejected) and answer.gone
                wait = self.rules.missing_first_seconds if self.missing else self.rules.terminal_seconds
                self._rest(now + min(resync_seconds, wait), now)
            case _:
                wish = answer.retry_after_seconds if isinstance(answer, api_answers.Rejected) else None
                self.write_backoff.fail(answer.reason, until, wish)
                self._rest(until, now)

    def listed(self, cloud: Cloud | None, *, begun: float, now: float) -> None:
        """A bulk answer that began at `begun` shows this, or None: it lacks the allocation.

        It may confirm InSync or ask for a look. Being left out asks for one too; it does not say Missing.
        """
        older, soon = begun <= max(self.observed_at, self.written_at), self.write_backoff.allowed_at(now)
        if self.state is not State.IDLE or self.desired is None or older:
            return
        if cloud is None:
            self.next_read_at = self.next_read_at if self.missing else min(self.next_read_at, soon)
            return
        changes = compare(self.desired, cloud)
        known = changes == self.changes and self.compared == self.desired
        application = self.read_back.late_writes.suspect(cloud)
        if changes and known and not application and (self.pending_since is None or pending(cloud)):
            self.observed_at = begun  # nothing new: what is known of it still says when to look
        elif (
            changes
            or self.missing
            or application
            or (judge_at := self.read_back.field_records.read_needed_at(self.rules)) <= now
        ):
            self.suspected, self.next_read_at = bool(changes), min(self.next_read_at, soon)
        else:
            self.changes, self.observed_at, self.suspected = (), begun, False
            self.compared = self.converged = self.desired
            self.read_failures, self.pending_since, self.next_read_at = 0, None, judge_at
            self.write_backoff.relieve()
