"""Write backoff: until when earlier failures of one allocation forbid its next update. Pure.

The causes are backoff after failures, the server's Retry-After, changes that were rejected, an unavailable
journal, and updates that an earlier process may have sent.

The rules: everything is a time after which updates are permitted again. An edit ends the backoff and the
rejection, because the next body differs; it never ends Retry-After. The end of a wait does not reset the
failures. A success, an edit, a read without differences and a missing allocation do. The checkpoint keeps
failures and times, so that a daemon that restarts again and again sends no faster than one that keeps
running.

Left out: what forbids updates from outside the allocation (`gates.write_gate`), a 429 that delays all updates
(`scheduling.concurrency`), and how long a backoff is (`api.backoff`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from allocsync.model.change import Change
from allocsync.model.times import LONG_AGO, Monotonic

BACKOFF, RETRY_AFTER, JOURNAL, TAKEOVER = "backoff", "retry_after", "journal", "takeover"


class RejectedBy(StrEnum):
    """Who rejected changes."""

    API = "api"
    BODY = "body"  # no body can be built on the live object; every read tries again
    CHECK = "check"  # a check of ours, such as `apply --plan-id`; forgotten when the process ends


@dataclass(slots=True)
class WriteBackoff:
    """Until when updates of one allocation are forbidden. All times are monotonic, in seconds.

    `until` has a time for each cause. `failures` counts failed updates in a row. `terminal` are the rejected
    changes, which are not sent again before `terminal_until`. `journal_problem` says why the journal cannot
    be written; it is empty otherwise.
    """

    until: dict[str, Monotonic] = field(default_factory=dict)
    failures: int = 0
    error: str = ""
    terminal: tuple[Change, ...] = ()
    terminal_until: Monotonic = LONG_AGO
    rejected_by: RejectedBy = RejectedBy.API
    journal_problem: str = ""

    def fail(self, reason: str, until: Monotonic, retry_after_seconds: float | None = None) -> None:
        """An update failed; it may be sent again from `until` on.

        With `retry_after_seconds`, `until` includes Retry-After, and an edit does not end the wait; the
        number itself is not used.
        """
        self.error = reason
        self.failures += 1
        self.until[BACKOFF] = until
        if retry_after_seconds is not None:
            self.until[RETRY_AFTER] = until

    def succeed(self) -> None:
        """An update was accepted or applied: failures are forgotten, the times in `until` are not."""
        self.failures, self.error = 0, ""

    def read_failed(self, reason: str, *, retry_after: Monotonic | None) -> None:
        """A read failed, which `failures` does not count; `retry_after` is when Retry-After ends, if any."""
        self.error = reason
        if retry_after is not None:
            self.until[RETRY_AFTER] = retry_after

    def outcome_unknown(self, reason: str) -> None:
        """The process ended while an update was under way. Stores `reason`; this counts as no failure."""
        self.error = reason

    def forgive(self, failures: int, until: Monotonic) -> None:
        """The API, not the allocation, caused this many failures: the backoff ends by `until`."""
        self.failures = max(0, self.failures - failures)
        if BACKOFF in self.until:
            self.until[BACKOFF] = min(self.until[BACKOFF], until)

    def reject(
        self, changes: tuple[Change, ...], reason: str, until: Monotonic, by: RejectedBy = RejectedBy.API
    ) -> None:
        """These changes are not sent again before `until`, unless their desired or live values change.

        Only a rejection by the API counts as a failure.
        """
        self.terminal, self.error, self.terminal_until, self.rejected_by = changes, reason, until, by
        self.failures += by is RejectedBy.API

    def body_built(self, changes: tuple[Change, ...], problems: Sequence[str], until: Monotonic) -> None:
        """Record whether a body for these changes could be built.

        With `problems` it could not, and the changes are rejected until `until`. Without, an earlier
        rejection for such problems ends.
        """
        if problems:
            self.reject(changes, "; ".join(problems), until, RejectedBy.BODY)
        elif self.terminal and self.rejected_by is RejectedBy.BODY:
            self.terminal, self.error = (), ""

    def edit(self) -> None:
        """The desired state changed: the backoff and the rejection end, Retry-After does not."""
        self.terminal, self.failures = (), 0
        self.until.pop(BACKOFF, None)

    def found_missing(self) -> None:
        """The allocation does not exist: earlier failures and rejections say nothing about a new one."""
        self.failures, self.terminal = 0, ()

    def nothing_to_send(self) -> None:
        """No field differs: failures, rejections and `journal_problem` are forgotten, `until` is not."""
        self.failures, self.error, self.terminal, self.journal_problem = 0, "", (), ""

    def update_planned(self) -> None:
        """An update is about to be sent: every time in `until` is over."""
        self.until.clear()

    def send_nothing_before(self, until: Monotonic) -> None:
        """Forbid updates before `until`: an update of an earlier process may be applied until then."""
        self.until[TAKEOVER] = until

    def journal_unavailable(self, reason: str, until: Monotonic) -> None:
        """The journal cannot be written: nothing is sent before `until`, or `journal_available` if sooner."""
        self.journal_problem = reason
        self.until[JOURNAL] = until

    def journal_available(self) -> bool:
        """The journal can be written again. Returns whether that ended a wait."""
        waited = self.until.pop(JOURNAL, None) is not None
        self.journal_problem = ""
        return waited

    def allowed_at(self, now: Monotonic) -> Monotonic:
        """The earliest time from `now` on at which Retry-After permits a request of any kind."""
        return max(now, self.until.get(RETRY_AFTER, LONG_AGO))

    def blocked_until(
        self,
        changes: tuple[Change, ...],
        now: Monotonic,
        *,
        begun: Monotonic,
        gate_until: Monotonic = LONG_AGO,
    ) -> Monotonic | None:
        """The earliest time at which these changes may be sent, or None if they may be sent now.

        `begun` is when the read began that showed them. If that was before the time of `send_nothing_before`,
        the result is never None, because another read must come first. `gate_until` is when the write gate
        permits updates.
        """
        takeover = self.until.get(TAKEOVER, LONG_AGO)
        if begun < takeover:
            # This read does not show what is applied until then, however long the read took.
            return max(takeover, now)
        until = max(gate_until, max(self.until.values(), default=LONG_AGO))
        if self.terminal == changes:
            until = max(until, self.terminal_until)
        return until if until > now else None
