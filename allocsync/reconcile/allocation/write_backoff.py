"""Who forbids an update of one allocation, and until when: backoff, Retry-After, a refusal of the body. Pure.

The rule: all of it is times. An edit lifts the backoff and the refusal, because the next body is another one;
never what the server asked for. Only success clears the rest. It survives a restart, so that a daemon that is
restarted over and over again is no faster than one that runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

from allocsync.model.change import Change

BACKOFF, RETRY_AFTER, JOURNAL, TAKEOVER = "backoff", "retry_after", "journal", "takeover"


class RejectedBy(StrEnum):
    """Who refuses differences."""

    API = "api"
    BODY = "body"  # none can be built of what is live; asked at each look
    CHECK = "check"  # somebody asked for what was reviewed and nothing else; ends with the process


@dataclass(slots=True)
class WriteBackoff:
    """`failures` are updates in a row that failed; `terminal` are the differences that the API refuses."""

    until: dict[str, float] = field(default_factory=dict)  # reason: no update before
    failures: int = 0
    error: str = ""
    terminal: tuple[Change, ...] = ()
    terminal_until: float = -inf
    rejected_by: RejectedBy = RejectedBy.API
    journal_problem: str = ""  # why the journal cannot be written, while that is so

    def fail(self, reason: str, until: float, retry_after_seconds: float | None = None) -> None:
        """An update failed, and may work later."""
        self.error = reason
        self.failures += 1
        self.until[BACKOFF] = until
        if retry_after_seconds is not None:
            self.until[RETRY_AFTER] = until

    def forgive(self, failures: int, until: float) -> None:
        """So many failures were the API's, not this allocation's: a backoff ends then at the latest."""
        self.failures = max(0, self.failures - failures)
        if BACKOFF in self.until:
            self.until[BACKOFF] = min(self.until[BACKOFF], until)

    def reject(
        self, changes: tuple[Change, ...], reason: str, until: float, by: RejectedBy = RejectedBy.API
    ) -> None:
        """These changes cannot be sent as they are: not before an edit, a live change or this time."""
        self.terminal, self.error, self.terminal_until, self.rejected_by = changes, reason, until, by
        self.failures += by is RejectedBy.API

    def build(self, changes: tuple[Change, ...], problems: Sequence[str], until: float) -> None:
        """A body for these changes was built, or these problems are why there is none."""
        if problems:
            self.reject(changes, "; ".join(problems), until, RejectedBy.BODY)
        elif self.terminal and self.rejected_by is RejectedBy.BODY:
            self.terminal, self.error = (), ""

    def edit(self) -> None:
        """The file changed."""
        self.terminal, self.failures = (), 0
        self.until.pop(BACKOFF, None)

    def relieve(self) -> None:
        """There is nothing to send any more."""
        self.failures, self.error, self.terminal, self.journal_problem = 0, "", (), ""

    def allowed_at(self, now: float) -> float:
        """From when on the server lets anything be asked: now, or later where it said so."""
        return max(now, self.until.get(RETRY_AFTER, -inf))

    def forbids(
        self, changes: tuple[Change, ...], now: float, *, begun: float, stopped_until: float = -inf
    ) -> float | None:
        """None when these changes may be sent now, else until when not, at least as long as stopped.

        The look for it began at `begun`.
        """
        takeover = self.until.get(TAKEOVER, -inf)
        if begun < takeover:
            return max(takeover, now)  # what lands until then is not in this look, however long it took
        until = max(stopped_until, max(self.until.values(), default=-inf))
        if self.terminal == changes:
            until = max(until, self.terminal_until)
        return until if until > now else None
