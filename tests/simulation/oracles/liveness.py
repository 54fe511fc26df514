"""Nothing is forgotten: after each request and edit, the next one comes within the time due.

P1   what differs or is open is looked at again within its backoff, settle time, grace or resync
P8   an edit is looked at within a second, settling and the server's own Retry-After aside

The times are upper bounds, from what the server's side knows; where rules allow hours nothing is demanded.
"""

import sqlite3
from collections.abc import Callable, Iterable
from math import inf

from allocsync.model.api_answers import Failed, Live, OutcomeUnknown, Rejected, Snapshot, UpdateAnswer
from allocsync.model.cloud import Cloud
from allocsync.model.desired_state import Mode
from allocsync.model.ids import AllocationId
from allocsync.planning.diff import compare, pending
from allocsync.reconcile.parameters import Rules
from tests.simulation.engine.history import Get, Post
from tests.simulation.engine.server import Server
from tests.simulation.oracles import history_evidence
from tests.simulation.oracles.breaker import Outage
from tests.simulation.oracles.due_times import FEWEST_SLOTS, SLOW_SECONDS, Due, Turns
from tests.simulation.oracles.history_evidence import backoff_most_seconds, resting, unsettled, written

RULES = Rules()
SLACK_SECONDS = 1.5
FIRST_PASS_SECONDS = 90.0  # three bulk reads that fail slowly come first
TOO_MANY_REQUESTS = 429


class Liveness:
    """See the module."""

    def __init__(
        self, server: Server, *, resync_seconds: float, bulk: bool, broken: Callable[[str, str], None]
    ) -> None:
        self._server = server
        self._history = server.history
        self._broken = broken
        self._resync_seconds = inf if bulk else 1.1 * resync_seconds
        self._due = {key: Due() for key in self._history.truths}
        self._lives = 0
        self._alive = self._passed = False
        self._reads_closed_until = self._writes_closed_until = -inf
        self._reads, self._writes, self._turns = Outage(), Outage(), Turns()
        self.forgotten_before = -inf  # a clock that jumped ahead ends what was remembered for minutes
        self._nothing_before = -inf  # after a lost journal
        self.journal: sqlite3.Connection | None = None
        self.ended_at = history_evidence.Ended()
        self.trouble_until = -inf  # the disk
        self.slack_seconds, self.longest_unknown_seconds = SLACK_SECONDS, 0.0

    def began(self, *, gap: bool, waits: bool) -> None:
        """A process has started; a journal was lost just now, or (`waits`) not long ago."""
        now = self._server.now()
        self._lives += 1
        self._alive, self._passed = True, False
        self._reads, self._writes = Outage(), Outage()
        for key, due in self._due.items():
            # One more than was seen: a process can die before it has told.
            kept = written(max(self.ended_at.lives, default=0), due.forgiven_at, self.ended_at)
            known = max(due.write_failures, 0 if kept else due.forgiven)
            failures = 0 if gap or self._lives == 1 else known + 1
            self._due[key] = Due(
                write_failures=failures,
                held_until=due.held_until,
                backoff_until=max(due.backoff_until, due.forgiven_until),
                accepted_at=due.accepted_at,
            )
        if waits:
            self._nothing_before = now + self.settle_most_seconds()
        for key, truth in self._history.truths.items():
            if unsettled(truth, self._history.gap_at):
                self._expect(key, now + self.settle_most_seconds(), "P1", "an update is open since the start")

    def wall_jumps(self, seconds: float) -> None:
        """The wall clock moves while no process runs; after a jump back, what is kept seems further away."""
        if seconds > RULES.ghost_seconds:
            self.forgotten_before = self._server.now()
        if seconds < 0:
            self._nothing_before = self._server.now() - seconds
        for due in self._due.values() if seconds < 0 else ():
            due.held_until -= seconds
            due.accepted_at -= seconds
            due.backoff_until, due.forgiven_until = due.backoff_until - seconds, due.forgiven_until - seconds

    def ended(self) -> None:
        """It has ended."""
        if self._alive:
            self.check()
        self._alive = False
        self.journal = None

    def check(self) -> None:
        """See whether anything is overdue now."""
        for key in self._due:
            self._check(key)

    def _check(self, key: AllocationId) -> None:
        due, now = self._due[key], self._server.now()
        if not self._alive or now <= due.by + self.slack_seconds:
            return
        closed = max(self._writes_closed_until, self._writes.until) if due.writes else -inf
        # There may be a single slot, and all the others may be before this one.
        narrow = self._reads.narrow(now) or self._writes.narrow(now)
        under_way = sum(each.under_way for each in self._due.values())
        crowd = len(self._due) - 1 if narrow else under_way // FEWEST_SLOTS
        held = max(self.trouble_until, closed, self._reads_closed_until, self._reads.until)
        by = max(due.by, held) + self.slack_seconds + crowd * SLOW_SECONDS
        by = max(by, self._turns.until(due.by, of=len(self._due)))
        if now > by:
            told_at = self._settled_at(key, lambda: history_evidence.told_settle_seconds(self.journal))
            by = max(by, told_at + self.slack_seconds)
        if now > by and due.promise == "P8" and history_evidence.told_open(self.journal, key):
            # What a read has settled here is open there: a late landing of an older one explained it.
            self._expect(
                key, now + history_evidence.MOST_SECONDS, "P1", "an update is open, and its reads may fail"
            )
        elif now > by:
            self._broken(due.promise, f"no request for {key} since {due.why}; it was due by {by:.3f}")
            due.by = inf

    def settle_most_seconds(self) -> float:
        """The most that the settle time can be by now."""
        return history_evidence.settle_most_seconds(
            self._history.truths.values(), self.longest_unknown_seconds
        )

    def begins(self, key: AllocationId) -> None:
        """A request leaves."""
        self._check(key)
        self._turns.taken.append(self._server.now())
        due = self._due[key]
        due.by, due.under_way, due.edited = inf, True, False

    def _expect(self, key: AllocationId, by: float, promise: str, why: str, *, writes: bool = False) -> None:
        due = self._due[key]
        due.writes = writes
        due.by, due.promise, due.why = by, promise, f"{self._server.now():.3f}, when {why}"

    def edited(self, key: AllocationId, *, first: bool) -> None:
        """The file changed, or names it for the first time."""
        due = self._due[key]
        if not first:
            due.forgive(inf)
            due.backoff_until, due.read_failures = -inf, 0
        due.edited, due.writes = due.under_way, True
        due.looked = due.looked and self._history.desired(key) is not None
        if not due.under_way:
            self._edited(key)

    def _edited(self, key: AllocationId) -> None:
        due, desired = self._due[key], self._history.desired(key)
        if unsettled(self._history.truths[key], self._history.gap_at):
            return
        if desired is None or desired.mode is Mode.SUSPEND:
            due.by = inf
        elif self._settled_at(key, self.settle_most_seconds) <= self._server.now():
            self._expect(key, self._soon(self._server.now(), due), "P8", "the file was edited", writes=True)

    def _soon(self, now: float, due: Due) -> float:
        wait = 1.0 if due.looked or self._passed else FIRST_PASS_SECONDS
        return max(now + wait, due.held_until, self._writes_closed_until)

    def longest_wait_seconds(self) -> float:
        """How long the longest backoff, or wish of the server, still is at the most."""
        now = self._server.now()
        waits = [
            max(due.backoff_until, due.held_until, due.by if due.by < inf else 0.0)
            for due in self._due.values()
        ]
        return max(0.0, max(waits, default=0.0) - now, self._writes_closed_until - now)

    def listed(self, clouds: Iterable[Cloud], begun: float) -> None:
        """A bulk read that began then was answered."""
        self._passed = True
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

    def read(self, get: Get, answer: Snapshot) -> None:
        """A read is answered."""
        due, now = self._due[get.key], self._server.now()
        due.under_way, due.looked = False, self._history.desired(get.key) is not None
        self._reads.hears(get.key, answer, now, declared=self._history.declared)
        match answer:
            case Failed():
                due.read_failures += 1
                if answer.status == TOO_MANY_REQUESTS:
                    until = now + backoff_most_seconds(1, answer.retry_after_seconds)
                    self._reads_closed_until = max(self._reads_closed_until, until)
                by = now + backoff_most_seconds(due.read_failures, answer.retry_after_seconds)
                if answer.retry_after_seconds:
                    due.held_until = max(due.held_until, by)
                why = f"a read failed for the {due.read_failures}. time"
                self._expect(get.key, max(by, due.held_until), "P1", why)
                # A failure that is forgiven counts for nothing: then it is as it was before, and may differ.
                for each in self._due.values() if self._reads.until > now else ():
                    each.writes |= each.read_failures > 0
            case Live(cloud):
                due.read_failures = 0
                self._seen(get.key, due, cloud, now)
            case _:
                due.read_failures = 0
                due.forgive(now)
        desired = self._history.desired(get.key)
        if (desired is None or desired.mode is Mode.SUSPEND) and not unsettled(
            self._history.truths[get.key], self._history.gap_at
        ):
            due.by = inf
        elif due.edited:
            self._edited(get.key)

    def resting(self, key: AllocationId) -> bool:
        """Whether the rules allow hours for this one."""
        truth = self._history.truths[key]
        forgotten = any(post.sent < self.forgotten_before for post in truth.posts)
        return forgotten or resting(
            truth, self._server.allocations[key].deaf, self.ended_at, self._history.gap_at
        )

    def _settled_at(self, key: AllocationId, settle_seconds: Callable[[], float]) -> float:
        """When what no read has shown yet is settled at the latest, with this settle time."""
        posts = self._history.truths[key].posts
        since = [post.unknown_since for post in posts if not post.evident and post.unknown_since is not None]
        return max(since) + settle_seconds() if since else -inf

    def _seen(self, key: AllocationId, due: Due, cloud: Cloud, now: float) -> None:
        truth, desired = self._history.truths[key], self._history.desired(key)
        settled_at = self._settled_at(key, self.settle_most_seconds)
        if unsettled(truth, self._history.gap_at):
            self._expect(key, max(now, settled_at), "P1", "a read did not settle an update")
        elif desired is None or desired.mode is Mode.SUSPEND:
            due.by = inf
        elif not compare(desired, cloud) or desired.mode is Mode.OBSERVE or key in self._history.rail.perhaps:
            if not compare(desired, cloud):
                due.forgive(now)
            self._expect(key, max(now + self._resync_seconds, settled_at), "P1", "a read found nothing to do")
        elif self.resting(key):
            due.by = inf
        elif pending(cloud):
            by = max(now + RULES.resync_bulk_seconds, settled_at)
            self._expect(key, by, "P1", "a read found a status PENDING", writes=True)
        else:
            hidden = now + backoff_most_seconds(3, None) if self.slack_seconds > SLACK_SECONDS else now
            waits = (
                hidden,
                due.backoff_until,
                due.held_until,
                due.accepted_at + RULES.grace_seconds,
                settled_at,
            )
            by = max(now, *waits, self._nothing_before)
            self._expect(key, by, "P1", "a read found a difference", writes=True)

    def sent(self, post: Post, answer: UpdateAnswer) -> None:
        """An update is answered."""
        due, now = self._due[post.key], self._server.now()
        due.under_way = False
        post.served = self._writes.hears(post.key, answer, now, declared=self._history.declared)
        wish = answer.retry_after_seconds if isinstance(answer, Rejected | OutcomeUnknown) else None
        if post.answer == "accepted":
            due.forgive(now)
            due.accepted_at = now
            self._expect(post.key, now + 2.0, "P1", "an update was accepted", writes=due.edited)
        else:
            due.write_failures += 1
            # What a slow disk has held back twice counts too, and nobody outside sees it.
            hidden = 3 if self.slack_seconds > SLACK_SECONDS else 0
            until = due.backoff_until = now + backoff_most_seconds(due.write_failures + hidden, wish)
            if wish:
                due.held_until = max(due.held_until, until)
            if isinstance(answer, Rejected) and answer.status == TOO_MANY_REQUESTS:
                self._writes_closed_until = max(self._writes_closed_until, until)
            if isinstance(answer, OutcomeUnknown):
                self.longest_unknown_seconds = max(self.longest_unknown_seconds, now - post.sent)
                self._expect(
                    post.key, now + self.settle_most_seconds(), "P1", "an update's outcome became unknown"
                )
            elif isinstance(answer, Rejected) and answer.terminal:
                due.by = inf
            else:
                by, why = max(until, self._writes_closed_until), "an update was rejected or not sent"
                self._expect(post.key, by, "P1", why, writes=True)
        if due.edited:
            self._edited(post.key)
