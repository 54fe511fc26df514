"""Nothing is forgotten: after each request and edit, the next request comes in time.

P1   an allocation that differs, or whose update is open, is read again within its backoff, settle time,
     propagation window or resync
P8   an edit is acted on within a second, except for the settle time and the server's Retry-After
P12  so is a retry, which also ends every other wait: the next read that shows a difference has an update

The times are upper bounds from what the server sees. Where the rules allow hours, nothing is required.

Left out: the time until everything has converged (`convergence`).
"""

import sqlite3
from collections.abc import Callable, Iterable
from math import inf

from allocsync.model.api_answers import (
    Failed,
    Live,
    OutcomeUnknown,
    Rejected,
    RejectionClass,
    Snapshot,
    UpdateAnswer,
)
from allocsync.model.cloud import Cloud
from allocsync.model.desired_state import Mode
from allocsync.model.ids import AllocationId
from allocsync.planning.diff import compare, pending
from allocsync.reconcile.controller import IDLE_SECONDS
from allocsync.reconcile.parameters import Parameters
from tests.simulation.engine.history import Get, Post
from tests.simulation.engine.server import Server
from tests.simulation.oracles import history_evidence
from tests.simulation.oracles.breaker import BreakerOracle
from tests.simulation.oracles.due_times import FEWEST_SLOTS, SLOW_SECONDS, Due, SentRequests
from tests.simulation.oracles.history_evidence import (
    allows_hours,
    is_recorded,
    longest_backoff_seconds,
    longest_window_seconds,
    unsettled,
)
from tests.simulation.oracles.write_gates import WriteGatesOracle

RULES = Parameters()
SLACK_SECONDS = 1.5
FIRST_PASS_SECONDS = 15.0  # of a process, whatever the list does
FIRST_CONFIRMATION_SECONDS = 2.0  # at most, after an update was accepted
TOO_MANY_REQUESTS = 429


class LivenessOracle:
    """See the module. Times are virtual seconds."""

    def __init__(
        self,
        server: Server,
        *,
        resync_seconds: float,
        bulk: bool,
        gates: WriteGatesOracle,
        report_breach: Callable[[str, str], None],
    ) -> None:
        self._server = server
        self._gates = gates
        self._history = server.history
        self._report_breach = report_breach
        self._resync_seconds = inf if bulk else 1.1 * resync_seconds
        self._pending_seconds = max(RULES.resync_bulk_seconds, resync_seconds)
        self._due = {key: Due() for key in self._history.truths}
        self._process_count = 0
        self._alive = self._listed = False
        self._reads_closed_until = self._writes_closed_until = -inf
        self._reads, self._writes, self._sent_requests = BreakerOracle(), BreakerOracle(), SentRequests()
        self.forgotten_before = -inf  # a clock moved ahead ends what is kept for minutes
        self._no_updates_before = -inf  # a lost journal forbids updates until then
        self.journal: sqlite3.Connection | None = None
        self.process_ends = history_evidence.ProcessEnds()
        self.disk_fails_until = -inf
        self.slack_seconds, self.longest_unknown_seconds = SLACK_SECONDS, 0.0

    def process_started(self, *, gap: bool, waits: bool) -> None:
        """A process has started. `gap`: a journal was lost just now; `waits`: one was lost recently."""
        now = self._server.now()
        self._process_count += 1
        self._alive, self._listed = True, False
        self._reads, self._writes = BreakerOracle(), BreakerOracle()
        for key, due in self._due.items():
            # One more than was seen: a process can end before it reports the failure.
            kept = is_recorded(
                max(self.process_ends.processes, default=0), due.forgiven_at, self.process_ends
            )
            known = max(due.write_failures, 0 if kept else due.forgiven)
            failures = 0 if gap or self._process_count == 1 else known + 1
            is_retried = is_recorded(
                max(self.process_ends.processes, default=0), due.retried_at, self.process_ends
            )
            accepted_at = max(due.accepted_at, -inf if is_retried else due.accepted_before_retry)
            self._due[key] = Due(
                write_failures=failures,
                held_until=due.held_until,
                backoff_until=max(due.backoff_until, due.forgiven_until),
                accepted_at=accepted_at,
                restored_at=min(accepted_at, now),
            )
        if waits:
            self._no_updates_before = now + self.longest_settle_seconds()
        for key, truth in self._history.truths.items():
            if unsettled(truth, self._history.gap_at):
                self._expect(
                    key, now + self.longest_settle_seconds(), "P1", "an update is open since the start"
                )

    def wall_clock_moved(self, seconds: float) -> None:
        """The wall clock was moved between two processes; moved back, stored times seem further away."""
        if seconds > RULES.late_write_seconds:
            self.forgotten_before = self._server.now()
        if seconds < 0:
            self._no_updates_before = self._server.now() - seconds
        for due in self._due.values() if seconds < 0 else ():
            due.held_until -= seconds
            due.accepted_at, due.accepted_before_retry = (
                due.accepted_at - seconds,
                due.accepted_before_retry - seconds,
            )
            due.backoff_until, due.forgiven_until = due.backoff_until - seconds, due.forgiven_until - seconds

    def process_ended(self) -> None:
        """The process has ended."""
        if self._alive:
            self.check()
        self._alive = False
        self.journal = None

    def check(self) -> None:
        """Report a breach for each overdue request."""
        for key in self._due:
            self._check(key)

    def _check(self, key: AllocationId) -> None:
        due, now = self._due[key], self._server.now()
        if not self._alive or now <= due.by + self.slack_seconds:
            return
        by = self._delayed_until(due.by, writes=due.writes)
        if now > by:
            journal_settled_at = self._settled_at(
                key, lambda: history_evidence.journal_settle_seconds(self.journal)
            )
            by = max(by, journal_settled_at + self.slack_seconds)
        was_asked = due.promise in {"P8", "P12"}
        if now > by and was_asked and history_evidence.journal_has_open_intent(self.journal, key):
            # A read has settled it, but the daemon took what it showed for a late write of an older update.
            self._expect(
                key, now + history_evidence.MOST_SECONDS, "P1", "an update is open and its reads may fail"
            )
        elif now > by:
            self._report_breach(due.promise, f"no request for {key} since {due.why}; it was due at {by:.3f}")
            due.by = inf

    def _delayed_until(self, by: float, *, writes: bool) -> float:
        """When a request that is due at `by` has been sent at the latest, by what may delay any request."""
        now = self._server.now()
        closed = max(self._writes_closed_until, self._writes.until) if writes else -inf
        # There may be only one slot, and all other allocations may come first.
        narrow = self._reads.is_limit_lowered(now) or self._writes.is_limit_lowered(now)
        under_way = sum(each.under_way for each in self._due.values())
        crowd = len(self._due) - 1 if narrow else under_way // FEWEST_SLOTS
        held = max(self.disk_fails_until, closed, self._reads_closed_until, self._reads.until)
        latest = max(by, held) + self.slack_seconds + crowd * SLOW_SECONDS
        return max(latest, self._sent_requests.crowd_until(by, of=len(self._due), narrow=narrow))

    def is_left_alone(self, key: AllocationId, by: float) -> bool:
        """Whether a request that was due at `by` has not been sent and nothing explains it any more."""
        due = self._due[key]
        is_running = self._alive and not due.under_way
        return is_running and self._server.now() > self._delayed_until(by, writes=True)

    def may_be_asked(self, key: AllocationId) -> bool:
        """Whether a heartbeat may read this allocation: it is idle, and the API has not asked to wait."""
        due, now = self._due[key], self._server.now()
        is_idle = not due.under_way and not unsettled(self._history.truths[key], self._history.gap_at)
        return is_idle and max(due.held_until, self._reads_closed_until) <= now

    def longest_settle_seconds(self) -> float:
        """The longest that the settle time can be by now."""
        return history_evidence.longest_settle_seconds(
            self._history.truths.values(), self.longest_unknown_seconds
        )

    def request_sent(self, key: AllocationId) -> None:
        """A request is sent."""
        self._check(key)
        self._sent_requests.sent_at.append(self._server.now())
        due = self._due[key]
        due.by, due.under_way, due.asked, due.without_gates = inf, True, None, inf

    def _expect(self, key: AllocationId, by: float, promise: str, why: str, *, writes: bool = False) -> None:
        due = self._due[key]
        due.writes, due.without_gates = writes, inf
        due.by, due.promise, due.why = by, promise, f"{self._server.now():.3f}, when {why}"

    def desired_changed(self, key: AllocationId, *, first: bool) -> None:
        """The declaration of this allocation changed, or exists for the first time."""
        due = self._due[key]
        if not first:
            due.forgive(inf)
            due.backoff_until, due.read_failures = -inf, 0
        due.was_read = due.was_read and self._history.desired(key) is not None
        self._ask(key, "P8", "the file was edited")

    def retried(self, scope: AllocationId | None) -> None:
        """A person asked for another try of one allocation, or of all: only Retry-After and gates hold it."""
        now = self._server.now()
        for key, due in self._due.items():
            if scope in {None, key} and self._history.desired(key) is not None:
                due.forgive(now)
                due.backoff_until, due.read_failures = -inf, 0
                due.retried_at, due.accepted_before_retry = now, max(due.accepted_at, due.restored_at)
                due.accepted_at = due.restored_at = -inf
                # The read that settles an open update begins records of its fields anew.
                due.retried = not unsettled(self._history.truths[key], self._history.gap_at)
                self._ask(key, "P12", "a person asked for another try")

    def _ask(self, key: AllocationId, promise: str, why: str) -> None:
        """A request is due soon, or soon after the one that is under way."""
        due = self._due[key]
        due.asked, due.writes = (promise, why) if due.under_way else None, True
        if not due.under_way:
            self._expect_soon(key, promise, why)

    def _expect_soon(self, key: AllocationId, promise: str, why: str) -> None:
        due, desired = self._due[key], self._history.desired(key)
        if unsettled(self._history.truths[key], self._history.gap_at):
            return
        if desired is None or desired.mode is Mode.SUSPEND:
            due.by = inf
        elif self._settled_at(key, self.longest_settle_seconds) <= self._server.now():
            self._expect(key, self._soon(self._server.now(), due), promise, why, writes=True)

    def _soon(self, now: float, due: Due) -> float:
        wait = 1.0 if due.was_read or self._listed else FIRST_PASS_SECONDS
        return max(now + wait, due.held_until, self._writes_closed_until)

    def longest_wait_seconds(self) -> float:
        """How long the longest backoff or Retry-After still is, at most."""
        now = self._server.now()
        waits = [
            max(due.backoff_until, due.held_until, due.by if due.by < inf else 0.0)
            for due in self._due.values()
        ]
        return max(0.0, max(waits, default=0.0) - now, self._writes_closed_until - now)

    def pause_lifted(self, scope: AllocationId | None) -> None:
        """A pause was lifted: what it held back is read again.

        If another gate is still closed, its end is noticed when the dispatcher runs next.
        """
        now = self._server.now()
        for key, due in self._due.items():
            if scope in {None, key} and max(due.by, due.without_gates) < inf:
                opens_at = self._gates.opens_at(key, now)
                noticed_at = now if opens_at <= now else opens_at + IDLE_SECONDS
                due.by = min(due.by, max(noticed_at, due.without_gates))
                due.why = f"{now:.3f}, when a pause was lifted"

    def list_answered(self, clouds: Iterable[Cloud], begun: float) -> None:
        """A list that began at `begun` was answered."""
        self._listed = True
        for cloud in clouds:
            key = AllocationId(str(cloud["id"]))
            desired, truth = self._history.desired(key), self._history.truths[key]
            if desired is None or unsettled(truth, self._history.gap_at) or compare(desired, cloud):
                continue
            newest = max(
                [get.begun for get in truth.gets if get.cloud is not None]
                + [post.answered or post.sent for post in truth.posts],
                default=-inf,
            )
            due = self._due[key]
            if begun > newest and not due.under_way:
                due.by = self._resync_seconds + self._server.now()

    def read_answered(self, get: Get, answer: Snapshot) -> None:
        """A read was answered."""
        due, now = self._due[get.key], self._server.now()
        due.under_way, due.was_read = False, self._history.desired(get.key) is not None
        self._reads.request_answered(get.key, answer, now, declared=self._history.declared_count)
        match answer:
            case Failed():
                due.read_failures += 1
                if answer.status == TOO_MANY_REQUESTS:
                    until = now + longest_backoff_seconds(1, answer.retry_after_seconds)
                    self._reads_closed_until = max(self._reads_closed_until, until)
                by = now + longest_backoff_seconds(due.read_failures, answer.retry_after_seconds)
                if answer.retry_after_seconds:
                    due.held_until = max(due.held_until, by)
                why = f"a read failed, {due.read_failures} in a row"
                self._expect(get.key, max(by, due.held_until), "P1", why)
                # After an outage the failure is cleared, and the allocation may need an update as before.
                for each in self._due.values() if self._reads.until > now else ():
                    each.writes |= each.read_failures > 0
            case Live(cloud):
                due.read_failures = 0
                # The answer of a cache carries no update: the next read waits as long as the answer is old.
                wait = min(max(get.age_seconds, RULES.confirm_seconds), RULES.cache_wait_seconds)
                self._read_shows(get.key, due, cloud, now + (wait if get.age_seconds else 0.0))
            case _:
                due.read_failures = 0
                due.forgive(now)
        desired = self._history.desired(get.key)
        if (desired is None or desired.mode is Mode.SUSPEND) and not unsettled(
            self._history.truths[get.key], self._history.gap_at
        ):
            due.by = inf
        elif due.asked:
            self._expect_soon(get.key, *due.asked)

    def allows_hours(self, key: AllocationId) -> bool:
        """Whether the rules allow hours for this allocation."""
        truth = self._history.truths[key]
        forgotten = any(post.sent < self.forgotten_before for post in truth.posts)
        return forgotten or allows_hours(
            truth, self._server.allocations[key].ignored_field, self.process_ends, self._history.gap_at
        )

    def _settled_at(self, key: AllocationId, settle_seconds: Callable[[], float]) -> float:
        """When outcomes that no read has shown are settled at the latest, with this settle time."""
        posts = self._history.truths[key].posts
        since = [
            post.unknown_since for post in posts if not post.confirmed and post.unknown_since is not None
        ]
        return max(since) + settle_seconds() if since else -inf

    def _read_shows(self, key: AllocationId, due: Due, cloud: Cloud, now: float) -> None:
        truth, desired = self._history.truths[key], self._history.desired(key)
        settled_at = self._settled_at(key, self.longest_settle_seconds)
        if unsettled(truth, self._history.gap_at):
            self._expect(key, max(now, settled_at), "P1", "a read did not settle an update")
        elif desired is None or desired.mode is Mode.SUSPEND:
            due.by = inf
        elif (
            not compare(desired, cloud)
            or desired.mode is Mode.OBSERVE
            or key in self._history.change_limit.possibly_held
        ):
            if not compare(desired, cloud):
                due.forgive(now)
            self._expect(key, max(now + self._resync_seconds, settled_at), "P1", "a read found nothing to do")
        elif self.allows_hours(key) and not due.retried:
            due.by = inf
        elif pending(cloud):
            by = max(now + self._pending_seconds, settled_at)
            self._expect(key, by, "P1", "a read found a status PENDING", writes=True)
        else:
            hidden = now + longest_backoff_seconds(3, None) if self.slack_seconds > SLACK_SECONDS else now
            waits = (
                hidden,
                due.backoff_until,
                due.held_until,
                self._confirmed_by(due.accepted_at, now),
                self._confirmed_by(due.restored_at, now),
                settled_at,
            )
            by = max(now, *waits, self._no_updates_before)
            opens_at = self._gates.opens_at(key, now)
            self._expect(key, max(by, opens_at), "P1", "a read found a difference", writes=True)
            if opens_at > now:
                due.without_gates = by
                self._gates.note_waiting(key, now)

    def _confirmed_by(self, accepted_at: float, now: float) -> float:
        """When a read looks for an accepted value that the read of now does not show.

        The wait since the acceptance is doubled each time; the last read is at the end of the window.
        """
        window_ends = accepted_at + longest_window_seconds(self._history.truths.values())
        return min(window_ends, accepted_at + 2 * max(now - accepted_at, FIRST_CONFIRMATION_SECONDS))

    def update_answered(self, post: Post, answer: UpdateAnswer) -> None:
        """An update was answered."""
        due, now = self._due[post.key], self._server.now()
        due.under_way = due.retried = False
        post.served = self._writes.request_answered(
            post.key, answer, now, declared=self._history.declared_count
        )
        retry_after_seconds = (
            answer.retry_after_seconds if isinstance(answer, Rejected | OutcomeUnknown) else None
        )
        if post.answer == "accepted":
            due.forgive(now)
            due.accepted_at, due.restored_at = now, -inf
            self._expect(post.key, now + 2.0, "P1", "an update was accepted", writes=due.asked is not None)
        else:
            due.write_failures += 1
            # An update that a slow disk held back twice counts as a failure too, and is never sent.
            hidden = 3 if self.slack_seconds > SLACK_SECONDS else 0
            until = due.backoff_until = now + longest_backoff_seconds(
                due.write_failures + hidden,
                retry_after_seconds,
                most_seconds=RULES.rejected_max_seconds if _is_other(answer) else RULES.wait_max_seconds,
            )
            if retry_after_seconds:
                due.held_until = max(due.held_until, until)
            if isinstance(answer, Rejected) and answer.status == TOO_MANY_REQUESTS:
                self._writes_closed_until = max(self._writes_closed_until, until)
            if isinstance(answer, OutcomeUnknown):
                self.longest_unknown_seconds = max(self.longest_unknown_seconds, now - post.sent)
                self._expect(
                    post.key, now + self.longest_settle_seconds(), "P1", "an update's outcome became unknown"
                )
            elif isinstance(answer, Rejected) and answer.kind is RejectionClass.BODY:
                due.by = inf
            else:
                by, why = max(until, self._writes_closed_until), "an update was rejected or not sent"
                self._expect(post.key, by, "P1", why, writes=True)
        if due.asked:
            self._expect_soon(post.key, *due.asked)


def _is_other(answer: UpdateAnswer) -> bool:
    return isinstance(answer, Rejected) and answer.kind is RejectionClass.OTHER
