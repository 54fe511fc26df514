"""Bugs of deciding and sending, to be planted, and all bugs together; see `bug`."""
# ruff: noqa: ANN401 - what is substituted takes what the original takes, and knows its insides

from contextlib import ExitStack
from typing import Any

from allocsync.model.api_answers import Accepted, OutcomeUnknown
from allocsync.model.change import Change
from allocsync.reconcile.allocation import managed_allocation, read_back
from allocsync.reconcile.allocation.late_writes import Ghosts, Sighting
from allocsync.reconcile.allocation.managed_allocation import Lane
from allocsync.reconcile.allocation.updates import State
from allocsync.reconcile.allocation.write_backoff import Restraint
from allocsync.reconcile.controller import Loop
from allocsync.reconcile.reconciler import Cycle
from allocsync.reconcile.rollout.rollout import Adoption
from allocsync.reconcile.scheduling.work_queue import Queue
from tests.simulation.mutants.journal_mutants import BUGS_OF_THE_JOURNAL
from tests.simulation.mutants.mutant import Bug, put, swap


class _Resends:
    def __init__(self, api: Any) -> None:
        self.snapshot, self.list, self._update = api.snapshot, api.list, api.update

    async def update(self, allocation_id: Any, body: Any) -> Any:
        answer = await self._update(allocation_id, body)
        if isinstance(answer, OutcomeUnknown):
            answer = await self._update(allocation_id, body)
        return answer


def _resends(stack: ExitStack) -> None:
    def make(original: Any) -> Any:
        def init(self: Cycle, *, api: Any, **more: Any) -> None:
            original(self, api=_Resends(api), **more)

        return init

    swap(stack, Cycle, "__init__", make)


def _early(stack: ExitStack) -> None:
    swap(
        stack,
        read_back,
        "judge",
        lambda judge: lambda intent, cloud, *, begun, **more: judge(intent, cloud, begun=begun + 1e9, **more),
    )


def _current(stack: ExitStack) -> None:
    def make(original: Any) -> Any:
        def decide(self: Lane, cloud: Any, begun: float, now: float, resync_at: float) -> Any:
            if self.intent is not None and self.desired is not None:
                self.intent.changes = tuple(Change(name, None, value) for name, value in self.desired.leaves)
            return original(self, cloud, begun, now, resync_at)

        return decide

    swap(stack, Lane, "_decide", make)


def _stale(stack: ExitStack) -> None:
    first: dict[str, Any] = {}
    swap(
        stack,
        managed_allocation,
        "update_body",
        lambda update_body: (
            lambda desired, cloud: update_body(desired, first.setdefault(f"{desired.id}", cloud))
        ),
    )


def _drops(stack: ExitStack) -> None:
    def make(update_body: Any) -> Any:
        def body(desired: Any, cloud: Any) -> Any:
            return update_body(desired, {name: value for name, value in cloud.items() if name != "note"})

        return body

    swap(stack, managed_allocation, "update_body", make)


def _asleep(stack: ExitStack) -> None:
    def make(adopt: Any) -> Any:
        def adopts(self: Adoption, generation: Any, **more: Any) -> None:
            wake, self._wake = self._wake, lambda: None
            adopt(self, generation, **more)
            self._wake = wake

        return adopts

    swap(stack, Adoption, "adopt", make)


def _twice(stack: ExitStack) -> None:
    def make(schedule: Any) -> Any:
        def schedules(self: Any, key: Any, turn: Any) -> None:
            was_taken = self._taken.pop(key, self) is not self
            schedule(self, key, turn)
            if was_taken:
                self._taken[key] = None

        return schedules

    def begin(self: Lane) -> None:
        self.state, self.edited, self.suspected = State.LOOKING, False, False

    swap(stack, Queue, "schedule", make)
    put(stack, Lane, "begin_look", begin)
    swap(
        stack,
        Loop,
        "_place",
        lambda _original: lambda self, lane_: self._queue.schedule(lane_.id, lane_.turn()),
    )


def _deaf_at_work(stack: ExitStack) -> None:
    def make(want: Any) -> Any:
        def wants(self: Lane, desired: Any, **more: Any) -> None:
            if self.state not in {State.LOOKING, State.POSTING}:
                want(self, desired, **more)

        return wants

    swap(stack, Lane, "want", make)


def _never_relieved(stack: ExitStack) -> None:
    def setter(self: Restraint, name: str, value: Any) -> None:
        if name == "failures" and hasattr(self, "failures"):
            value = self.failures + 3 * (value > self.failures)
        object.__setattr__(self, name, value)

    put(stack, Restraint, "__setattr__", setter)


def _at_once(stack: ExitStack) -> None:
    def make(original: Any) -> Any:
        def init(self: Cycle, **more: Any) -> None:
            original(self, **{**more, "backoff": lambda _failures, _after: 0.1})

        return init

    swap(stack, Cycle, "__init__", make)


def _restless(stack: ExitStack) -> None:
    def make(original: Any) -> Any:
        def decide(self: Lane, cloud: Any, begun: float, now: float, resync_at: float) -> Any:
            decision = original(self, cloud, begun, now, resync_at)
            if decision.update is None and self.changes:
                self.look_at = min(self.look_at, now + 2.0)
            return decision

        return decide

    swap(stack, Lane, "_decide", make)


def _no_ghosts(stack: ExitStack) -> None:
    put(stack, Ghosts, "observe", lambda *_, **__: Sighting())


def _old_bulk(stack: ExitStack) -> None:
    def make(listed: Any) -> Any:
        def lists(self: Lane, cloud: Any, *, begun: float, now: float) -> None:
            intent = self.intent
            if intent is not None and intent.unknown_since is not None and self.state is State.SETTLING:
                intent.unknown_since -= 3600.0
                intent.settles_at = self.look_at = now
            listed(self, cloud, begun=begun, now=now)

        return lists

    swap(stack, Lane, "listed", make)


def _echo(stack: ExitStack) -> None:
    def make(posted: Any) -> Any:
        def posts(self: Lane, answer: Any, **more: Any) -> None:
            posted(self, answer, **more)
            if isinstance(answer, Accepted):
                self.past.leaves.landed([change.field for change in self.changes])

        return posts

    swap(stack, Lane, "posted", make)


BUGS = (
    Bug("an update of unknown outcome is sent again without a read", ("R1",), _resends),
    Bug("a read before the settle time is taken as not applied", ("R1",), _early),
    Bug("the verdict compares with what is wanted now", ("R1",), _current),
    Bug("the update is built on an old snapshot", ("P3",), _stale),
    Bug("a field that nobody here knows is dropped", ("P3",), _drops),
    Bug("an edit does not wake the loop", ("P8",), _asleep),
    Bug("two workers take one allocation", ("P4", "P10"), _twice),
    Bug("an edit in mid-update is lost", ("P8", "P1"), _deaf_at_work),
    Bug("the backoff grows too fast and is never reset", ("P1",), _never_relieved),
    Bug("what failed is tried again at once", ("P5",), _at_once),
    Bug("what differs is looked at every other second, come what may", ("P5",), _restless),
    Bug("late landings are not remembered, and look like fights", ("R3", "P1"), _no_ghosts),
    Bug("a bulk read from before the last update ended decides what became of it", ("R1",), _old_bulk),
    Bug("the echo in an answer is not given time to show", ("P2",), _echo),
    *BUGS_OF_THE_JOURNAL,
)
