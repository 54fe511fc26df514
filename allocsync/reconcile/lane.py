"""One allocation's life: what is known of it, what happens next, and what may be sent. Pure.

Four states and two kinds of time. Idle waits for `look_at`; Looking has a snapshot under way; Posting has an
update under way; Settling has an update whose outcome nobody knows. `look_at` says when to look,
`no_post_before` who forbids an update until when.

    Idle ──begin_look──▶ Looking ──looked──▶ Idle | Settling | an Update to send
    an Update ──intend──▶ Posting ──posted──▶ Idle | Settling
    Settling ──begin_look, at the settle time──▶ Looking

The rules: an update's outcome is learned from a read and never guessed; until it is known nothing is sent,
whatever changes meanwhile. The verdict compares with what was sent, the next plan with what is wanted now. A
lane never acts: it returns a Decision, and `now` and the delays are arguments.

Left out: requests and waiting (`loop`), single leaves (`leaves`), what to call it (`condition`).
"""

from dataclasses import dataclass, field
from math import inf

from allocsync.planning import model
from allocsync.planning.diff import Change, compare, pending, update_body
from allocsync.reconcile.decision import Decision, Intent, Settled, State, Update, judge
from allocsync.reconcile.leaves import Leaves
from allocsync.reconcile.limiter import Slot
from allocsync.reconcile.queue import Priority, Turn
from allocsync.reconcile.rules import Rules


@dataclass(slots=True, kw_only=True)
class Lane:
    """See the module. `delay_seconds` is always the backoff to apply should it be needed."""

    id: model.AllocationId
    rules: Rules
    look_at: float
    state: State = State.IDLE
    no_post_before: dict[str, float] = field(default_factory=dict)
    desired: model.Desired | None = None
    problems: tuple[str, ...] = ()  # what is wrong in the file, while there is no good version
    intent: Intent | None = None
    leaves: Leaves = field(default_factory=Leaves)
    changes: tuple[Change, ...] = ()  # the differences that the latest look showed
    compared: model.Desired | None = None  # what they were computed for
    observed_at: float = -inf  # when the latest usable observation began
    written_at: float = -inf  # when the latest update ended, however it ended
    suspected: bool = False  # a bulk answer differs: the next look will probably lead to an update
    missing: bool = False
    probes: int = 0  # looks in a row that found it missing
    pending_since: float | None = None
    error: str = ""
    read_failures: int = 0
    write_failures: int = 0
    terminal: tuple[Change, ...] = ()  # the differences for which the API refuses the body
    terminal_until: float = -inf
    rebuilt: int = 0  # updates in a row that a check held back just before sending
    edited: bool = False  # while a request was under way

    def want(self, desired: model.Desired | None, *, now: float, problems: tuple[str, ...] = ()) -> None:
        """The files say something: a first declaration, an edit, or (None) that it is disowned."""
        self.problems = problems
        if desired == self.desired:
            return
        self.desired, self.terminal = desired, ()
        self.no_post_before.pop("backoff", None)
        self.read_failures = self.write_failures = 0
        self.leaves.edit()
        self.edited = self.state in {State.LOOKING, State.POSTING}
        if self.state is State.IDLE:
            self._rest(now, now)

    def turn(self) -> Turn:
        """When, in which kind of slot and how urgently this lane wants its next look."""
        if self.intent is not None:
            return Turn(self.look_at, Slot.READ, Priority.READ_BACK)
        if self.desired is None or self.desired.mode is model.Mode.SUSPEND:
            return Turn(inf, Slot.READ, Priority.RESYNC)
        enforced = self.desired.mode is model.Mode.ENFORCE
        if self.read_failures:
            return Turn(self.look_at, Slot.READ, Priority.RETRY)
        if self.desired != self.compared:
            slot = Slot.WRITE if enforced and self.compared is not None else Slot.READ
            return Turn(self.look_at, slot, Priority.EDIT)
        if enforced and (self.changes or self.suspected):
            return Turn(self.look_at, Slot.WRITE, Priority.RETRY if self.write_failures else Priority.DRIFT)
        return Turn(self.look_at, Slot.READ, Priority.RESYNC)

    # Looking.

    def begin_look(self) -> None:
        """A snapshot goes out."""
        if self.state not in {State.IDLE, State.SETTLING}:
            raise ValueError(f"{self.id} is {self.state}: one request at a time")
        self.state, self.edited, self.suspected = State.LOOKING, False, False

    def looked(
        self,
        snapshot: model.Snapshot,
        *,
        begun: float,
        now: float,
        delay_seconds: float,
        resync_seconds: float,
    ) -> Decision:
        """A snapshot that began at `begun` ended at `now`: judge, compare, decide."""
        self.state = State.IDLE if self.intent is None else State.SETTLING
        match snapshot:
            case model.Failed():
                self.error = snapshot.reason
                self.read_failures += 1
                if snapshot.retry_after_seconds is not None:
                    self.no_post_before["retry_after"] = now + delay_seconds
                self._rest(now + delay_seconds, now)
                return Decision()
            case model.Missing():
                return self._looked_missing(begun, now)
            case _:
                self.read_failures, self.missing, self.probes = 0, False, 0
                return self._decide(snapshot.cloud, begun, now, now + resync_seconds)

    def _looked_missing(self, begun: float, now: float) -> Decision:
        settled = None if self.intent is None else self._close(self.intent, "void", now)
        self.read_failures = self.write_failures = 0
        self.missing, self.pending_since, self.changes = True, None, ()
        self.compared, self.observed_at = None, begun
        probe = min(self.rules.missing_first_seconds * 2**self.probes, self.rules.missing_most_seconds)
        self.probes += 1
        self._rest(now + probe, now)
        return Decision(settled=settled)

    def _decide(self, cloud: model.Cloud, begun: float, now: float, resync_at: float) -> Decision:
        settled = None
        if self.intent is not None:
            settle_seconds = self.rules.settle_seconds
            verdict = judge(self.intent, cloud, begun=begun, settle_seconds=settle_seconds)
            if verdict is None:
                self.look_at = self.intent.settles_at(settle_seconds)
                return Decision()
            if verdict.outcome in {"applied", "applied_partial"}:
                # Leaves of it that do not show get grace, as after a 2xx: it ran, nothing is sent again.
                self.write_failures = 0
                since = self.intent.unknown_since
                self.leaves.accept(verdict.unshown, at=now if since is None else since)
            settled = self._close(self.intent, verdict.outcome, now)
        if self.desired is None:
            self.look_at = inf
            return Decision(settled=settled)
        self._observe(compare(self.desired, cloud), begun, now)
        update = self._plan(self.desired, cloud, now, resync_at)
        if self.edited:
            self._rest(now, now)
        return Decision(settled=settled, update=update)

    def _close(self, intent: Intent, outcome: str, now: float) -> Settled:
        self.intent, self.state = None, State.IDLE
        since = now if intent.unknown_since is None else intent.unknown_since
        return Settled(intent.sequence, outcome, now - since)

    def _observe(self, changes: tuple[Change, ...], begun: float, now: float) -> None:
        before = dict(self.compared.leaves) if self.compared is not None else {}
        for change in self.changes:
            before.pop(change.field, None)
        flipped = frozenset(change.field for change in changes if before.get(change.field) == change.desired)
        self.leaves.observe(changes, flipped=flipped, begun=begun, now=now, rules=self.rules)
        self.changes, self.compared, self.observed_at = changes, self.desired, begun
        if not changes:
            self.write_failures, self.error, self.terminal, self.pending_since = 0, "", (), None

    def _plan(self, desired: model.Desired, cloud: model.Cloud, now: float, resync: float) -> Update | None:
        """The update to send now, or None with `look_at` set."""
        holds = [self.leaves.hold(change, now, self.rules) for change in self.changes]
        self.look_at = min(resync, *(until for until in holds if until is not None), inf)
        if None not in holds or desired.mode is not model.Mode.ENFORCE:
            return None
        if pending(cloud):
            self.pending_since = now if self.pending_since is None else self.pending_since
            self.look_at = min(self.look_at, now + self.rules.resync_bulk_seconds)
            return None
        self.pending_since = None
        if self.terminal == self.changes and now < self.terminal_until:
            self.look_at = min(self.look_at, self.terminal_until)
            return None
        body, problems = update_body(desired, cloud)
        if problems:
            self._refuse("; ".join(problems), now, resync)
            return None
        until = max(self.no_post_before.values(), default=-inf)
        if until > now:
            self.look_at = until
            return None
        self.no_post_before.clear()
        return Update(body, self.changes, desired, snapshot_ended=now)

    def _refuse(self, reason: str, now: float, resync_at: float) -> None:
        self.terminal, self.error = self.changes, reason
        self.terminal_until = now + self.rules.terminal_seconds
        self.look_at = min(resync_at, self.terminal_until)

    def _rest(self, look_at: float, now: float) -> None:
        """Until when to rest: an edit is looked at now, but never before the server's own wish."""
        if self.intent is None and (self.edited or look_at <= now):
            look_at = max(now, self.no_post_before.get("retry_after", -inf))
        self.look_at = look_at

    def defer(self, now: float) -> None:
        """There was no write slot for the update: look again as soon as there is one."""
        self.look_at = now

    # Sending.

    def intend(self, update: Update) -> Intent:
        """The update is about to be recorded and sent."""
        if self.intent is not None or self.state is not State.IDLE:
            raise ValueError(f"{self.id} is {self.state}: it cannot begin an update")
        self.intent, self.state = Intent(update.changes, update.desired), State.POSTING
        return self.intent

    def recheck(self, update: Update, now: float) -> str | None:
        """Just before sending: why the update must not leave after all, or None."""
        if self.desired != update.desired:
            return "the desired state changed"
        if now - update.snapshot_ended > self.rules.fresh_seconds:
            return f"the snapshot is older than {self.rules.fresh_seconds:g} s"
        return None

    def withdraw(self, reason: str, *, now: float, delay_seconds: float) -> None:
        """The update did not leave, a check failed: rebuilt at once; twice in a row counts as a failure."""
        self.intent, self.state, self.look_at = None, State.IDLE, now
        self.rebuilt += 1
        if self.rebuilt > 1:
            self.rebuilt = 0
            self._failed_write(reason, now + delay_seconds)
            self.look_at = now + delay_seconds

    def posted(
        self,
        answer: model.UpdateAnswer,
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
        self.intent, self.state = None, State.IDLE
        until = now + delay_seconds
        match answer:
            case model.OutcomeUnknown():
                intent.unknown_since = now
                self.intent, self.state = intent, State.SETTLING
                self._failed_write(answer.reason, until, answer.retry_after_seconds)
                self.look_at = intent.settles_at(self.rules.settle_seconds)
            case model.Accepted():
                self.write_failures = 0
                self.leaves.accept(intent.changes, at=now)
                self._rest(now + confirm_seconds, now)
            case model.Rejected(terminal=True) | model.NotSent(terminal=True):
                self.write_failures += 1
                self._refuse(answer.reason, now, now + resync_seconds)
                self._rest(self.look_at, now)
            case model.Rejected():
                self._failed_write(answer.reason, until, answer.retry_after_seconds)
                self._rest(until, now)
            case model.NotSent():
                self._failed_write(answer.reason, until)
                self._rest(until, now)

    def _failed_write(self, reason: str, until: float, retry_after_seconds: float | None = None) -> None:
        self.error = reason
        self.write_failures += 1
        self.no_post_before["backoff"] = until
        if retry_after_seconds is not None:
            self.no_post_before["retry_after"] = until

    # Seen in bulk.

    def listed(self, cloud: model.Cloud | None, *, begun: float, now: float) -> None:
        """A bulk answer that began at `begun` shows this, or None: it lacks the allocation.

        It may confirm InSync or ask for a look. Being left out asks for one too; it does not say Missing.
        """
        older = begun <= max(self.observed_at, self.written_at)
        if self.state is not State.IDLE or self.desired is None or older:
            return
        if cloud is None:
            self.look_at = self.look_at if self.missing else min(self.look_at, now)
            return
        changes = compare(self.desired, cloud)
        known = changes == self.changes and self.compared == self.desired
        if changes and known and (self.pending_since is None or pending(cloud)):
            self.observed_at = begun  # nothing new: what is known of it still says when to look
        elif changes or self.missing or (judge_at := self.leaves.looks_at(self.rules)) <= now:
            self.suspected, self.look_at = bool(changes), min(self.look_at, now)
        else:
            self.changes, self.compared, self.observed_at = (), self.desired, begun
            self.read_failures, self.write_failures, self.error, self.look_at = 0, 0, "", judge_at
