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
from allocsync.reconcile.allocation.managed_allocation import Lane
from allocsync.reconcile.allocation.updates import Decision, Intent, State, Update
from allocsync.reconcile.checkpoint import Keeper
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
from allocsync.reconcile.operation import Slot
from allocsync.reconcile.parameters import Rules
from allocsync.reconcile.ports import Api, Clock, Journal
from allocsync.reconcile.scheduling.scheduler import Admission

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Cycle:
    """Carries out passes; holds nothing of an allocation."""

    def __init__(
        self,
        *,
        api: Api,
        clock: Clock,
        journal: Journal,
        emit: Observer,
        rules: Rules,
        admission: Admission,
        backoff: Callable[[int, float | None], float],
        keeper: Keeper,
        resync_seconds: Callable[[], float],
        generation: Callable[[], str],
        stopping: Callable[[], bool],
    ) -> None:
        self._api = api
        self._clock = clock
        self._journal = journal
        self._emit = emit
        self._rules = rules
        self._admission = admission
        self._backoff = backoff
        self._resync_seconds = resync_seconds
        self._generation = generation
        self._stopping = stopping
        self._keeper = keeper
        self._passes = int(clock.uniform(0, 36**3))
        self._deadlines: dict[AllocationId, float] = {}

    def earliest_deadline(self) -> float:
        """When the first of the requests under way must have ended (infinity: none is under way)."""
        return min(self._deadlines.values(), default=inf)

    async def run(self, lane: Lane, slot: Slot) -> bool:
        """One pass in a slot that was admitted; gives it back, and takes a write slot if it needs one.

        Returns whether its GET showed anything.
        """
        self._passes += 1
        name = _name(self._passes)
        held = slot
        try:
            decision = await self._look(lane, name, held)
            if decision.update is None:
                return not decision.failed
            if held is Slot.READ:
                if not self._admission.promote(lane, self._clock.now()):
                    lane.look_at = self._clock.now()  # again as soon as there is a write slot
                    return True
                held = Slot.WRITE
            await self._send(lane, decision.update, name)
            return True
        finally:
            if lane.state is State.POSTING:  # the end came while it was being recorded
                lane.withdraw("allocsync ended before it was sent", now=self._clock.now(), delay_seconds=0.0)
            self._deadlines.pop(lane.id, None)
            self._admission.release(lane, held, self._clock.now())

    async def _look(self, lane: Lane, name: str, held: Slot) -> Decision:
        lane.begin_look()
        begun = self._clock.now()
        self._deadlines[lane.id] = begun + self._rules.get_deadline_seconds
        snapshot = await self._api.snapshot(lane.id)
        del self._deadlines[lane.id]  # what comes next waits for the disk, which has none
        now = self._clock.now()
        decision = lane.looked(
            snapshot,
            begun=begun,
            now=now,
            delay_seconds=self._backoff(lane.read_failures + 1, _retry_after(snapshot)),
            resync_seconds=self._resync_seconds(),
        )
        self._hear(lane, held, snapshot, begun)
        self._emit(
            ReadFinished(
                allocation=lane.id,
                reconcile=name,
                answer=_READ_ANSWERS[type(snapshot)],
                status=_look_status(snapshot),
                reason=snapshot.reason if isinstance(snapshot, Failed) else "",
                elapsed_seconds=now - begun,
                differs=len(lane.changes),
            )
        )
        for finding in decision.findings:
            self._journal.outcome(lane.id, finding.sequence, finding.outcome, finding.reason)
            self._emit(
                UpdateSettled(
                    allocation=lane.id,
                    reconcile=name,
                    outcome=finding.outcome,
                    reason=finding.reason,
                    sequence=finding.sequence,
                    waited_seconds=finding.waited_seconds,
                    fields=finding.fields,
                )
            )
        self._keeper.keep(lane)
        return decision

    async def _send(self, lane: Lane, update: Update, name: str) -> None:
        record = update.record(self._generation())
        intent = lane.intend(record)
        try:
            intent.sequence = await self._journal.intent(lane.id, record)
        except JournalUnavailable as error:
            lane.unrecorded(str(error), now=self._clock.now())
            self._finished(lane, update, name, NotSent(f"the journal cannot be written: {error}"), 0.0)
            return
        fields = tuple(change.field for change in update.changes)
        self._emit(
            UpdateIntended(allocation=lane.id, reconcile=name, fields=fields, sequence=intent.sequence)
        )
        held_back = self._held_back(lane, update)
        if held_back is not None:
            self._journal.outcome(lane.id, intent.sequence, "not_sent", held_back)
            delay = self._backoff(lane.restraint.failures + 1, None)
            lane.withdraw(held_back, now=self._clock.now(), delay_seconds=delay)
            self._finished(lane, update, name, NotSent(held_back), 0.0)
            return
        self._keeper.spend(lane.id)
        begun = self._clock.now()
        self._deadlines[lane.id] = begun + self._rules.post_deadline_seconds
        try:
            answer = await self._api.update(lane.id, update.body)
        except asyncio.CancelledError:
            lane.past.unknown(intent, self._clock.now())
            lane.state, lane.restraint.error = State.SETTLING, "allocsync ended before the answer came"
            raise
        self._answered(lane, intent, answer, begun)
        self._finished(lane, update, name, answer, self._clock.now() - begun)

    def _held_back(self, lane: Lane, update: Update) -> str | None:
        if self._stopping():
            return "the daemon is stopping"
        return lane.recheck(update, self._clock.now(), commit_seconds=self._journal.commit_seconds)

    def _answered(self, lane: Lane, intent: Intent, answer: UpdateAnswer, begun: float) -> None:
        now = self._clock.now()
        delay = self._backoff(lane.restraint.failures + 1, _retry_after(answer))
        if isinstance(answer, OutcomeUnknown):
            self._keeper.settle.took(now - begun, now)
        lane.posted(
            answer,
            now=now,
            delay_seconds=delay,
            confirm_seconds=self._clock.uniform(1, 2) * self._rules.confirm_seconds,
            resync_seconds=self._resync_seconds(),
        )
        self._hear(lane, Slot.WRITE, answer, begun)
        if isinstance(answer, Accepted):
            self._journal.outcome(lane.id, intent.sequence, "applied", f"accepted: {answer.status}")
        elif not isinstance(answer, OutcomeUnknown):  # of that one the open intent says so
            self._journal.outcome(lane.id, intent.sequence, _OUTCOMES[type(answer)], answer.reason)
        self._keeper.keep(lane)

    def _hear(self, lane: Lane, held: Slot, answer: Snapshot | UpdateAnswer, begun: float) -> None:
        """The one place where an answer counts for everybody, and not for its allocation."""
        now, after = self._clock.now(), _retry_after(answer)
        match answer:
            # The wish is for everybody; how often this one allocation has failed is not.
            case Rejected(status=429):
                self._admission.close(Slot.WRITE, now + self._backoff(1, after))
            case Failed(status=429) if after is not None:
                self._admission.close(Slot.READ, now + self._backoff(1, after))
            case _:
                pass
        turned = self._admission.hear(lane, held, answer, begun=begun, now=now, uniform=self._clock.uniform)
        if turned is None:
            return
        if turned.opened:
            self._emit(BreakerOpened(operation=turned.slot, reason=getattr(answer, "reason", "")))
        else:
            self._emit(
                BreakerClosed(operation=turned.slot, open_seconds=turned.open_seconds, probes=turned.probes)
            )

    def _finished(
        self, lane: Lane, update: Update, name: str, answer: UpdateAnswer, elapsed_seconds: float
    ) -> None:
        unknown = isinstance(answer, OutcomeUnknown)
        self._emit(
            UpdateFinished(
                allocation=lane.id,
                reconcile=name,
                outcome=_OUTCOMES[type(answer)],
                status=getattr(answer, "status", None),
                reason=getattr(answer, "reason", ""),
                elapsed_seconds=elapsed_seconds,
                settle_seconds=self._keeper.settle.seconds(self._clock.now()) if unknown else None,
                next_read_in_seconds=lane.look_at - self._clock.now(),
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


def _look_status(snapshot: Snapshot) -> int | None:
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
