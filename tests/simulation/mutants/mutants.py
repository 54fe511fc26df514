"""Mutants of deciding and sending, and the list of all mutants.

Left out: mutants of recording, restarting and stopping (`journal_mutants`).
"""
# ruff: noqa: SLF001 - mutants replace private functions and change private attributes

from contextlib import ExitStack
from typing import Any

from allocsync.model.api_answers import Accepted, OutcomeUnknown, UpdateAnswer
from allocsync.model.change import Change
from allocsync.model.cloud import Cloud
from allocsync.model.desired_state import Desired, Generation
from allocsync.model.ids import AllocationId
from allocsync.planning.diff import update_body
from allocsync.reconcile.allocation import managed_allocation, read_back
from allocsync.reconcile.allocation.late_writes import Ghosts, Sighting
from allocsync.reconcile.allocation.managed_allocation import Lane
from allocsync.reconcile.allocation.updates import Decision, Intent, State
from allocsync.reconcile.allocation.write_backoff import Restraint
from allocsync.reconcile.controller import Loop
from allocsync.reconcile.operation import Turn
from allocsync.reconcile.ports import Api
from allocsync.reconcile.reconciler import Cycle
from allocsync.reconcile.rollout.rollout import Adoption
from allocsync.reconcile.scheduling.work_queue import Queue
from tests.simulation.mutants.journal_mutants import JOURNAL_MUTANTS
from tests.simulation.mutants.mutant import Mutant, replace_function, replace_slot

LONG_SECONDS = 1e9  # longer than any settle time


class _ResendingApi:
    """An API client that sends an update of unknown outcome a second time at once."""

    def __init__(self, api: Api) -> None:
        self.snapshot, self.list, self._update = api.snapshot, api.list, api.update

    async def update(self, allocation_id: AllocationId, body: Cloud) -> UpdateAnswer:
        answer = await self._update(allocation_id, body)
        if isinstance(answer, OutcomeUnknown):
            answer = await self._update(allocation_id, body)
        return answer


def _resend_without_read(stack: ExitStack) -> None:
    original = Cycle.__init__

    def create(self: Cycle, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - those of Cycle
        original(self, *arguments, **named)
        self._api = _ResendingApi(self._api)

    replace_function(stack, Cycle.__init__, create)


def _judge_before_settle_time(stack: ExitStack) -> None:
    original = read_back.judge

    def judge(
        intent: Intent, cloud: Cloud, *, begun: float, landed: frozenset[str] = frozenset()
    ) -> read_back.Verdict | None:
        return original(intent, cloud, begun=begun + LONG_SECONDS, landed=landed)

    replace_function(stack, read_back.judge, judge)


def _compare_with_current_desired_state(stack: ExitStack) -> None:
    original = Lane._decide

    def decide(self: Lane, cloud: Cloud, begun: float, now: float, resync_at: float) -> Decision:
        if self.intent is not None and self.desired is not None:
            self.intent.changes = tuple(Change(name, None, value) for name, value in self.desired.leaves)
        return original(self, cloud, begun, now, resync_at)

    replace_function(stack, Lane._decide, decide)


def _build_on_first_snapshot(stack: ExitStack) -> None:
    first: dict[AllocationId, Cloud] = {}

    def build(desired: Desired, cloud: Cloud) -> tuple[Cloud, tuple[str, ...]]:
        return update_body(desired, first.setdefault(desired.id, cloud))

    replace_function(stack, update_body, build, imported_by=managed_allocation)


def _drop_unknown_field(stack: ExitStack) -> None:
    def build(desired: Desired, cloud: Cloud) -> tuple[Cloud, tuple[str, ...]]:
        return update_body(desired, {name: value for name, value in cloud.items() if name != "note"})

    replace_function(stack, update_body, build, imported_by=managed_allocation)


def _do_not_wake(stack: ExitStack) -> None:
    original = Adoption.adopt

    def adopt(self: Adoption, generation: Generation, *, approved: bool = False, whole: bool = True) -> None:
        wake, self._wake = self._wake, lambda: None
        original(self, generation, approved=approved, whole=whole)
        self._wake = wake

    replace_function(stack, Adoption.adopt, adopt)


def _take_twice(stack: ExitStack) -> None:
    original = Queue.schedule

    def schedule(self: Queue[Any], key: Any, turn: Turn) -> None:  # noqa: ANN401 - any key
        was_taken = self._taken.pop(key, self) is not self
        original(self, key, turn)
        if was_taken:
            self._taken[key] = None

    def begin(self: Lane) -> None:
        self.state, self.edited, self.suspected = State.LOOKING, False, False

    def place(self: Loop, lane: Lane) -> None:
        self._queue.schedule(lane.id, lane.turn())

    replace_function(stack, Queue.schedule, schedule)
    replace_function(stack, Lane.begin_look, begin)
    replace_function(stack, Loop._place, place)


def _ignore_edit_during_request(stack: ExitStack) -> None:
    original = Lane.want

    def want(self: Lane, desired: Desired | None, *, now: float, problems: tuple[str, ...] = ()) -> None:
        if self.state not in {State.LOOKING, State.POSTING}:
            original(self, desired, now=now, problems=problems)

    replace_function(stack, Lane.want, want)


def _never_reset_failures(stack: ExitStack) -> None:
    slot: Any = Restraint.failures  # type: ignore[misc] # a slot is an object of its class

    def count(self: Restraint, failures: int) -> None:
        before = slot.__get__(self) if hasattr(self, "failures") else None
        slot.__set__(self, failures if before is None else before + 3 * (failures > before))

    replace_slot(stack, Restraint.failures, property(slot.__get__, count))  # type: ignore[misc] # as above


def _retry_at_once(stack: ExitStack) -> None:
    original = Cycle.__init__

    def create(self: Cycle, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - those of Cycle
        original(self, *arguments, **named)
        self._backoff = lambda _failures, _retry_after_seconds: 0.1

    replace_function(stack, Cycle.__init__, create)


def _read_every_other_second(stack: ExitStack) -> None:
    original = Lane._decide

    def decide(self: Lane, cloud: Cloud, begun: float, now: float, resync_at: float) -> Decision:
        decision = original(self, cloud, begun, now, resync_at)
        if decision.update is None and self.changes:
            self.look_at = min(self.look_at, now + 2.0)
        return decision

    replace_function(stack, Lane._decide, decide)


def _forget_late_writes(stack: ExitStack) -> None:
    def observe(_self: Ghosts, *_arguments: Any, **_named: Any) -> Sighting:  # noqa: ANN401 - those of observe
        return Sighting()

    replace_function(stack, Ghosts.observe, observe)


def _trust_old_list(stack: ExitStack) -> None:
    original = Lane.listed

    def listed(self: Lane, cloud: Cloud | None, *, begun: float, now: float) -> None:
        intent = self.intent
        if intent is not None and intent.unknown_since is not None and self.state is State.SETTLING:
            intent.unknown_since -= 3600.0
            intent.settles_at = self.look_at = now
        original(self, cloud, begun=begun, now=now)

    replace_function(stack, Lane.listed, listed)


def _do_not_wait_for_accepted(stack: ExitStack) -> None:
    original = Lane.posted

    def posted(
        self: Lane,
        answer: UpdateAnswer,
        *,
        now: float,
        delay_seconds: float,
        confirm_seconds: float,
        resync_seconds: float,
    ) -> None:
        original(
            self,
            answer,
            now=now,
            delay_seconds=delay_seconds,
            confirm_seconds=confirm_seconds,
            resync_seconds=resync_seconds,
        )
        if isinstance(answer, Accepted):
            self.past.leaves.landed([change.field for change in self.changes])

    replace_function(stack, Lane.posted, posted)


MUTANTS = (
    Mutant("an update of unknown outcome is sent again without a read", ("R1",), _resend_without_read),
    Mutant("a read before the settle time is taken as not applied", ("R1",), _judge_before_settle_time),
    Mutant(
        "the read-back compares with the current desired state", ("R1",), _compare_with_current_desired_state
    ),
    Mutant("the update is built on an old snapshot", ("P3",), _build_on_first_snapshot),
    Mutant("a field that allocsync does not know is dropped", ("P3",), _drop_unknown_field),
    Mutant("an edit does not wake the controller", ("P8",), _do_not_wake),
    Mutant("two workers take one allocation", ("P4", "P10"), _take_twice),
    Mutant("an edit during a request is lost", ("P8", "P1"), _ignore_edit_during_request),
    Mutant("the backoff grows too fast and is never reset", ("P1",), _never_reset_failures),
    Mutant("a failed request is retried at once", ("P5",), _retry_at_once),
    Mutant("an allocation that differs is read every other second", ("P5",), _read_every_other_second),
    Mutant("late writes are forgotten and look like conflicts", ("R3", "P1"), _forget_late_writes),
    Mutant("a list read from before the last update ended settles its outcome", ("R1",), _trust_old_list),
    Mutant("an accepted value is given no time to show", ("P2",), _do_not_wait_for_accepted),
    *JOURNAL_MUTANTS,
)
