"""One reconcile: read an allocation, decide, record the intent, check again, update, record the outcome.

The rules: an update is built on the snapshot of the same reconcile. Its intent is in the journal before it is
sent, and it is sent once. Every answer of the API is an outcome for the allocation to judge, and never an
exception here.

Left out: which allocation is reconciled and when (`controller`), and every decision
(`allocation.managed_allocation`).
"""

import asyncio
from collections.abc import Callable, Mapping

from allocsync.errors import JournalUnavailable
from allocsync.model.api_answers import (
    Accepted,
    Failed,
    Live,
    Missing,
    NotSent,
    OutcomeUnknown,
    Rejected,
    RejectionClass,
    Snapshot,
    UpdateAnswer,
)
from allocsync.model.ids import AllocationId
from allocsync.model.times import NEVER, Monotonic, clock_offset_seconds, to_wall_time
from allocsync.reconcile.allocation.field_records import AnotherWriter
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.updates import Decision, Intent, State, Update
from allocsync.reconcile.api_health import ApiHealth
from allocsync.reconcile.cached_reads import CachedReads
from allocsync.reconcile.checkpoint import Checkpoint
from allocsync.reconcile.events import (
    AnotherWriterSuspected,
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
    """Reconciles allocations, each of them in one call; keeps no state of an allocation between calls."""

    def __init__(
        self,
        *,
        api: Api,
        clock: Clock,
        journal: Journal,
        emit: Observer,
        cached_reads: CachedReads,
        rules: Parameters,
        scheduler: Scheduler,
        backoff: Callable[[int, float | None], float],
        rejection_backoff: Callable[[int, float | None], float],
        checkpoint: Checkpoint,
        resync_seconds: Callable[[], float],
        revision: Callable[[], str],
        stopping: Callable[[], bool],
        api_health: ApiHealth,
        on_update_begun: Callable[[ManagedAllocation], None],
    ) -> None:
        """`on_update_begun` is called when an update is about to be recorded and sent."""
        self._api = api
        self._clock = clock
        self._journal = journal
        self._emit = emit
        self._cached_reads = cached_reads
        self._rules = rules
        self._scheduler = scheduler
        self._backoff = backoff
        self._rejection_backoff = rejection_backoff
        self._resync_seconds = resync_seconds
        self._revision = revision
        self._stopping = stopping
        self._api_health = api_health
        self._on_update_begun = on_update_begun
        self._checkpoint = checkpoint
        self._reconciles = int(clock.uniform(0, 36**3))
        self._deadlines: dict[AllocationId, Monotonic] = {}

    def earliest_deadline(self) -> Monotonic:
        """Return the earliest deadline (monotonic) of the requests in flight; `NEVER` if there are none."""
        return min(self._deadlines.values(), default=NEVER)

    async def reconcile(self, allocation: ManagedAllocation, operation: Operation) -> bool:
        """Reconcile an allocation that was admitted for `operation`; release its slot at the end.

        If it was admitted for a read and needs an update, it takes a write slot first; without a free one it
        is read again. Return whether the GET was answered with a state: live or missing.
        """
        self._reconciles += 1
        reconcile_id = _reconcile_id(self._reconciles)
        admitted_for = operation
        try:
            decision = await self._read(allocation, reconcile_id, admitted_for)
            if decision.update is None:
                return not decision.failed
            if admitted_for is Operation.READ:
                if not self._scheduler.promote(allocation, self._clock.now()):
                    allocation.read_now(self._clock.now())  # again as soon as there is a write slot
                    return True
                admitted_for = Operation.WRITE
            await self._send(allocation, decision.update, reconcile_id)
            return True
        finally:
            if allocation.state is State.POSTING:  # the daemon ended while the intent was being recorded
                allocation.abort_update(
                    "allocsync ended before it was sent", now=self._clock.now(), delay_seconds=0.0
                )
            self._deadlines.pop(allocation.id, None)
            self._scheduler.release(allocation, admitted_for, self._clock.now())

    async def _read(
        self, allocation: ManagedAllocation, reconcile_id: str, admitted_for: Operation
    ) -> Decision:
        allocation.begin_read()
        begun = self._clock.now()
        self._deadlines[allocation.id] = begun + self._rules.get_deadline_seconds
        snapshot = await self._api.snapshot(allocation.id)
        del self._deadlines[allocation.id]  # the next step waits for the disk, which has no deadline
        now = self._clock.now()
        decision = allocation.on_read(
            snapshot,
            begun=begun,
            now=now,
            delay_seconds=self._backoff(allocation.read_failures + 1, _retry_after(snapshot)),
            resync_seconds=self._resync_seconds(),
        )
        self._record_response(allocation, admitted_for, snapshot, begun)
        if not isinstance(snapshot, Failed):
            self._cached_reads.observe(snapshot.evidence_age_seconds)
        self._emit(
            ReadFinished(
                allocation=allocation.id,
                reconcile=reconcile_id,
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
                    reconcile=reconcile_id,
                    outcome=finding.outcome,
                    reason=finding.reason,
                    sequence=finding.sequence,
                    waited_seconds=finding.waited_seconds,
                    fields=finding.fields,
                )
            )
        if decision.another_writer is not None:
            self._emit_another_writer(allocation, decision.another_writer, reconcile_id)
        self._checkpoint.save(allocation)
        return decision

    def _emit_another_writer(
        self, allocation: ManagedAllocation, suspected: AnotherWriter, reconcile_id: str
    ) -> None:
        offset_seconds = clock_offset_seconds(self._clock.wall(), self._clock.now())
        self._emit(
            AnotherWriterSuspected(
                allocation=allocation.id,
                reconcile=reconcile_id,
                fields=tuple(field for field, _ in suspected.flips),
                flips=sum(len(flips) for _, flips in suspected.flips),
                changed_back_at=tuple(
                    tuple(to_wall_time(at, offset_seconds) for at in flips) for _, flips in suspected.flips
                ),
            )
        )

    async def _send(self, allocation: ManagedAllocation, update: Update, reconcile_id: str) -> None:
        record = update.record(self._revision())
        intent = allocation.begin_update(record)
        self._on_update_begun(allocation)
        try:
            intent.set_sequence(await self._journal.intent(allocation.id, record))
        except JournalUnavailable as error:
            allocation.journal_unavailable(str(error), now=self._clock.now())
            self._emit_finished(
                allocation, update, reconcile_id, NotSent(f"the journal cannot be written: {error}"), 0.0
            )
            return
        fields = tuple(change.field for change in update.changes)
        self._emit(
            UpdateIntended(
                allocation=allocation.id, reconcile=reconcile_id, fields=fields, sequence=intent.sequence
            )
        )
        aborted = self._abort_reason(allocation, update)
        if aborted is not None:
            self._journal.outcome(allocation.id, intent.sequence, "not_sent", aborted)
            delay = self._backoff(allocation.write_backoff.failures + 1, None)
            allocation.abort_update(aborted, now=self._clock.now(), delay_seconds=delay)
            self._emit_finished(allocation, update, reconcile_id, NotSent(aborted), 0.0)
            return
        self._checkpoint.spend_quota(allocation.id)
        begun = self._clock.now()
        self._deadlines[allocation.id] = begun + self._rules.post_deadline_seconds
        try:
            answer = await self._api.update(allocation.id, update.body)
        except asyncio.CancelledError:
            allocation.sent_but_cut_off(intent, "allocsync ended before the answer came", self._clock.now())
            raise
        self._process_answer(allocation, intent, answer, begun)
        self._emit_finished(allocation, update, reconcile_id, answer, self._clock.now() - begun)

    def _abort_reason(self, allocation: ManagedAllocation, update: Update) -> str | None:
        if self._stopping():
            return "the daemon is stopping"
        return allocation.abort_reason(update, self._clock.now(), commit_seconds=self._journal.commit_seconds)

    def _process_answer(
        self, allocation: ManagedAllocation, intent: Intent, answer: UpdateAnswer, begun: Monotonic
    ) -> None:
        now = self._clock.now()
        is_other = isinstance(answer, Rejected) and answer.kind is RejectionClass.OTHER
        backoff = self._rejection_backoff if is_other else self._backoff
        delay = backoff(allocation.write_backoff.failures + 1, _retry_after(answer))
        if isinstance(answer, OutcomeUnknown):
            self._checkpoint.settle_time.record_unknown(now - begun, now)
        allocation.on_update_response(
            answer,
            now=now,
            delay_seconds=delay,
            confirm_seconds=self._clock.uniform(1, 2) * self._rules.confirm_seconds,
            resync_seconds=self._resync_seconds(),
        )
        self._record_response(allocation, Operation.WRITE, answer, begun)
        if isinstance(answer, Accepted):
            self._journal.outcome(allocation.id, intent.sequence, "applied", f"accepted: {answer.status}")
        elif not isinstance(answer, OutcomeUnknown):  # an intent without an outcome says that it is unknown
            self._journal.outcome(allocation.id, intent.sequence, _OUTCOMES[type(answer)], answer.reason)
        self._checkpoint.save(allocation)

    def _record_response(
        self,
        allocation: ManagedAllocation,
        admitted_for: Operation,
        answer: Snapshot | UpdateAnswer,
        begun: Monotonic,
    ) -> None:
        """Count an answer for the API as a whole: reachability, rate limits, concurrency, breakers."""
        now, retry_after_seconds = self._clock.now(), _retry_after(answer)
        self._api_health.record_response(allocation.id, answer, begun=begun)
        match answer:
            # A 429 limits all allocations, so the failures of this one do not lengthen the wait.
            case Rejected(status=429):
                self._scheduler.block_until(Operation.WRITE, now + self._backoff(1, retry_after_seconds))
            case Failed(status=429) if retry_after_seconds is not None:
                self._scheduler.block_until(Operation.READ, now + self._backoff(1, retry_after_seconds))
            case _:
                pass
        change = self._scheduler.record_response(
            allocation, admitted_for, answer, begun=begun, now=now, uniform=self._clock.uniform
        )
        if change is None:
            return
        if change.opened:
            self._emit(BreakerOpened(operation=change.operation, reason=getattr(answer, "reason", "")))
        else:
            self._emit(
                BreakerClosed(
                    operation=change.operation, open_seconds=change.open_seconds, probes=change.probes
                )
            )

    def _emit_finished(
        self,
        allocation: ManagedAllocation,
        update: Update,
        reconcile_id: str,
        answer: UpdateAnswer,
        elapsed_seconds: float,
    ) -> None:
        unknown = isinstance(answer, OutcomeUnknown)
        self._emit(
            UpdateFinished(
                allocation=allocation.id,
                reconcile=reconcile_id,
                outcome=_OUTCOMES[type(answer)],
                cause=update.cause,
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


def _reconcile_id(number: int) -> str:
    """Return the id of a reconcile: `r-` and its number in base 36."""
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return f"r-{digits or '0'}"
