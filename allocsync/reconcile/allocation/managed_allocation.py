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
from allocsync.reconcile.allocation.read_back import Past
from allocsync.reconcile.allocation.updates import Decision, Finding, Intent, State, Update
from allocsync.reconcile.allocation.write_backoff import JOURNAL, RETRY_AFTER, TAKEOVER, By, Restraint
from allocsync.reconcile.gates.write_gate import Stops
from allocsync.reconcile.operation import Priority, Slot, Turn
from allocsync.reconcile.parameters import Rules


@dataclass(slots=True, kw_only=True)
class Lane:
    """See the module. `delay_seconds` is always the backoff to apply should it be needed."""

    id: AllocationId
    rules: Rules
    past: Past
    look_at: float
    state: State = State.IDLE
    restraint: Restraint = field(default_factory=Restraint)
    stops: Stops = field(default_factory=Stops)  # of all lanes
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
    rebuilt: int = 0  # updates in a row that a check held back just before sending
    edited: bool = False  # while a request was under way
    converged: desired_state.Desired | None = None  # what it was last seen to be in sync with

    @property
    def intent(self) -> Intent | None:
        """The update that is under way, or whose outcome is open."""
        return self.past.intent

    def want(
        self, desired: desired_state.Desired | None, *, now: float, problems: tuple[str, ...] = ()
    ) -> None:
        """The files say something: a first declaration, an edit, or (None) that it is disowned."""
        self.problems = problems
        before, self.desired = self.desired, desired  # equal ones may stand in another place now
        if desired == before:
            return
        if before is not None:
            self.restraint.edit()
            self.past.leaves.edit()
            self.read_failures = self.probes = 0
        self.edited = self.state in {State.LOOKING, State.POSTING}
        if self.state is State.IDLE:
            self._rest(now, now)

    def outcome_unknown_since_restart(self, left: OpenIntent, now: float) -> None:
        """An earlier process sent this update, or was about to: its outcome is unknown from `now` on."""
        record = left.record
        intent = Intent(
            changes=record.changes,
            leaves=record.leaves,
            undeclared=record.undeclared,
            sequence=left.sequence,
        )
        self.state, self.restraint.error = State.SETTLING, "the process ended before the outcome was known"
        self.past.unknown(intent, now)
        self.look_at = intent.settles_at

    def send_nothing_before(self, until: float) -> None:
        """Forbid updates before `until` (monotonic): what an earlier process sent may land until then."""
        self.restraint.until[TAKEOVER] = until

    def turn(self) -> Turn:
        """When, in which kind of slot and how urgently this lane wants its next look."""
        if self.intent is not None:
            return Turn(self.look_at, Slot.READ, Priority.READ_BACK)
        if self.desired is None or self.desired.mode is desired_state.Mode.SUSPEND:
            return Turn(inf, Slot.READ, Priority.RESYNC)
        enforced = (
            self.desired.mode is desired_state.Mode.ENFORCE and self.stops.ordered_until(self.id) == -inf
        )
        if self.read_failures:
            return Turn(self.look_at, Slot.READ, Priority.RETRY)
        if self.desired != self.compared:
            slot = Slot.WRITE if enforced and (self.suspected or self.compared is not None) else Slot.READ
            return Turn(self.look_at, slot, Priority.EDIT)
        if enforced and (self.changes or self.suspected):
            if self.changes and self.past.leaves.awaited(self.changes):
                return Turn(self.look_at, Slot.READ, Priority.DRIFT)  # confirms: waits for no write slot
            priority = Priority.RETRY if self.restraint.failures else Priority.DRIFT
            return Turn(self.look_at, Slot.WRITE, priority)
        return Turn(self.look_at, Slot.READ, Priority.RESYNC)

    # Looking.

    def begin_look(self) -> None:
        """A snapshot goes out."""
        if self.state not in {State.IDLE, State.SETTLING}:
            raise ValueError(f"{self.id} is {self.state}: one request at a time")
        self.state, self.edited, self.suspected = State.LOOKING, False, False

    def looked(
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
                self.restraint.error = snapshot.reason
                self.read_failures += 1
                if snapshot.retry_after_seconds is not None:
                    self.restraint.until[RETRY_AFTER] = now + delay_seconds
                self._rest(now + delay_seconds, now)
                return Decision(failed=True)
            case api_answers.Missing():
                return self._looked_missing(begun, now)
            case _:
                self.read_failures, self.missing, self.probes = 0, False, 0
                return self._decide(snapshot.cloud, begun, now, now + resync_seconds)

    def _looked_missing(self, begun: float, now: float) -> Decision:
        findings = self.past.gone(now)
        self.state, self.missing = State.IDLE, True
        self.read_failures, self.restraint.failures, self.restraint.terminal = 0, 0, ()
        self.pending_since, self.changes, self.compared, self.observed_at = None, (), None, begun
        probe = min(self.rules.missing_first_seconds * 2**self.probes, self.rules.missing_most_seconds)
        self.probes += 1
        self._rest(now + probe, now)
        return Decision(findings)

    def _decide(self, cloud: Cloud, begun: float, now: float, resync_at: float) -> Decision:
        findings = self.past.judge(cloud, begun=begun, now=now)
        if self.intent is not None:
            self.look_at = self.intent.settles_at
            return Decision(findings)
        self.state = State.IDLE
        if any(finding.outcome in {"applied", "applied_partial"} for finding in findings):
            self.restraint.failures, self.restraint.error = 0, ""
        if self.desired is None:
            self.look_at = inf
            return Decision(findings)
        findings += self._observe(compare(self.desired, cloud), begun, now)
        update = self._plan(self.desired, cloud, now, resync_at)
        if self.edited:
            self._rest(now, now)
        return Decision(findings, update)

    def _observe(self, changes: tuple[Change, ...], begun: float, now: float) -> tuple[Finding, ...]:
        before = dict(self.compared.leaves) if self.compared is not None else {}
        for change in self.changes:
            before.pop(change.field, None)
        equal = frozenset(change.field for change in changes if before.get(change.field) == change.desired)
        findings = self.past.observe(changes, equal, begun=begun, now=now)
        self.changes, self.compared, self.observed_at = changes, self.desired, begun
        if not changes:
            self.restraint.relieve()
            self.pending_since, self.converged = None, self.desired
        return findings

    def _plan(self, desired: desired_state.Desired, cloud: Cloud, now: float, resync: float) -> Update | None:
        """The update to send now, or None with `look_at` set."""
        holds = [self.past.leaves.hold(change, now, self.rules) for change in self.changes]
        self.look_at = min(resync, *(until for until in holds if until is not None), inf)
        if None not in holds or desired.mode is not desired_state.Mode.ENFORCE:
            return None
        if pending(cloud):
            self.pending_since = now if self.pending_since is None else self.pending_since
            self.look_at = min(self.look_at, now + self.rules.resync_bulk_seconds)
            return None
        self.pending_since = None
        body, problems = update_body(desired, cloud)
        self.restraint.build(self.changes, problems, now + self.rules.terminal_seconds)
        stop = self.stops.until(self.id, now)
        until = self.restraint.forbids(self.changes, now, begun=self.observed_at, stopped_until=stop)
        if until is not None:
            self.look_at = min(resync, until)
            return None
        self.restraint.until.clear()
        why = "drift" if self.converged == desired else "desired state"
        return Update(body, self.changes, desired, snapshot_ended=now, why=why)

    def _rest(self, look_at: float, now: float) -> None:
        """Until when to rest: an edit is looked at now, but never before the server's own wish."""
        if self.intent is None and (self.edited or look_at <= now):
            look_at = self.restraint.allowed_at(now)
        self.look_at = look_at

    # Sending.

    def intend(self, record: IntentRecord) -> Intent:
        """The update is about to be recorded and sent."""
        if self.intent is not None or self.state is not State.IDLE:
            raise ValueError(f"{self.id} is {self.state}: it cannot begin an update")
        self.state = State.POSTING
        intent = Intent(changes=record.changes, leaves=record.leaves, undeclared=record.undeclared)
        self.past.intent = intent
        return intent

    def recheck(self, update: Update, now: float, *, commit_seconds: float) -> str | None:
        """Just before sending: why it must not leave, or None. Once rebuilt, a slow disk is allowed for."""
        edited = self.desired != update.desired
        if why := "the desired state changed" if edited else self.stops.why(self.id, now):
            return why
        fresh = self.rules.fresh_seconds + (commit_seconds if self.rebuilt else 0.0)
        if now - update.snapshot_ended > fresh:
            return f"the snapshot is older than {fresh:.1f} s"
        return None

    def unrecorded(self, reason: str, *, now: float) -> None:
        """The journal could not be written, so the update did not leave: it waits until `recordable`."""
        self.past.intent, self.state = None, State.IDLE
        self.restraint.journal_problem = reason
        # No looks meanwhile: a full disk here is no reason to load the API.
        self.restraint.until[JOURNAL] = until = now + self.rules.wait_most_seconds
        self._rest(until, now)

    def recordable(self, now: float) -> bool:
        """The journal can be written again; whether that changes anything here."""
        waited = self.restraint.until.pop(JOURNAL, None) is not None
        self.restraint.journal_problem = ""
        if waited and self.state is State.IDLE:
            self._rest(now, now)
        return waited

    def withdraw(self, reason: str, *, now: float, delay_seconds: float) -> None:
        """The update did not leave: rebuilt at once; twice in a row, edits aside, counts as a failure."""
        self.past.intent, self.state, self.look_at = None, State.IDLE, now
        self.rebuilt += 1
        if self.rebuilt > 1 and not self.edited:
            self.rebuilt = 0
            self.restraint.fail(reason, now + delay_seconds)
            self.look_at = now + delay_seconds

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
        self.written_at, self.rebuilt = now, 0
        self.past.intent, self.state = None, State.IDLE
        until = now + delay_seconds
        match answer:
            case api_answers.OutcomeUnknown():
                self.past.unknown(intent, now)
                self.state = State.SETTLING
                self.restraint.fail(answer.reason, until, answer.retry_after_seconds)
                self.look_at = intent.settles_at
            case api_answers.Accepted():
                self.restraint.failures, self.restraint.error = 0, ""
                self.past.accepted(intent, now)
                self._rest(now + confirm_seconds, now)
            case api_answers.Rejected(terminal=True) | api_answers.NotSent(terminal=True):
                by = By.API if isinstance(answer, api_answers.Rejected) else By.CHECK
                self.restraint.refuse(self.changes, answer.reason, now + self.rules.terminal_seconds, by)
                self.missing = isinstance(answer, api_answers.Rejected) and answer.gone
                wait = self.rules.missing_first_seconds if self.missing else self.rules.terminal_seconds
                self._rest(now + min(resync_seconds, wait), now)
            case _:
                wish = answer.retry_after_seconds if isinstance(answer, api_answers.Rejected) else None
                self.restraint.fail(answer.reason, until, wish)
                self._rest(until, now)

    def listed(self, cloud: Cloud | None, *, begun: float, now: float) -> None:
        """A bulk answer that began at `begun` shows this, or None: it lacks the allocation.

        It may confirm InSync or ask for a look. Being left out asks for one too; it does not say Missing.
        """
        older, soon = begun <= max(self.observed_at, self.written_at), self.restraint.allowed_at(now)
        if self.state is not State.IDLE or self.desired is None or older:
            return
        if cloud is None:
            self.look_at = self.look_at if self.missing else min(self.look_at, soon)
            return
        changes = compare(self.desired, cloud)
        known = changes == self.changes and self.compared == self.desired
        landing = self.past.ghosts.suspect(cloud)
        if changes and known and not landing and (self.pending_since is None or pending(cloud)):
            self.observed_at = begun  # nothing new: what is known of it still says when to look
        elif changes or self.missing or landing or (judge_at := self.past.leaves.looks_at(self.rules)) <= now:
            self.suspected, self.look_at = bool(changes), min(self.look_at, soon)
        else:
            self.changes, self.observed_at, self.suspected = (), begun, False
            self.compared = self.converged = self.desired
            self.read_failures, self.pending_since, self.look_at = 0, None, judge_at
            self.restraint.relieve()
