"""Mutants of deciding and sending, and the list of all mutants.

Left out: mutants of gates, limits and reports (`gate_mutants`), of recording, restarting and stopping
(`journal_mutants`), and of retries and conflicts (`retry_mutants`).
"""
# ruff: noqa: SLF001 - mutants replace private functions and change private attributes

from contextlib import ExitStack
from typing import Any

from allocsync.model.api_answers import Accepted, OutcomeUnknown, UpdateAnswer
from allocsync.model.change import Change
from allocsync.model.cloud import Cloud, Json
from allocsync.model.desired_state import Desired, Revision
from allocsync.model.ids import AllocationId
from allocsync.model.times import Monotonic
from allocsync.planning.diff import update_body
from allocsync.reconcile.allocation import managed_allocation, read_back
from allocsync.reconcile.allocation.field_records import TRIES, FieldRecord
from allocsync.reconcile.allocation.late_writes import Detection, LateWrites
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.updates import Decision, Intent, State
from allocsync.reconcile.allocation.write_backoff import WriteBackoff
from allocsync.reconcile.controller import Controller
from allocsync.reconcile.operation import QueueEntry
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.ports import Api
from allocsync.reconcile.reconciler import Reconciler
from allocsync.reconcile.rollout.rollout import Rollout
from allocsync.reconcile.scheduling.work_queue import WorkQueue
from tests.simulation.mutants.gate_mutants import GATE_MUTANTS
from tests.simulation.mutants.journal_mutants import JOURNAL_MUTANTS
from tests.simulation.mutants.mutant import Mutant, replace_function, replace_slot
from tests.simulation.mutants.retry_mutants import RETRY_MUTANTS

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
    original = Reconciler.__init__

    def create(self: Reconciler, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - those of Cycle
        original(self, *arguments, **named)
        self._api = _ResendingApi(self._api)

    replace_function(stack, Reconciler.__init__, create)


def _judge_before_settle_time(stack: ExitStack) -> None:
    original = read_back.judge

    def judge(
        intent: Intent, cloud: Cloud, *, begun: Monotonic, late_fields: frozenset[str] = frozenset()
    ) -> read_back.Verdict | None:
        return original(intent, cloud, begun=begun + LONG_SECONDS, late_fields=late_fields)

    replace_function(stack, read_back.judge, judge)


def _compare_with_current_desired_state(stack: ExitStack) -> None:
    original = ManagedAllocation._decide

    def decide(
        self: ManagedAllocation, cloud: Cloud, begun: Monotonic, now: Monotonic, resync_at: Monotonic
    ) -> Decision:
        if self.intent is not None and self.desired is not None:
            self.intent.changes = tuple(Change(name, None, value) for name, value in self.desired.fields)
        return original(self, cloud, begun, now, resync_at)

    replace_function(stack, ManagedAllocation._decide, decide)


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
    original = Rollout.activate

    def activate(self: Rollout, revision: Revision, *, approved: bool = False, whole: bool = True) -> None:
        wake, self._wake_dispatcher = self._wake_dispatcher, lambda: None
        original(self, revision, approved=approved, whole=whole)
        self._wake_dispatcher = wake

    replace_function(stack, Rollout.activate, activate)


def _take_twice(stack: ExitStack) -> None:
    original = WorkQueue.schedule

    def schedule(self: WorkQueue[Any], key: Any, entry: QueueEntry) -> None:  # noqa: ANN401 - any key
        was_taken = self._handed_out.pop(key, self) is not self
        original(self, key, entry)
        if was_taken:
            self._handed_out[key] = None

    def begin(self: ManagedAllocation) -> None:
        self.state, self.edited_during_request, self.list_differs = State.READING, False, False

    def place(self: Controller, allocation: ManagedAllocation) -> None:
        self._queue.schedule(allocation.id, allocation.queue_entry())

    replace_function(stack, WorkQueue.schedule, schedule)
    replace_function(stack, ManagedAllocation.begin_read, begin)
    replace_function(stack, Controller._requeue, place)


def _ignore_edit_during_request(stack: ExitStack) -> None:
    original = ManagedAllocation.set_desired

    def set_desired(
        self: ManagedAllocation, desired: Desired | None, *, now: Monotonic, problems: tuple[str, ...] = ()
    ) -> None:
        if self.state not in {State.READING, State.POSTING}:
            original(self, desired, now=now, problems=problems)

    replace_function(stack, ManagedAllocation.set_desired, set_desired)


def _never_reset_failures(stack: ExitStack) -> None:
    operation: Any = WriteBackoff.failures  # type: ignore[misc] # a slot is an object of its class

    def count(self: WriteBackoff, failures: int) -> None:
        before = operation.__get__(self) if hasattr(self, "failures") else None
        operation.__set__(self, failures if before is None else before + 3 * (failures > before))

    replace_slot(stack, WriteBackoff.failures, property(operation.__get__, count))  # type: ignore[misc] # as above


def _retry_at_once(stack: ExitStack) -> None:
    original = Reconciler.__init__

    def create(self: Reconciler, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - those of Cycle
        original(self, *arguments, **named)
        self._backoff = lambda _failures, _retry_after_seconds: 0.1

    replace_function(stack, Reconciler.__init__, create)


def _read_every_other_second(stack: ExitStack) -> None:
    original = ManagedAllocation._decide

    def decide(
        self: ManagedAllocation, cloud: Cloud, begun: Monotonic, now: Monotonic, resync_at: Monotonic
    ) -> Decision:
        decision = original(self, cloud, begun, now, resync_at)
        if decision.update is None and self.changes:
            self.next_read_at = min(self.next_read_at, now + 2.0)
        return decision

    replace_function(stack, ManagedAllocation._decide, decide)


def _forget_late_writes(stack: ExitStack) -> None:
    def observe(_self: LateWrites, *_arguments: Any, **_named: Any) -> Detection:  # noqa: ANN401 - those of observe
        return Detection()

    replace_function(stack, LateWrites.observe, observe)


def _trust_old_list(stack: ExitStack) -> None:
    original = ManagedAllocation.on_listed

    def on_listed(self: ManagedAllocation, cloud: Cloud | None, *, begun: Monotonic, now: Monotonic) -> None:
        intent = self.intent
        if intent is not None and intent.unknown_since is not None and self.state is State.SETTLING:
            intent.unknown_since -= 3600.0
            intent.settles_at = self.next_read_at = now
        original(self, cloud, begun=begun, now=now)

    replace_function(stack, ManagedAllocation.on_listed, on_listed)


def _do_not_wait_for_accepted(stack: ExitStack) -> None:
    original = ManagedAllocation.on_update_response

    def on_update_response(
        self: ManagedAllocation,
        response: UpdateAnswer,
        *,
        now: Monotonic,
        delay_seconds: float,
        confirm_seconds: float,
        resync_seconds: float,
    ) -> None:
        original(
            self,
            response,
            now=now,
            delay_seconds=delay_seconds,
            confirm_seconds=confirm_seconds,
            resync_seconds=resync_seconds,
        )
        if isinstance(response, Accepted):
            self.read_back.field_records.explain_by_late_write([change.field for change in self.changes])

    replace_function(stack, ManagedAllocation.on_update_response, on_update_response)


def _ignore_after_one_miss(stack: ExitStack) -> None:
    original = FieldRecord.miss

    def miss(self: FieldRecord, live: Json, now: Monotonic, rules: Parameters) -> bool:
        self.missed += TRIES - 1
        return original(self, live, now, rules)

    replace_function(stack, FieldRecord.miss, miss)


def _send_ignored_fields_at_each_read(stack: ExitStack) -> None:
    original = FieldRecord.differ

    def differ(self: FieldRecord, live: Json, now: Monotonic, rules: Parameters) -> None:
        original(self, live, now, rules)
        self.retry_at = now

    replace_function(stack, FieldRecord.differ, differ)


MUTANTS = (
    Mutant("an update of unknown outcome is sent again without a read", ("R1",), _resend_without_read),
    Mutant("a read before the settle time is taken as not applied", ("R1", "P9"), _judge_before_settle_time),
    Mutant(
        "the read-back compares with the current desired state",
        ("R1", "P1"),
        _compare_with_current_desired_state,
    ),
    Mutant("the update is built on an old snapshot", ("P3",), _build_on_first_snapshot),
    Mutant("a field that allocsync does not know is dropped", ("P3",), _drop_unknown_field),
    Mutant("an edit does not wake the controller", ("P8", "P12"), _do_not_wake),
    Mutant("two workers take one allocation", ("P4", "P10"), _take_twice),
    Mutant("an edit during a request is lost", ("P8", "P1", "P11"), _ignore_edit_during_request),
    Mutant("the backoff grows too fast and is never reset", ("P1", "P5"), _never_reset_failures),
    Mutant("a failed request is retried at once", ("P5",), _retry_at_once),
    Mutant("an allocation that differs is read every other second", ("P5",), _read_every_other_second),
    Mutant("late writes are forgotten and look like conflicts", ("R3", "P1"), _forget_late_writes),
    Mutant("a list read from before the last update ended settles its outcome", ("R1",), _trust_old_list),
    Mutant("an accepted value is given no time to show", ("P2",), _do_not_wait_for_accepted),
    Mutant("a field that does not show once is ignored", ("P1",), _ignore_after_one_miss),
    Mutant("an ignored field is sent again at each read", ("P2",), _send_ignored_fields_at_each_read),
    *GATE_MUTANTS,
    *JOURNAL_MUTANTS,
    *RETRY_MUTANTS,
)
