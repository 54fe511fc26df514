"""One pass over one allocation: snapshot, decide, record the intent, check again, update, record the outcome.

The rules: the update that leaves is built on a snapshot of this very pass; its intent is in the journal
first; it is sent once. Whatever the API answers is an outcome that the lane judges, never an exception here.

Left out: which allocation and when (`loop`), and every judgement (`lane`).
"""

import asyncio
from collections.abc import Callable, Mapping
from math import inf

from allocsync.errors import JournalUnavailable
from allocsync.model.api_answers import (
    Accepted,
    Failed,
    Live,
    Missing,
    NotSent,
    OutcomeUnknown,
    Rejected,
    Snapshot,
    UpdateAnswer,
)
from allocsync.model.ids import AllocationId
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.updates import Decision, Intent, State, Update
from allocsync.reconcile.checkpoint import Checkpoint
from allocsync.reconcile.events import (
    BreakerClosed,
    BreakerOpened,
    Observer,
    ReadAnswer,
    ReadFinished,
    UpdateFinished,
    UpdateIntended,
    UpdateOutcome,
    UpdateSettled,
)
from allocsync.reconcile.operation import Operation
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.ports import Api, Clock, Journal
from allocsync.reconcile.scheduling.scheduler import Scheduler

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Reconciler:
    """Carries out passes; holds nothing of an allocation."""

    def __init__(
        self,
        *,
        api: Api,
        clock: Clock,
        journal: Journal,
        emit: Observer,
        rules: Parameters,
        admission: Scheduler,
        backoff: Callable[[int, float | None], float],
        checkpoint: Checkpoint,
        resync_seconds: Callable[[], float],
        revision: Callable[[], str],
        stopping: Callable[[], bool],
    ) -> None:
        self._api = api
        self._clock = clock
        self._journal = journal
        self._emit = emit
        self._rules = rules
        self._scheduler = admission
        self._backoff = backoff
        self._resync_seconds = resync_seconds
        self._revision = revision
        self._stopping = stopping
        self._checkpoint = checkpoint
        self._passes = int(clock.uniform(0, 36**3))
        self._deadlines: dict[AllocationId, float] = {}

    def earliest_deadline(self) -> float:
        """When the first of the requests under way must have ended (infinity: none is under way)."""
        return min(self._deadlines.values(), default=inf)

    async def run(self, allocation: ManagedAllocation, operation: Operation) -> bool:
        """One pass in a slot that was admitted; gives it back, and takes a write slot if it needs one.

        Returns whether its GET showed anything.
        """
        self._passes += 1
        name = _name(self._passes)
        admitted_for = operation
        try:
            decision = await self._read(allocation, name, admitted_for)
            if decision.update is None:
                return not decision.failed
            if admitted_for is Operation.READ:
                if not self._scheduler.promote(allocation, self._clock.now()):
                    allocation.next_read_at = self._clock.now()  # again as soon as there is a write slot
                    return True
                admitted_for = Operation.WRITE
            await self._send(allocation, decision.update, name)
            return True
        finally:
            if allocation.state is State.POSTING:  # the end came while it was being recorded
                allocation.withdraw(
                    "allocsync ended before it was sent", now=self._clock.now(), delay_seconds=0.0
                )
            self._deadlines.pop(allocation.id, None)
            self._scheduler.release(allocation, admitted_for, self._clock.now())

    async def _read(self, allocation: ManagedAllocation, name: str, admitted_for: Operation) -> Decision:
        allocation.begin_read()
        begun = self._clock.now()
        self._deadlines[allocation.id] = begun + self._rules.get_deadline_seconds
        snapshot = await self._api.snapshot(allocation.id)
        del self._deadlines[allocation.id]  # what comes next waits for the disk, which has none
        now = self._clock.now()
        decision = allocation.on_read(
            snapshot,
            begun=begun,
            now=now,
            delay_seconds=self._backoff(allocation.read_failures + 1, _retry_after(snapshot)),
            resync_seconds=self._resync_seconds(),
        )
        self._record_response(allocation, admitted_for, snapshot, begun)
        self._emit(
            ReadFinished(
                allocation=allocation.id,
                reconcile=name,
                answer=_READ_ANSWERS[type(snapshot)],
                status=_read_status(snapshot),
                reason=snapshot.reason if isinstance(snapshot, Failed) else "",
                elapsed_seconds=now - begun,
                differs=len(allocation.changes),
            )
        )
        for finding in decision.findings:
            self._journal.outcome(allocation.id, finding.sequence, finding.outcome, finding.reason)
            self._emit(
                UpdateSettled(
                    allocation=allocation.id,
                    reconcile=name,
                    outcome=finding.outcome,
                    reason=finding.reason,
                    sequence=finding.sequence,
                    waited_seconds=finding.waited_seconds,
                    fields=finding.fields,
                )
            )
        self._checkpoint.save(allocation)
        return decision

    async def _send(self, allocation: ManagedAllocation, update: Update, name: str) -> None:
        record = update.record(self._revision())
        intent = allocation.intend(record)
        try:
            intent.sequence = await self._journal.intent(allocation.id, record)
        except JournalUnavailable as error:
            allocation.unrecorded(str(error), now=self._clock.now())
            self._finished(allocation, update, name, NotSent(f"the journal cannot be written: {error}"), 0.0)
            return
        fields = tuple(change.field for change in update.changes)
        self._emit(
            UpdateIntended(allocation=allocation.id, reconcile=name, fields=fields, sequence=intent.sequence)
        )
        aborted = self._abort_reason(allocation, update)
        if aborted is not None:
            self._journal.outcome(allocation.id, intent.sequence, "not_sent", aborted)
            delay = self._backoff(allocation.write_backoff.failures + 1, None)
            allocation.withdraw(aborted, now=self._clock.now(), delay_seconds=delay)
            self._finished(allocation, update, name, NotSent(aborted), 0.0)
            return
        self._checkpoint.spend(allocation.id)
        begun = self._clock.now()
        self._deadlines[allocation.id] = begun + self._rules.post_deadline_seconds
        try:
            answer = await self._api.update(allocation.id, update.body)
        except asyncio.CancelledError:
            allocation.read_back.unknown(intent, self._clock.now())
            allocation.state, allocation.write_backoff.error = (
                State.SETTLING,
                "allocsync ended before the answer came",
            )
            raise
        self._answered(allocation, intent, answer, begun)
        self._finished(allocation, update, name, answer, self._clock.now() - begun)

    def _abort_reason(self, allocation: ManagedAllocation, update: Update) -> str | None:
        if self._stopping():
            return "the daemon is stopping"
        return allocation.recheck(update, self._clock.now(), commit_seconds=self._journal.commit_seconds)

    def _answered(
        self, allocation: ManagedAllocation, intent: Intent, answer: UpdateAnswer, begun: float
    ) -> None:
        now = self._clock.now()
        delay = self._backoff(allocation.write_backoff.failures + 1, _retry_after(answer))
        if isinstance(answer, OutcomeUnknown):
            self._checkpoint.settle_time.took(now - begun, now)
        allocation.posted(
            answer,
            now=now,
            delay_seconds=delay,
            confirm_seconds=self._clock.uniform(1, 2) * self._rules.confirm_seconds,
            resync_seconds=self._resync_seconds(),
        )
        self._record_response(allocation, Operation.WRITE, answer, begun)
        if isinstance(answer, Accepted):
            self._journal.outcome(allocation.id, intent.sequence, "applied", f"accepted: {answer.status}")
        elif not isinstance(answer, OutcomeUnknown):  # of that one the open intent says so
            self._journal.outcome(allocation.id, intent.sequence, _OUTCOMES[type(answer)], answer.reason)
        self._checkpoint.save(allocation)

    def _record_response(
        self,
        allocation: ManagedAllocation,
        admitted_for: Operation,
        answer: Snapshot | UpdateAnswer,
        begun: float,
    ) -> None:
        """The one place where an answer counts for everybody, and not for its allocation."""
        now, after = self._clock.now(), _retry_after(answer)
        match answer:
            # The wish is for everybody; how often this one allocation has failed is not.
            case Rejected(status=429):
                self._scheduler.block_until(Operation.WRITE, now + self._backoff(1, after))
            case Failed(status=429) if after is not None:
                self._scheduler.block_until(Operation.READ, now + self._backoff(1, after))
            case _:
                pass
        turned = self._scheduler.record_response(
            allocation, admitted_for, answer, begun=begun, now=now, uniform=self._clock.uniform
        )
        if turned is None:
            return
        if turned.opened:
            self._emit(BreakerOpened(operation=turned.operation, reason=getattr(answer, "reason", "")))
        else:
            self._emit(
                BreakerClosed(
                    operation=turned.operation, open_seconds=turned.open_seconds, probes=turned.probes
                )
            )

    def _finished(
        self,
        allocation: ManagedAllocation,
        update: Update,
        name: str,
        answer: UpdateAnswer,
        elapsed_seconds: float,
    ) -> None:
        unknown = isinstance(answer, OutcomeUnknown)
        self._emit(
            UpdateFinished(
                allocation=allocation.id,
                reconcile=name,
                outcome=_OUTCOMES[type(answer)],
                status=getattr(answer, "status", None),
                reason=getattr(answer, "reason", ""),
                elapsed_seconds=elapsed_seconds,
                settle_seconds=self._checkpoint.settle_time.seconds(self._clock.now()) if unknown else None,
                next_read_in_seconds=allocation.next_read_at - self._clock.now(),
                changes=update.changes,
            )
        )


_READ_ANSWERS: Mapping[type, ReadAnswer] = {Live: "live", Missing: "missing", Failed: "failed"}
_OUTCOMES: Mapping[type, UpdateOutcome] = {
    Accepted: "accepted",
    Rejected: "rejected",
    OutcomeUnknown: "unknown",
    NotSent: "not_sent",
}


def _retry_after(answer: Snapshot | UpdateAnswer) -> float | None:
    if isinstance(answer, Failed | Rejected | OutcomeUnknown):
        return answer.retry_after_seconds
    return None


def _read_status(snapshot: Snapshot) -> int | None:
    match snapshot:
        case Live():
            return 200
        case Missing():
            return 410
        case _:
            return snapshot.status


def _name(number: int) -> str:
    """A short name for one pass: r- and the number in base 36."""
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return f"r-{digits or '0'}"
