"""One pass over one allocation: snapshot, decide, record the intent, check again, update, record the outcome.

The rules: the update that leaves is built on a snapshot of this very pass; its intent is in the journal
first; it is sent once. Whatever the API answers is an outcome that the lane judges, never an exception here.

Left out: which allocation and when (`loop`), and every judgement (`lane`).
"""

from collections.abc import Callable, Mapping
from math import inf
from typing import Protocol

from allocsync.planning.model import (
    Accepted,
    AllocationId,
    Failed,
    Live,
    Missing,
    NotSent,
    OutcomeUnknown,
    Rejected,
    Snapshot,
    UpdateAnswer,
)
from allocsync.reconcile.decision import Settled, Update
from allocsync.reconcile.lane import Lane
from allocsync.reconcile.limiter import Limiter, Slot
from allocsync.reconcile.ports import Api, Clock, Journal
from allocsync.reconcile.rules import Rules

TOO_MANY_REQUESTS = 429
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Tell(Protocol):
    """Tell the world of an event."""

    def __call__(
        self,
        kind: str,
        allocation: AllocationId | None = None,
        reconcile: str | None = None,
        **fields: object,
    ) -> None:
        """Tell it."""


class Cycle:
    """Carries out passes; holds nothing of an allocation."""

    def __init__(
        self,
        *,
        api: Api,
        clock: Clock,
        journal: Journal,
        tell: Tell,
        rules: Rules,
        limiter: Limiter,
        backoff: Callable[[int, float | None], float],
        resync_seconds: Callable[[], float],
        stopping: Callable[[], bool],
    ) -> None:
        self._api = api
        self._clock = clock
        self._journal = journal
        self._tell = tell
        self._rules = rules
        self._limiter = limiter
        self._backoff = backoff
        self._resync_seconds = resync_seconds
        self._stopping = stopping
        self._passes = int(clock.uniform(0, 36**3))
        self._deadlines: dict[AllocationId, float] = {}

    def earliest_deadline(self) -> float:
        """When the first of the requests under way must have ended (infinity: none is under way)."""
        return min(self._deadlines.values(), default=inf)

    async def run(self, lane: Lane, slot: Slot) -> None:
        """One pass in a slot that was admitted; gives it back, and takes a write slot if it needs one."""
        self._passes += 1
        name = _name(self._passes)
        held = slot
        try:
            update = await self._look(lane, name)
            if update is None:
                return
            if held is Slot.READ:
                if self._limiter.admit(Slot.WRITE, self._clock.now()) is not None:
                    lane.defer(self._clock.now())
                    return
                self._limiter.release(Slot.READ)
                held = Slot.WRITE
            await self._send(lane, update, name)
        finally:
            self._deadlines.pop(lane.id, None)
            self._limiter.release(held)

    async def _look(self, lane: Lane, name: str) -> Update | None:
        lane.begin_look()
        begun = self._clock.now()
        self._deadlines[lane.id] = begun + self._rules.get_deadline_seconds
        snapshot = await self._api.snapshot(lane.id)
        now = self._clock.now()
        decision = lane.looked(
            snapshot,
            begun=begun,
            now=now,
            delay_seconds=self._backoff(lane.read_failures + 1, _retry_after(snapshot)),
            resync_seconds=self._resync_seconds(),
        )
        self._tell(
            "look_finished",
            lane.id,
            name,
            answer=_ANSWERS[type(snapshot)],
            status=_look_status(snapshot),
            reason=snapshot.reason if isinstance(snapshot, Failed) else "",
            elapsed_seconds=now - begun,
            differs=len(lane.changes),
        )
        if decision.settled is not None:
            await self._record(lane.id, name, decision.settled)
        return decision.update

    async def _record(self, key: AllocationId, name: str, settled: Settled) -> None:
        await self._journal.outcome(settled.sequence, settled.outcome, "read back")
        self._tell(
            "update_settled", key, name, outcome=settled.outcome, waited_seconds=settled.waited_seconds
        )

    async def _send(self, lane: Lane, update: Update, name: str) -> None:
        intent = lane.intend(update)
        leaves = {change.field: (change.live, change.desired) for change in update.changes}
        intent.sequence = await self._journal.intent(lane.id, leaves)
        self._tell("update_intended", lane.id, name, fields=list(leaves), sequence=intent.sequence)
        held_back = "the daemon is stopping" if self._stopping() else lane.recheck(update, self._clock.now())
        if held_back is not None:
            await self._journal.outcome(intent.sequence, "not_sent", held_back)
            delay = self._backoff(lane.write_failures + 1, None)
            lane.withdraw(held_back, now=self._clock.now(), delay_seconds=delay)
            self._finished(lane, update, name, NotSent(held_back), 0.0)
            return
        begun = self._clock.now()
        self._deadlines[lane.id] = begun + self._rules.post_deadline_seconds
        answer = await self._api.update(lane.id, update.body)
        now = self._clock.now()
        delay = self._backoff(lane.write_failures + 1, _retry_after(answer))
        lane.posted(
            answer,
            now=now,
            delay_seconds=delay,
            confirm_seconds=self._clock.uniform(1, 2) * self._rules.confirm_seconds,
            resync_seconds=self._resync_seconds(),
        )
        if isinstance(answer, Rejected) and answer.status == TOO_MANY_REQUESTS:
            self._limiter.close(Slot.WRITE, now + delay)
        self._finished(lane, update, name, answer, now - begun)
        if not isinstance(answer, OutcomeUnknown):
            outcome = "applied" if isinstance(answer, Accepted) else _ANSWERS[type(answer)]
            await self._journal.outcome(intent.sequence, outcome, getattr(answer, "reason", ""))

    def _finished(
        self, lane: Lane, update: Update, name: str, answer: UpdateAnswer, elapsed_seconds: float
    ) -> None:
        unknown = isinstance(answer, OutcomeUnknown)
        self._tell(
            "update_finished",
            lane.id,
            name,
            outcome=_ANSWERS[type(answer)],
            status=getattr(answer, "status", None),
            reason=getattr(answer, "reason", ""),
            elapsed_seconds=elapsed_seconds,
            settle_seconds=self._rules.settle_seconds if unknown else None,
            look_in_seconds=lane.look_at - self._clock.now(),
            changes=[(change.field, change.live, change.desired) for change in update.changes],
        )


_ANSWERS: Mapping[type, str] = {
    Accepted: "accepted",
    Rejected: "rejected",
    OutcomeUnknown: "unknown",
    NotSent: "not_sent",
    Live: "live",
    Missing: "missing",
    Failed: "failed",
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
